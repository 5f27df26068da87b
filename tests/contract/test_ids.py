"""What LangGraph makes of a checkpoint's id, and where it makes them."""

import ast
import asyncio
import contextvars
import time
import uuid
from pathlib import Path
from typing import Any

import langgraph.checkpoint.base
import pytest
from langgraph.checkpoint.base import id as langgraphs

from approvals import ids
from approvals.savers import JoiningSaver, raw_connection
from tests.contract.graphs import SHAPES
from tests.contract.test_written_answers import paused

MAKERS = {"langgraph.checkpoint.base", "langgraph.pregel._checkpoint"}
HOUR = 3600


def time_of(checkpoint_id: str) -> int:
    """Nanoseconds since 1970."""
    return (ids._steps(checkpoint_id) - ids.GREGORIAN) * 100


def modules() -> dict[str, ast.Module]:
    """Every module of LangGraph, of all its distributions."""
    root = Path(langgraph.checkpoint.base.__file__).parents[2]
    found = {}
    for file in root.rglob("*.py"):
        name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def test_every_module_that_makes_ids_takes_them_by_the_one_name() -> None:
    found = modules()
    assert len(found) > 100
    calls = {
        name
        for name, tree in found.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "uuid6"
    }
    assert calls == MAKERS
    asked_otherwise = {
        name
        for name, tree in found.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("uuid6", "uuid1", "uuid7")
    }
    assert asked_otherwise == set()
    assert {ids.base.__name__, ids._checkpoint.__name__} == MAKERS
    assert ids.base.uuid6 is ids._checkpoint.uuid6 is langgraphs.uuid6 is ids.uuid6


def test_a_checkpoint_is_made_with_an_id_of_ours_unless_it_brings_one() -> None:
    ours = ids._process.last
    for made in (ids._checkpoint.empty_checkpoint(), ids.base.empty_checkpoint()):
        assert ids._steps(made["id"]) > ours
    again = ids._checkpoint.create_checkpoint(made, None, 1)
    assert again["id"] > made["id"]
    assert ids._checkpoint.create_checkpoint(made, None, 1, id=made["id"])["id"] == made["id"]


def test_an_id_of_ours_is_made_as_langgraphs_is(monkeypatch: pytest.MonkeyPatch) -> None:
    at = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: at)
    monkeypatch.setattr(ids, "_clock", None)
    monkeypatch.setattr(ids._process, "last", 0)
    monkeypatch.setattr(langgraphs, "_last_v6_timestamp", None)
    theirs = ids._langgraphs_uuid6(node=7, clock_seq=-2)
    monkeypatch.setattr(langgraphs, "_last_v6_timestamp", None)
    assert contextvars.Context().run(ids.uuid6, 7, -2) == theirs
    assert theirs.time == at // 100 + ids.GREGORIAN == ids._steps(str(theirs))
    assert uuid.UUID(str(theirs)).version == 6


def test_ids_sort_as_text_by_their_time_whatever_step_they_are_of() -> None:
    made = [str(ids.uuid6(clock_seq=step)) for step in (-2, 5, -1, 16383, 0, 16384)]
    assert made == sorted(made)


def test_an_update_from_a_clock_that_is_behind_never_becomes_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trap itself, with LangGraph's ids as they are."""
    for module in (ids.base, ids._checkpoint):
        monkeypatch.setattr(module, "uuid6", ids._langgraphs_uuid6)
    thread = paused("before")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - HOUR * 10**9)
    monkeypatch.setattr(langgraphs, "_last_v6_timestamp", None)
    thread.update({"draft": "edited"})
    assert thread.state().values["draft"] != "edited"


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_what_a_run_writes_follows_what_its_saver_read(name: str, clean: None) -> None:
    """LangGraph reads a thread, and makes the ids of its run, in one and the same context: so a run
    moves on a thread whose head is an hour ahead, at each level of its subgraphs."""
    real = time.time_ns
    with pytest.MonkeyPatch.context() as agent:
        agent.setattr(time, "time_ns", lambda: real() + HOUR * 10**9)
        agent.setattr(ids, "_clock", None)
        thread = contextvars.Context().run(paused, name)
    paused_at = thread.history()[0].config["configurable"]["checkpoint_id"]
    ids._process.last = 0
    contextvars.Context().run(_on_to_the_end, thread)
    state = thread.state()
    assert state.next == ()
    assert time_of(paused_at) > real() + 59 * 60 * 10**9
    newest = state.config["configurable"]["checkpoint_id"]
    assert newest > paused_at or not thread.shape.waits


def _on_to_the_end(thread: Any) -> None:
    """Each run through the saver that we write with."""
    compiled = thread.compiled.copy({"checkpointer": JoiningSaver(raw_connection())})
    thread.with_graph = lambda call: asyncio.run(call(compiled))
    thread.to_the_end()
