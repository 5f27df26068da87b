"""Savers, types and crashes."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from tests.conftest import eventually, test_url
from tests.contract.recipes import write_answer
from tests.contract.test_written_answers import paused
from tests.contract.threads import Thread
from tests.postgres import ROOT

# Values


@pytest.mark.parametrize(
    "value", ["a\x00b", "\ud800", float("nan"), float("inf"), 2**70], ids=ascii
)
def test_what_json_and_msgpack_cannot_hold_fails_as_a_value_of_the_state(value: Any) -> None:
    thread = paused("before")
    with pytest.raises((psycopg.DataError, TypeError)):
        thread.update({"draft": value})
    assert "draft" in thread.state().values


@pytest.mark.parametrize("value", ["a\x00b", float("inf")], ids=ascii)
def test_deeper_in_a_value_it_passes(value: Any) -> None:
    """Only plain values of the state stand in the checkpoint's JSON; the rest is msgpack."""
    thread = paused("before")
    thread.update({"draft": {"text": value}})
    assert thread.state().values["draft"] == {"text": value}


def test_a_lone_surrogate_deeper_in_a_value_becomes_a_question_mark() -> None:
    thread = paused("before")
    thread.update({"draft": ["\ud800"]})
    assert thread.state().values["draft"] == ["?"]


def test_an_answers_row_takes_nul_mangles_a_surrogate_and_refuses_long_numbers() -> None:
    for value, kept in (("a\x00b", "a\x00b"), ("\ud800", "?")):
        thread = paused("asks")
        write_answer(thread, thread.open()[0], value)
        thread.run(None)
        assert thread.answers() == [kept]
    thread = paused("asks")
    with pytest.raises(TypeError, match="64-bit"):
        write_answer(thread, thread.open()[0], 2**70)


# Types


@dataclass
class Plan:
    amount: int


class Offer(BaseModel):
    amount: int


class Typed(BaseModel):
    plan: Plan | None = None
    offer: Offer | None = None


def typed() -> CompiledStateGraph:
    graph = StateGraph(Typed)
    graph.add_node("make", lambda state: {"plan": Plan(1), "offer": Offer(amount=1)})
    graph.add_node("gate", lambda state: {})
    graph.add_edge(START, "make")
    graph.add_edge("make", "gate")
    graph.add_edge("gate", END)
    return graph.compile(interrupt_before=["gate"])


def test_copy_loses_the_types_that_compile_allowed() -> None:
    config: Any = {"configurable": {"thread_id": uuid.uuid4().hex}}
    graph = typed()
    with PostgresSaver.from_conn_string(test_url()) as saver:
        graph.copy({"checkpointer": saver}).invoke({}, config)
        bare = graph.copy({"checkpointer": saver}).get_state(config).values
        allowed = saver.with_allowlist(graph._serde_allowlist)  # type: ignore[arg-type]
        whole = graph.copy({"checkpointer": allowed}).get_state(config).values
    assert not isinstance(bare["plan"], Plan)
    assert not isinstance(bare["offer"], Offer)
    assert (whole["plan"], whole["offer"]) == (Plan(1), Offer(amount=1))


def test_a_type_is_stored_under_the_name_of_its_module() -> None:
    config: Any = {"configurable": {"thread_id": uuid.uuid4().hex}}
    with PostgresSaver.from_conn_string(test_url()) as saver:
        typed().copy({"checkpointer": saver}).invoke({}, config)
    with psycopg.connect(test_url()) as conn:
        (blob,) = conn.execute(
            "SELECT blob FROM checkpoint_blobs WHERE thread_id = %s AND channel = 'plan'",
            [config["configurable"]["thread_id"]],
        ).fetchone() or (b"",)
    assert __name__.encode() in blob


@pytest.mark.parametrize(("setting", "strict"), [(None, False), ("true", True)])
def test_strict_msgpack_is_off_by_default_and_read_at_import(
    setting: str | None, strict: bool
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "LANGGRAPH_STRICT_MSGPACK"}
    if setting:
        environment["LANGGRAPH_STRICT_MSGPACK"] = setting
    said = run_python(
        """
        import os
        from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
        os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
        from tests.contract.graphs import Refund
        serde = JsonPlusSerializer()
        print(type(serde.loads_typed(serde.dumps_typed(Refund(approved=True, amount=1)))).__name__)
        """,
        environment,
    )
    assert said == ("dict" if strict else "Refund")


def run_python(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr


# Connections


def test_a_saver_is_one_call_at_a_time_even_on_a_pool() -> None:
    async def run() -> tuple[float, float]:
        async with AsyncConnectionPool(test_url(), min_size=4, kwargs={"autocommit": True}) as pool:
            await pool.wait()
            one = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
            shared = await clocked([one] * 4)
            own = await clocked([AsyncPostgresSaver(pool) for _ in range(4)])  # type: ignore[arg-type]
            return shared, own

    shared, own = asyncio.run(run())
    assert shared > 4 * 0.2
    assert own < 0.75 * shared


async def clocked(savers: list[AsyncPostgresSaver]) -> float:
    async def sleep(saver: AsyncPostgresSaver) -> None:
        async with saver._cursor() as cursor:
            await cursor.execute("SELECT pg_sleep(0.2)")

    begun = time.monotonic()
    await asyncio.gather(*map(sleep, savers))
    return time.monotonic() - begun


def test_an_async_saver_cannot_be_made_without_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncPostgresSaver(None)  # type: ignore[arg-type]


def test_pooled_connections_fail_after_postgres_dropped_them_until_checked() -> None:
    async def run() -> str:
        kwargs = {"autocommit": True, "application_name": "contract pool"}
        async with AsyncConnectionPool(test_url(), min_size=2, kwargs=kwargs) as pool:
            await pool.wait()
            drop_connections("contract pool")
            with pytest.raises(psycopg.OperationalError):
                async with pool.connection() as conn:
                    await conn.execute("SELECT 1")
            await pool.check()
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")
            return "works"

    assert asyncio.run(run()) == "works"


def drop_connections(name: str) -> None:
    with psycopg.connect(test_url(), autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = %s AND datname = current_database()",
            [name],
        )
    time.sleep(0.2)


def test_a_thread_of_the_sync_saver_goes_on_with_the_async_one() -> None:
    for name in ("before", "asks", "sent", "deep_before"):
        thread = Thread(name)
        thread.read.invoke(thread.shape.given, thread.config, durability="sync")
        assert thread.next() == thread.shape.waits
        thread.to_the_end()
        assert thread.log() == thread.shape.does


def test_history_takes_a_limit() -> None:
    thread = paused("loop")
    thread.run(None)
    with PostgresSaver.from_conn_string(test_url()) as saver:
        graph = thread.compiled.copy({"checkpointer": saver})
        page = list(graph.get_state_history(thread.config, limit=2))
        rest = list(graph.get_state_history(thread.config, before=page[-1].config))
    assert [it.config for it in [*page, *rest]] == [it.config for it in thread.history()]
    assert len(page) == 2


# setup()


@pytest.fixture
def empty_database() -> Any:
    name = f"contract_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(test_url(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_conninfo(test_url(), dbname=name)
    with psycopg.connect(test_url(), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_setup_at_once_on_an_empty_database_fails_for_some(empty_database: str) -> None:
    errors: list[Exception] = []

    def setup() -> None:
        try:
            with PostgresSaver.from_conn_string(empty_database) as saver:
                saver.setup()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=setup) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors
    assert all(isinstance(error, psycopg.Error) for error in errors)


def test_setup_is_refused_inside_a_transaction(empty_database: str) -> None:
    with (
        psycopg.connect(empty_database, row_factory=psycopg.rows.dict_row) as conn,
        pytest.raises(psycopg.errors.ActiveSqlTransaction),
    ):
        PostgresSaver(conn).setup()


# Crashes


CRASH = """
import asyncio, os
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command
from tests.contract.graphs import chain, step, asking

def die(state):
    os._exit(9)

async def main():
    async with AsyncPostgresSaver.from_conn_string({url!r}) as saver:
        graph = chain(("ask", asking("ask", "send it?")), ("send", step("send")), ("die", die))
        graph = graph.compile(checkpointer=saver)
        await graph.ainvoke({given}, {config!r}, durability={durability!r})

asyncio.run(main())
"""


@pytest.mark.parametrize(("durability", "kept"), [("sync", True), ("exit", False)])
def test_a_crash_after_an_answer(durability: str, kept: bool) -> None:
    """`sync` has the answer and the step that was done with it; `exit` asks the person again."""
    thread = Thread("asks")
    options: dict[str, Any] = {
        "url": test_url(),
        "config": thread.config,
        "durability": durability,
    }
    run_python(CRASH.format(given={"log": []}, **options), dict(os.environ))
    (question,) = questions_in_tables(thread)
    answer = f"Command(resume={{{question!r}: 'yes'}})"
    run_python(CRASH.format(given=answer, **options), dict(os.environ))
    values = thread.checkpoint().checkpoint["channel_values"]
    assert values.get("answers", []) == (["yes"] if kept else [])
    assert questions_in_tables(thread) == ([] if kept else [question])


def questions_in_tables(thread: Thread) -> list[str]:
    writes = thread.checkpoint().pending_writes or []
    return [one.id for _, channel, value in writes if channel == "__interrupt__" for one in value]


@pytest.mark.parametrize(("durability", "waits"), [("sync", True), ("async", False)])
def test_whether_the_next_node_waits_for_the_checkpoint(durability: str, waits: bool) -> None:
    """With `async` a node may run before it is written that the one before it is done, so a crash
    there runs that one again."""
    thread = paused("before")
    with psycopg.connect(test_url()) as conn:
        conn.execute("LOCK TABLE checkpoints IN EXCLUSIVE MODE")
        run = threading.Thread(target=lambda: thread.run(None, durability=durability))
        run.start()
        eventually(lambda: thread.ran("gate"))
        if waits:
            time.sleep(0.5)
            assert thread.ran("send") == 0
        else:
            eventually(lambda: thread.ran("send"))
        conn.rollback()
    run.join(30)
    assert thread.log() == ["draft", "gate", "send"]


def test_checkpoints_of_a_thread_are_in_order_of_their_ids() -> None:
    thread = paused("loop")
    thread.to_the_end()
    ids = [it.config["configurable"]["checkpoint_id"] for it in thread.tuples()]
    assert ids == sorted(ids, reverse=True)
    steps = [it.metadata["step"] for it in reversed(thread.tuples())]
    assert steps == list(range(-1, len(steps) - 1))
