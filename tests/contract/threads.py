"""One thread of one graph, as an agent's own program and as we come to it. Real Postgres.

Every run opens a saver of its own, as another process would: what one run knows of another is
what is in the tables.
"""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt, StateSnapshot
from psycopg.rows import dict_row

from tests.conftest import test_url
from tests.contract.graphs import BROKEN, RAN, SHAPES, Shape

ANSWER = {"approved": True, "amount": 1}
"""An answer that every shape's response_schema takes."""

# All of them in `make repeats`; ours is the first.
DURABILITIES = ["sync", "async", "exit"] if "COUNTERSIGN_REPEATS" in os.environ else ["sync"]
NULL_TASK = "00000000-0000-0000-0000-000000000000"


@cache
def connected(url: str) -> psycopg.Connection[dict[str, Any]]:
    """One connection of ours, that commits by itself; `hang_up` ends it."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)


def saver() -> PostgresSaver:
    return PostgresSaver(connected(test_url()))


def hang_up() -> None:
    connected(test_url()).close()
    connected.cache_clear()


class Thread:
    def __init__(self, shape: Shape | str) -> None:
        self.shape = SHAPES[shape] if isinstance(shape, str) else shape
        self.compiled = self.shape.compile()
        self.id = uuid.uuid4().hex

    @property
    def config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self.id}}

    # What an agent's program does

    def start(self, **options: Any) -> Any:
        return self.run(self.shape.given, **options)

    def run(self, given: Any, config: Any = None, **options: Any) -> Any:
        options = {"durability": "sync", **options}
        return self.with_graph(lambda graph: graph.ainvoke(given, config or self.config, **options))

    def answer(self, value: Any, **options: Any) -> Any:
        """Answers the one open question by its id."""
        (question,) = self.open()
        return self.run(Command(resume={question.id: value}), **options)

    def to_the_end(self) -> None:
        """Answers every question and goes on past every static pause."""
        for _ in range(12):
            state = self.state()
            if not state.next:
                return
            asked = {question.id: ANSWER for question in state.interrupts}
            self.run(Command(resume=asked) if asked else None)
        raise AssertionError(f"still waits before {self.next()}")

    def update(self, values: Any, as_node: str | None = None, config: Any = None) -> Any:
        return self.with_graph(
            lambda graph: graph.aupdate_state(config or self.config, values, as_node=as_node)
        )

    def with_graph(self, call: Callable[[CompiledStateGraph], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with AsyncPostgresSaver.from_conn_string(test_url()) as saver:
                return await call(self.compiled.copy({"checkpointer": saver}))

        return asyncio.run(run())

    # What LangGraph says

    @property
    def read(self) -> CompiledStateGraph:
        return self.compiled.copy({"checkpointer": saver()})

    def state(self, config: Any = None, subgraphs: bool = True) -> StateSnapshot:
        return self.read.get_state(config or self.config, subgraphs=subgraphs)

    def history(self) -> list[StateSnapshot]:
        return list(self.read.get_state_history(self.config))

    def next(self) -> list[str]:
        return sorted(self.state().next)

    def open(self) -> list[Interrupt]:
        return sorted(self.state().interrupts, key=lambda question: str(question.value))

    def log(self) -> list[str]:
        return sorted(self.state().values["log"])

    def answers(self) -> list[Any]:
        return list(self.state().values.get("answers", []))

    # What ran

    def ran(self, name: str) -> int:
        return RAN[self.id].count(name)

    def break_(self, name: str) -> None:
        BROKEN.add((self.id, name))

    def mend(self, name: str) -> None:
        BROKEN.remove((self.id, name))

    # What is in the tables

    def checkpoint(self, ns: str = "", checkpoint_id: str | None = None) -> CheckpointTuple:
        found = self.tuples(ns)
        (one,) = [
            it
            for it in found
            if (checkpoint_id or found[0].config["configurable"]["checkpoint_id"])
            == it.config["configurable"]["checkpoint_id"]
        ]
        return one

    def tuples(self, ns: str = "") -> list[CheckpointTuple]:
        """All checkpoints of a namespace, newest first."""
        configurable = {"thread_id": self.id, "checkpoint_ns": ns}
        return list(saver().list({"configurable": configurable}))

    def namespaces(self) -> list[str]:
        rows = self.sql(
            "SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = %s ORDER BY 1",
            self.id,
        )
        return [row["checkpoint_ns"] for row in rows]

    def put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        saver().put_writes(config, writes, task_id)

    def sql(self, statement: str, *params: Any) -> list[dict[str, Any]]:
        cursor = connected(test_url()).execute(statement, params)
        return cursor.fetchall() if cursor.description else []
