"""Nudges: something changed, look again. Ids only; what changed is asked for over HTTP.

`nudge` goes out when its transaction commits. One LISTEN connection per web process hands the
nudges to that process's sockets. A leaf.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

CHANNEL = "countersign"
logger = logging.getLogger(__name__)

Nudge = dict[str, Any]
REFRESH: Nudge = {"refresh": True}


PRESENCE = "presence"


def payload(review_id: int, graph: str, **more: str) -> str:
    return json.dumps({"review": review_id, "graph": graph[:200], **more})


def nudge(review_id: int, graph: str) -> None:
    """Tells every open page that a review changed, if and when this transaction commits."""
    _notify(payload(review_id, graph))


def nudge_presence(review_id: int, graph: str) -> None:
    """The same of who looks at it, which changes nothing of the review."""
    _notify(payload(review_id, graph, about=PRESENCE))


def _notify(said: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, said])


class Hub:
    """Fans Postgres notifications out to this process's sockets.

    Lives from its first socket to its last: a connection kept longer would block the removal of
    a test database, and one per socket would use the server up.
    """

    def __init__(self) -> None:
        self.sockets: set[Callable[[Nudge], None]] = set()
        self.task: asyncio.Task[None] | None = None

    def join(self, deliver: Callable[[Nudge], None], params: dict[str, Any]) -> None:
        """Calls `deliver` with every nudge from now on. `params` are psycopg's."""
        self.sockets.add(deliver)
        deliver(REFRESH)  # what changed between the page's making and now
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._listen(params))

    async def leave(self, deliver: Callable[[Nudge], None]) -> None:
        self.sockets.discard(deliver)
        if not self.sockets and self.task is not None:
            task, self.task = self.task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def _deliver(self, message: Nudge) -> None:
        for deliver in list(self.sockets):
            deliver(message)

    def _hand_on(self, payload: str) -> None:
        try:
            self._deliver(json.loads(payload))
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning("Not a nudge of ours, passed over: %s", payload[:80])

    async def _listen(self, params: dict[str, Any]) -> None:
        pause = 0.1
        while True:
            try:
                connected = await psycopg.AsyncConnection.connect(**params, autocommit=True)
                async with connected as conn:
                    await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    self._deliver(REFRESH)  # what was said while nobody listened
                    pause = 0.1
                    async for note in conn.notifies():
                        self._hand_on(note.payload)
            except (psycopg.Error, OSError) as error:
                logger.warning("Nudges are cut off, trying again: %s", str(error).strip()[:200])
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    for old in [known for known in _hubs if known.is_closed()]:
        del _hubs[old]
    return _hubs.setdefault(loop, Hub())
