"""Pauses inside subgraphs: nodes that are graphs, two deep, and graphs that a function calls."""

from typing import Any

import pytest
from django.db import transaction
from langgraph.types import StateSnapshot

from approvals.savers import JoiningSaver, raw_connection, run_here
from tests.contract.graphs import Shape, called, inner_asking
from tests.contract.recipes import place, write_answer
from tests.contract.test_written_answers import paused
from tests.contract.threads import NULL_TASK, Thread

STATIC = [
    "subgraph_before",
    "subgraph_after",
    "deep_before",
    "called_before",
    "keeping_subgraph_before",
]


def innermost(snapshot: StateSnapshot) -> StateSnapshot:
    for task in snapshot.tasks:
        if isinstance(task.state, StateSnapshot):
            return innermost(task.state)
    return snapshot


def update_inside(thread: Thread, config: Any, values: Any) -> None:
    """As we would: in a transaction, through the root's compiled graph."""
    with transaction.atomic():
        graph = thread.compiled.copy({"checkpointer": JoiningSaver(raw_connection())})
        run_here(lambda: graph.aupdate_state(config, values))


@pytest.mark.parametrize("name", STATIC)
def test_the_root_waits_for_the_node_and_the_subgraph_for_its_gate(name: str) -> None:
    state = paused(name).state()
    assert state.next == ("sub",)
    assert innermost(state).next == ("gate",)
    assert not state.interrupts


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize("whole", [True, False], ids=["whole config", "namespace alone"])
def test_an_update_inside_reaches_the_gate_and_keeps_it(
    clean: None, name: str, whole: bool
) -> None:
    thread = paused(name)
    config: Any = innermost(thread.state()).config
    if not whole:
        ns = config["configurable"]["checkpoint_ns"]
        config = {"configurable": {"thread_id": thread.id, "checkpoint_ns": ns}}
    update_inside(thread, config, {"draft": "edited", "log": ["edit"]})
    assert (thread.next(), innermost(thread.state()).next) == (["sub"], ("gate",))
    assert innermost(thread.state()).values["draft"] == "edited"
    thread.run(None)
    assert thread.log() == sorted([*thread.shape.does, "edit"])


@pytest.mark.parametrize("name", STATIC)
def test_after_an_update_inside_nothing_inside_runs_twice(clean: None, name: str) -> None:
    thread = paused(name)
    update_inside(thread, innermost(thread.state()).config, {"draft": "edited"})
    thread.run(None)
    assert [thread.ran(node) for node in ("draft", "look", "gate", "tidy", "send")] == [1] * 5


def test_a_function_that_calls_a_subgraph_is_run_from_its_start() -> None:
    thread = paused("called_before")
    thread.run(None)
    assert thread.ran("sub") == 2


@pytest.mark.parametrize("name", STATIC)
def test_an_update_inside_writes_one_checkpoint_there_and_none_above(
    clean: None, name: str
) -> None:
    thread = paused(name)
    config: Any = innermost(thread.state()).config
    ns = config["configurable"]["checkpoint_ns"]
    before = {space: len(thread.tuples(space)) for space in thread.namespaces()}
    update_inside(thread, config, {"draft": "edited"})
    after = {space: len(thread.tuples(space)) for space in thread.namespaces()}
    assert after == {**before, ns: before[ns] + 1}


@pytest.mark.parametrize("name", STATIC)
def test_metadata_goes_into_every_checkpoint_of_every_namespace(clean: None, name: str) -> None:
    thread = paused(name)
    config: Any = innermost(thread.state()).config
    old = {it.config["configurable"]["checkpoint_id"] for it in everything(thread)}
    update_inside(thread, {**config, "metadata": {"decision_id": "d"}}, {"draft": "edited"})
    thread.run(None, {**thread.config, "metadata": {"decision_id": "d"}})
    new = [it for it in everything(thread) if it.config["configurable"]["checkpoint_id"] not in old]
    assert len(new) >= 5
    assert {it.metadata.get("decision_id") for it in new} == {"d"}


def everything(thread: Thread) -> list[Any]:
    return [it for ns in thread.namespaces() for it in thread.tuples(ns)]


def test_values_as_rows_work_inside_as_well() -> None:
    for name in STATIC:
        thread = paused(name)
        config = innermost(thread.state()).config
        thread.put_writes(config, [("draft", "edited"), ("log", ["edit"])], NULL_TASK)
        assert innermost(thread.state()).next == ("gate",)
        thread.run(None)
        assert thread.log() == sorted([*thread.shape.does, "edit"])


def test_a_question_inside_shows_at_every_level_with_one_id() -> None:
    for name in ("asks_in_subgraph", "asks_deep", "asks_in_called"):
        state = paused(name).state()
        assert [one.id for one in state.interrupts] == [
            one.id for one in innermost(state).interrupts
        ]
        assert len(state.interrupts) == 1


def test_without_subgraphs_the_question_shows_and_the_inside_does_not() -> None:
    thread = paused("asks_in_subgraph")
    state = thread.state(subgraphs=False)
    assert [one.value for one in state.interrupts] == ["inside?"]
    assert not isinstance(state.tasks[0].state, StateSnapshot)


def hidden() -> Shape:
    """LangGraph finds the graphs in a function's closure, but not those in a container."""
    held = {"sub": inner_asking("hidden?")}

    class Caller:
        def invoke(self, *args: Any) -> Any:
            return held["sub"].invoke(*args)

    return Shape(lambda: called(Caller()), ["sub"], ["hidden?"])


def test_a_subgraph_that_cannot_be_found_hides_its_state_but_not_its_question() -> None:
    thread = Thread(hidden())
    thread.start()
    (task,) = thread.state().tasks
    assert task.state is None
    assert [one.value for one in thread.open()] == ["hidden?"]


def test_a_subgraph_that_cannot_be_found_is_answered_by_its_row() -> None:
    thread = Thread(hidden())
    thread.start()
    (question,) = thread.open()
    assert place(thread, question).config["configurable"]["checkpoint_ns"].startswith("sub:")
    write_answer(thread, question, "yes")
    thread.run(None)
    assert (thread.next(), thread.answers()) == ([], ["yes"])


def test_a_subgraph_that_cannot_be_found_refuses_updates_and_is_read_as_its_caller() -> None:
    thread = Thread(hidden())
    thread.start()
    inner: Any = {
        "configurable": {"thread_id": thread.id, "checkpoint_ns": thread.namespaces()[-1]}
    }
    with pytest.raises(ValueError, match="not found"):
        thread.update({"draft": "edited"}, config=inner)
    assert thread.state(inner).values["log"] == ["look"]
    assert thread.state(inner).next == ()
