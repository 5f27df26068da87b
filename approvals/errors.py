"""What can go wrong with a reviewer's request. The docstring is the message, unless one is given.

A leaf: the pages turn these into answers, the actions raise them. The message is English, as it
is recorded; shown, it is in the reader's language.
"""

import re

import psycopg
from django.db import InterfaceError, OperationalError
from procrastinate.exceptions import ConnectorException

from approvals.sentences import told

# Postgres gone, a deadlock, a timeout: whatever was under way can be tried again as it is.
# LangGraph's savers raise psycopg's own errors, the ORM Django's, Procrastinate its own.
AWAY = (
    *(OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError),
    *(psycopg.errors.IdleInTransactionSessionTimeout, ConnectorException),
)


# SQLSTATEs of a Postgres that is not there, or not yet: connections lost or refused, restarts, no
# place left, our own idle_in_transaction_session_timeout.
_GONE = re.compile("08|57P|53300|25P03")


def is_locked(error: BaseException) -> bool:
    """Of an error in AWAY: whether a statement gave up waiting for what another one holds."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


def is_gone(error: BaseException) -> bool:
    """Of an error in AWAY: whether Postgres was not there, or else refused a statement of ours."""
    states = [getattr(one, "sqlstate", None) for one in (error, error.__cause__)]
    return all(_GONE.match(state) for state in states if state)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class ApprovalError(Exception):
    """Something went wrong."""

    def __init__(self, message: str = "") -> None:
        self.recorded = message or (type(self).__doc__ or "").strip()
        super().__init__(self.recorded)

    def __str__(self) -> str:
        return told(self.recorded)


class Invalid(ApprovalError):
    """What was sent cannot be used. Nothing was recorded."""


class Conflict(ApprovalError):
    """Somebody or something was first. Nothing was recorded."""


class AlreadyDecided(Conflict):
    """Somebody else decided this review first."""


class Moved(Conflict):
    """The thread moved on since this page was made."""


class Stale(Conflict):
    """This page shows an older state of the review."""


class Held(Conflict):
    """Somebody else has this case."""


class TooLate(Conflict):
    """Too late to undo: the decision is being applied."""


class NotAllowed(ApprovalError):
    """You may look at this review, but not decide it."""
