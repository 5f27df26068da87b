"""The ids of the checkpoints made here: after those they follow, and by the database's clock.

To LangGraph the newest checkpoint of a thread is the one whose id sorts last, and an id begins with
the time of the machine that made it. From a clock that is behind, an update sorts before what it
follows: it never counts, and the run goes on without the edit. From one that is ahead, it hides
the agent's own next turns until their clock has caught up. A leaf.
"""

import logging
import threading
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass

from django.db import connection
from langgraph.checkpoint import base
from langgraph.checkpoint.base import id as langgraphs
from langgraph.pregel import _checkpoint

logger = logging.getLogger(__name__)
OFF = 500_000_000  # nanoseconds that a clock may be off before its ids follow the database's
AGAIN_AFTER = 60.0  # seconds until the clock is looked at again
GREGORIAN = 0x01B21DD213814000  # from 1582 to 1970, in the steps of 100 ns that such ids count
LAST = (1 << 60) - 1  # in which there is room for this many

_langgraphs_uuid6 = langgraphs.uuid6


@dataclass
class _Line:
    """The time in the last id of one line of work, in steps of 100 ns."""

    last: int = 0


# One machine that is a year ahead must cost its own threads alone: each line of work, which is one
# request or one job, counts on from the checkpoints that it has read itself.
_process = _Line()
_line: ContextVar[_Line] = ContextVar("line", default=_process)
_counting = threading.Lock()


def uuid6(node: int | None = None, clock_seq: int | None = None) -> langgraphs.UUID:
    """LangGraph's id, with the time that is meant here."""
    rest = _langgraphs_uuid6(node, clock_seq).int & ((1 << 64) - 1)
    steps = _next()
    return langgraphs.UUID(int=(steps >> 12) << 80 | (steps & 0xFFF) << 64 | rest, version=6)


base.uuid6 = langgraphs.uuid6 = _checkpoint.uuid6 = uuid6  # type: ignore[attr-defined]


def after(checkpoint_id: str) -> None:
    """The next ids sort after this one: in this request or job, and in what it starts from here.

    An id that is not LangGraph's own kind says no time, and is passed over.
    """
    line = _line.get()
    if line is _process:
        line = _Line()
        _line.set(line)
    with _counting:
        line.last = max(line.last, _steps(checkpoint_id))


def _steps(checkpoint_id: str) -> int:
    try:
        known = uuid.UUID(checkpoint_id)
    except ValueError:
        return 0
    steps = known.int >> 80 << 12 | known.int >> 64 & 0xFFF
    return steps if known.version == 6 and steps < LAST else 0


def _next() -> int:
    line = _line.get()
    with _counting:
        line.last = max(_now() // 100 + GREGORIAN, line.last + 1)
        return line.last


# The clock


@dataclass(frozen=True)
class _Clock:
    """What time it was when this process last asked. From there on it counts by itself: a clock
    that is set meanwhile is of no account."""

    then: int  # nanoseconds since 1970
    at: int  # the same moment by time.monotonic_ns()


_clock: _Clock | None = None
_told = 0  # how far off the log last said that this clock is


def _now() -> int:
    known = _clock
    return time.time_ns() if known is None else known.then + time.monotonic_ns() - known.at


def keep_time() -> None:
    """Has the ids of this process follow the database's clock, if its own is off.

    For the start of a process, and before it writes: asks the database once a minute at most, on
    this thread's connection, and raises what that raises.
    """
    global _clock
    if _clock is not None and time.monotonic_ns() - _clock.at < AGAIN_AFTER * 1e9:
        return
    behind, doubt = min((_ask() for _ in range(3)), key=lambda answer: answer[1])
    off = behind if abs(behind) > OFF + doubt else 0
    _tell(off)
    _clock = _Clock(time.time_ns() + off, time.monotonic_ns())


def _ask() -> tuple[int, int]:
    """How far this clock is behind the database's, and half the way there and back; nanoseconds."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        here, began = time.time_ns(), time.monotonic_ns()
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        there = cursor.fetchone()[0] * 1000
    half = (time.monotonic_ns() - began) // 2
    return there - here - half, half


def _tell(off: int) -> None:
    global _told
    if abs(off - _told) <= OFF:
        return
    _told = off
    if not off:
        logger.warning("This machine's clock agrees with the database's again.")
        return
    logger.warning(
        "This machine's clock is %.1f s %s the database's; checkpoints are numbered by the "
        "database's. Set this clock.",
        abs(off) / 1e9,
        "behind" if off > 0 else "ahead of",
    )
