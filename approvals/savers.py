"""LangGraph's Postgres savers, joined to our transactions.

`JoiningSaver` writes through Django's own connection, so that a checkpoint, its audit entry and
the decision's state commit together or not at all. `FencedSaver` is the worker's: each of its
reads and writes first proves that this run of the decision has not been taken over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncCursor, Cursor
from psycopg.pq import Format
from psycopg.rows import DictRow, dict_row
from psycopg_pool import PoolTimeout

from approvals import ids
from approvals.errors import AWAY
from graphs.registry import Compiled, Graph


def _followed(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """What is written next follows what was read: its ids sort after it."""
    if found is not None:
        ids.after(found.checkpoint["id"])
    return found


class JoiningSaver(PostgresSaver):
    """A saver inside whatever transaction its connection is in. One thread at a time.

    It brings a cursor of its own: Django's bind on the client, and the saver wants binary results.
    """

    @contextmanager
    def _cursor(self, *, pipeline: bool = False) -> Iterator[Cursor[DictRow]]:
        connection: Any = self.conn
        with self.lock, psycopg.Cursor(connection, row_factory=dict_row) as cursor:
            cursor.format = Format.BINARY
            yield cursor

    def get_tuple(self, *args: Any, **kwargs: Any) -> Any:
        return _followed(super().get_tuple(*args, **kwargs))

    # LangGraph's async calls, answered by the sync ones: they are milliseconds on a connection
    # that no other task may touch meanwhile.
    async def aget_tuple(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_tuple(*args, **kwargs)

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        return self.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.put_writes(*args, **kwargs)

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for found in self.list(*args, **kwargs):
            yield found

    async def aget_delta_channel_history(self, **kwargs: Any) -> Any:
        return self.get_delta_channel_history(**kwargs)


class LeaseLost(Exception):
    """Another worker has taken this run over; nothing more is written here."""


class ThreadTaken(Exception):
    """Another program wrote to the thread while this run was under way. The run was stopped there;
    what its nodes had done by then is done."""


@dataclass(frozen=True)
class Fence:
    """What must still be true for a run to read or write: its epoch, and where it began."""

    decision_id: str
    epoch: int
    thread_id: str
    head: str


class FencedSaver(AsyncPostgresSaver):
    """A saver whose reads and writes hold only while the decision is still at the fence's epoch,
    and nobody else has written a newer checkpoint to the thread.

    A worker that was stopped, declared dead and woken up again still believes in its run. The
    check and the write are one transaction, and the row lock makes a taker wait for a write that
    is under way: after the epoch has been counted up, nothing of the older run gets in. The same
    for its reads: where the taker has brought the thread to its next pause, a worker that began
    only then would run through it.

    Programs that know nothing of us take no lock of ours: one that writes in the very moment of
    our own write is not seen here, but as a fork by the capture.
    """

    def __init__(self, pool: Any, fence: Fence) -> None:
        super().__init__(pool)
        self.fence = fence
        self.own = {fence.head}
        # What cut it off, to be told from what nodes raise: LangGraph takes what a subgraph's saver
        # raises for an error of the node around it.
        self.lost: list[BaseException] = []

    async def aget_tuple(self, config: Any) -> Any:
        found = await super().aget_tuple(config)
        newest = self._is_root(config) and not config["configurable"].get("checkpoint_id")
        # The look of the fence and this one are two: another program may write between them.
        if found and newest and found.checkpoint["id"] not in self.own:
            raise ThreadTaken(found.checkpoint["id"])
        return _followed(found)

    async def aput(self, config: Any, checkpoint: Any, *args: Any) -> Any:
        if self._is_root(config):
            self.own.add(checkpoint["id"])
        return await super().aput(config, checkpoint, *args)

    def _is_root(self, config: Any) -> bool:
        """Of the thread itself: a node may run graphs inside this one, and other threads."""
        place = config["configurable"]
        return place["thread_id"] == self.fence.thread_id and not place.get("checkpoint_ns")

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        try:
            async with super()._cursor() as cursor, cursor.connection.transaction():
                await self._hold(cursor)
                yield cursor
        except (*AWAY, PoolTimeout) as error:
            self.lost.append(error)
            raise

    async def _hold(self, cursor: AsyncCursor[DictRow]) -> None:
        await cursor.execute(_FENCE, vars(self.fence))
        held = await cursor.fetchone()
        if held is None:
            raise LeaseLost(f"decision {self.fence.decision_id} was taken over")
        if held["head"] not in self.own:
            raise ThreadTaken(held["head"] or "")


_FENCE = """
  SELECT (
    SELECT checkpoint_id FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
    ORDER BY checkpoint_id DESC LIMIT 1
  ) AS head
  FROM approvals_decision WHERE id = %(decision_id)s AND epoch = %(epoch)s AND state = 'applied'
  FOR SHARE
"""


def with_saver(graph: Graph, saver: BaseCheckpointSaver[Any]) -> Compiled:
    """The graph on this saver, with the types that its checkpoints may hold.

    `copy()` alone loses the allow-list that `compile()` made of the declared state types.
    """
    if graph.allowed_types:
        saver = saver.with_allowlist(graph.allowed_types)
    return graph.compiled.copy({"checkpointer": saver})


def joined(graph: Graph) -> Compiled:
    """The graph on Django's connection of this thread."""
    return with_saver(graph, JoiningSaver(raw_connection()))


def raw_connection() -> Any:
    connection.ensure_connection()
    return connection.connection


def run_here(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs one coroutine to its end on this thread, which must have no loop running."""
    return asyncio.run(call())
