"""A log that stays readable while the database is away."""

import logging

from approvals.errors import AWAY, first_line


class NotReadyIsAnAnswer(logging.Filter):
    """A probe of /ready that is answered 503 is no error of the server's."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(getattr(record, "request", None), "path", "") != "/ready"


class DatabaseInOneLine(logging.Filter):
    """An unreachable database is one line in the log, not a traceback per request."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, AWAY):
            record.msg, record.args = f"{record.getMessage()}: {first_line(error)}", ()
            record.exc_info = None
        return True
