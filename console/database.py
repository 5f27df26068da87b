"""DATABASE_URL in, Django's settings out. libpq does the parsing, so what psql takes works here.

Every function takes the name of the variable too, for what it complains of.
"""

import re
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

_SCHEME = re.compile(r"^(?:postgres|postgresql)(?:\+(?:asyncpg|psycopg2|psycopg))?://", re.I)
# libpq's names on the left; SQLAlchemy's asyncpg URLs say `ssl`.
_DJANGO = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


# A server that vanished without a word (a failover, a cut cable) is noticed within 20 to 25 s; the
# system's own limits are quarters of an hour. Sockets of the same machine take no notice.
_DEFAULTS = {
    "connect_timeout": 5,
    "application_name": "countersign",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# A process that is frozen inside a transaction gives its locks back after a while.
_ALWAYS = "-c idle_in_transaction_session_timeout=15s"


def libpq_url(url: str, name: str = "DATABASE_URL") -> str:
    """The URL as libpq and psycopg read it: without SQLAlchemy's driver, `ssl` as `sslmode`.

    Raises ImproperlyConfigured, never quoting the URL, because it holds a password.
    """
    scheme = _SCHEME.match(url.strip())
    if not scheme:
        raise ImproperlyConfigured(
            f"{name} must start with postgres://, postgresql:// or "
            "postgresql+asyncpg|psycopg2|psycopg://, for example "
            "postgresql://user:password@host:5432/name"
        )
    url = "postgresql://" + url.strip()[scheme.end() :]
    return re.sub(r"([?&])ssl=", r"\1sslmode=", url)


def parameters(url: str, name: str = "DATABASE_URL") -> dict[str, Any]:
    """libpq's connection parameters of a DATABASE_URL, and ours for what it leaves out."""
    try:
        found = conninfo_to_dict(libpq_url(url, name))
    except ProgrammingError as error:
        # libpq quotes what it could not read, which may be the password.
        reason = re.sub(r'"[^"]*"', "…", str(error).strip().splitlines()[0])
        raise ImproperlyConfigured(f"{name} cannot be read: {reason}") from None
    if not re.fullmatch(r"[\d,]*", str(found.get("port") or "")):
        raise ImproperlyConfigured(
            f"{name} has a port that is no number. A / or @ in the password must be written "
            "%2F or %40."
        )
    if not found.get("dbname"):
        raise ImproperlyConfigured(f"{name} names no database: end it with /name")
    return {**_DEFAULTS, **found}


def django_database(url: str, *, pooled: bool = False) -> dict[str, Any]:
    """One entry of Django's DATABASES for a DATABASE_URL.

    `pooled`: behind it is a pooler that gives a connection for one transaction. It refuses
    startup options, and a cursor or a prepared statement may be another connection's by the next
    statement.
    """
    found = parameters(url)
    named = {theirs: str(found.pop(ours)) for ours, theirs in _DJANGO.items() if ours in found}
    if not pooled:
        found["options"] = f"{_ALWAYS} {found.get('options', '')}".strip()
    return {
        "ENGINE": "django.db.backends.postgresql",
        **named,
        "DISABLE_SERVER_SIDE_CURSORS": pooled,
        "OPTIONS": found,
    }
