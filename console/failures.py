"""What an operator sees when a command cannot go on: one line that says what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def sentence(error: BaseException) -> str:
    """The first line of an error, without the driver's prefixes."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0]
    for prefix in ("connection failed: ", "connection is bad: "):
        first = first.removeprefix(prefix)
    return first


def explain(error: BaseException) -> str | None:
    """One line for an error an operator can cause; None when it is a defect of ours.

    `DATABASE_URL` never shows up here in full, because it holds a password.
    """
    import psycopg
    from django.core.exceptions import ImproperlyConfigured
    from django.db import InterfaceError, OperationalError, ProgrammingError

    from graphs.registry import RegistryError

    if isinstance(error, RegistryError):
        return "\n".join(str(fault) for fault in error.faults)
    if isinstance(error, ImproperlyConfigured):
        return sentence(error)
    if "unsupported startup parameter" in str(error):
        return (
            "DATABASE_URL leads to a pooler, which refuses the startup options. Name the server "
            "itself with DIRECT_DATABASE_URL as well."
        )
    if isinstance(error, OperationalError | InterfaceError | psycopg.OperationalError):
        return (
            f"Postgres did not answer: {sentence(error)}. "
            "Check that it runs and that DATABASE_URL names it."
        )
    if isinstance(error, ProgrammingError | psycopg.ProgrammingError) and "does not exist" in str(
        error
    ):
        return f"The database is not ready: {sentence(error)}. Run: python manage.py migrate"
    return None


@contextmanager
def one_line() -> Iterator[None]:
    """Turns an operator's mistake into one line on stderr and exit code 1."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        sys.stderr.write(f"countersign: {line}\n")
        sys.exit(1)
