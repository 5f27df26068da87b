"""Countersign's settings: one file; what differs between machines comes from the environment."""

import os
import warnings
from pathlib import Path

from csp.constants import NONCE
from django.core.exceptions import ImproperlyConfigured

from console import embedded
from console.database import django_database, parameters

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("COUNTERSIGN_DATA", BASE_DIR / ".data"))


def env_bool(name: str, default: bool = False) -> bool:
    return os.environ.get(name, str(default)).strip().lower() in {"1", "true", "yes", "on"}


def env_int(name: str, default: int, *, at_least: int = 1, at_most: int = 1000) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or not at_least <= int(text) <= at_most:
        raise ImproperlyConfigured(
            f"{name} must be a whole number from {at_least} to {at_most}, not {text[:40]!r}."
        )
    return int(text)


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


DEBUG = env_bool("DEBUG")
SECRET_KEY = os.environ.get("SECRET_KEY", "")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")

# Without DATABASE_URL: the embedded Postgres, if `make demo` has it running. An empty HOST would
# mean this machine's default socket, which is some other server; a folder with none says so.
DATABASE_URL = os.environ.get("DATABASE_URL") or (
    embedded.address(DATA_DIR / "postgres")
    or f"postgresql://postgres@/{embedded.DATABASE}?host={DATA_DIR / 'postgres'}"
)
# With DIRECT_DATABASE_URL, a pooler in transaction mode (PgBouncer) may stand behind DATABASE_URL:
# web's requests go through it. What needs a session of its own takes the direct address: web's
# LISTEN connection, and every other command (manage.py).
DIRECT_DATABASE_URL = os.environ.get("DIRECT_DATABASE_URL", "")
DIRECT_DATABASE = (
    parameters(DIRECT_DATABASE_URL, "DIRECT_DATABASE_URL") if DIRECT_DATABASE_URL else {}
)
POOLED = DIRECT_DATABASE_URL not in {"", DATABASE_URL}
DATABASES = {"default": django_database(DATABASE_URL, pooled=POOLED)}
# Requests that one web process serves at a time, each on a database connection of its own.
WEB_CONNECTIONS = env_int("WEB_CONNECTIONS", 16)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Which graphs there are, and what their reviews look like
LANGGRAPH_JSON = Path(os.environ.get("LANGGRAPH_JSON", BASE_DIR / "langgraph.json"))
REVIEWS_TOML = Path(os.environ.get("REVIEWS_TOML", BASE_DIR / "reviews.toml"))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_htmx",
    "template_partials",
    "procrastinate.contrib.django",
    "approvals",
    "console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "console.languages.Languages",
    "console.gate.turn_away",
    "console.middleware.admin_scripts",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.middleware.SignInRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.csp_nonce",
                "console.context.profile",
            ],
            "builtins": ["template_partials.templatetags.partials"],
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "inbox"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "approvals.pages.out_of_date"

LANGUAGE_CODE = "en-gb"
LANGUAGES = [("en-gb", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["console.formats"]
# Times of day are the server's, for everybody: people who speak of 10:42 mean the same moment.
TIME_ZONE = os.environ.get("TIME_ZONE", "UTC")
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# The image collects and compresses once; a checkout serves from the packages, with no such step.
COLLECTED = (STATIC_ROOT / "staticfiles.json").exists()
WHITENOISE_USE_FINDERS = not COLLECTED
warnings.filterwarnings("ignore", message="No directory at", module="django.core.handlers.base")
# WhiteNoise streams files with sync iterators, which Django reads in full under ASGI: small files.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if COLLECTED
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# What agents write is hostile: no inline script or style runs without this response's nonce.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": [NONCE],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
# Behind TLS: HTTPS=true, and let uvicorn trust the proxy with FORWARDED_ALLOW_IPS.
HTTPS = env_bool("HTTPS")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SAMESITE = "Lax"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "database": {"()": "console.logs.DatabaseInOneLine"},
        "probes": {"()": "console.logs.NotReadyIsAnAnswer"},
    },
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["database", "probes"],
        }
    },
    "root": {"handlers": ["stderr"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        "procrastinate": {"level": os.environ.get("QUEUE_LOG_LEVEL", "WARNING")},
        "httpx": {"level": "WARNING"},
        "uvicorn": {"level": "WARNING"},
        "psycopg.pool": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
        "django": {"handlers": [], "level": "INFO", "propagate": True},
    },
}
