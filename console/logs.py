"""A log that stays readable while the database is away."""

import logging

from django.db import InterfaceError, OperationalError


class DatabaseInOneLine(logging.Filter):
    """An unreachable database is one line in the log, not a traceback per request."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OperationalError | InterfaceError):
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            record.msg, record.args = f"{record.getMessage()}: {first}", ()
            record.exc_info = None
        return True
