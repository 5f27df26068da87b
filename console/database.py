"""DATABASE_URL in, Django's settings out. libpq does the parsing, so what psql takes works here."""

import re
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

_SCHEME = re.compile(r"^(?:postgres|postgresql)(?:\+(?:asyncpg|psycopg2|psycopg))?://", re.I)
# libpq's names on the left; SQLAlchemy's asyncpg URLs say `ssl`.
_DJANGO = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def libpq_url(url: str) -> str:
    """The URL as libpq and psycopg read it: without SQLAlchemy's driver, `ssl` as `sslmode`.

    Raises ImproperlyConfigured, never quoting the URL, because it holds a password.
    """
    scheme = _SCHEME.match(url.strip())
    if not scheme:
        raise ImproperlyConfigured(
            "DATABASE_URL must start with postgres://, postgresql:// or "
            "postgresql+asyncpg|psycopg2|psycopg://, for example "
            "postgresql://user:password@host:5432/name"
        )
    url = "postgresql://" + url.strip()[scheme.end() :]
    return re.sub(r"([?&])ssl=", r"\1sslmode=", url)


def parameters(url: str) -> dict[str, Any]:
    """libpq's connection parameters of a DATABASE_URL."""
    try:
        found = conninfo_to_dict(libpq_url(url))
    except ProgrammingError as error:
        # libpq quotes what it could not read, which may be the password.
        reason = re.sub(r'"[^"]*"', "…", str(error).strip().splitlines()[0])
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {reason}") from None
    if not re.fullmatch(r"[\d,]*", str(found.get("port") or "")):
        raise ImproperlyConfigured(
            "DATABASE_URL has a port that is no number. A / or @ in the password must be written "
            "%2F or %40."
        )
    if not found.get("dbname"):
        raise ImproperlyConfigured("DATABASE_URL names no database: end it with /name")
    return dict(found)


def django_database(url: str) -> dict[str, Any]:
    """One entry of Django's DATABASES for a DATABASE_URL."""
    found = parameters(url)
    named = {theirs: str(found.pop(ours)) for ours, theirs in _DJANGO.items() if ours in found}
    found.setdefault("connect_timeout", 5)
    found.setdefault("application_name", "countersign")
    # A process that is frozen inside a transaction gives its locks back after a while.
    found["options"] = (
        f"-c idle_in_transaction_session_timeout=15s {found.get('options', '')}".strip()
    )
    return {"ENGINE": "django.db.backends.postgresql", **named, "OPTIONS": found}
