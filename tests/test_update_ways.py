"""An update that leads elsewhere: exactly what was meant comes next, whatever the edges say."""

import asyncio
import operator
import uuid
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from django.db import transaction
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, StateSnapshot

from approvals.savers import joined
from approvals.update import Dropped, SentApart, Update, end, fork, update
from graphs.registry import Compiled, Graph, ReviewSettings

pytestmark = pytest.mark.django_db
WHY = {"note": "shorter", "approved": False}


class State(TypedDict, total=False):
    draft: str
    note: str
    approved: bool
    tags: Annotated[list[str], operator.add]
    log: Annotated[list[str], operator.add]


def node(name: str) -> Callable[[State], dict[str, Any]]:
    return lambda state: {"log": [name]}


def graph_of(*names: str) -> StateGraph:
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, node(name))
    return graph


def where(state: State) -> str:
    return "gate" if state.get("approved") is None else "send"


def by_edge() -> StateGraph:
    graph = graph_of("draft", "gate", "send")
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "gate")
    graph.add_edge("gate", "send")
    return graph


def by_router() -> StateGraph:
    graph = graph_of("draft", "gate", "send")
    graph.add_edge(START, "draft")
    graph.add_conditional_edges("draft", where, ["gate", "send"])
    graph.add_edge("gate", "send")
    return graph


def by_command() -> StateGraph:
    graph = graph_of("gate", "send")
    route = lambda state: Command(goto=where(state), update={"log": ["draft"]})  # noqa: E731
    graph.add_node("draft", route, destinations=("gate", "send"))
    graph.add_edge(START, "draft")
    graph.add_edge("gate", "send")
    return graph


def by_join() -> StateGraph:
    graph = graph_of("draft", "facts", "gate", "send")
    graph.add_edge(START, "draft")
    graph.add_edge(START, "facts")
    graph.add_edge(["draft", "facts"], "gate")
    graph.add_edge("gate", "send")
    return graph


def by_loop() -> StateGraph:
    """Every node leads on by a question that the answer sets: none ends by itself."""
    graph = graph_of("draft", "gate", "send")
    graph.add_edge(START, "draft")
    for name in ("draft", "gate", "send"):
        graph.add_conditional_edges(name, where, ["gate", "send"])
    return graph


def beside() -> StateGraph:
    """`gate` and `other` come in the same step."""
    graph = graph_of("draft", "look", "gate", "other", "send")
    for start in ("draft", "look"):
        graph.add_edge(START, start)
    graph.add_edge("draft", "gate")
    graph.add_edge("look", "other")
    graph.add_edge(["gate", "other"], "send")
    return graph


def sending() -> StateGraph:
    """`gate` is reached by Send, twice; `other` by an edge, and `helper` by a Send of its own."""
    graph = graph_of("draft", "other")
    for name in ("gate", "helper"):
        graph.add_node(name, lambda state, name=name: {"log": [f"{name} {state['draft']}"]})
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "other")
    sends = [Send("gate", {"draft": "a"}), Send("gate", {"draft": "b"})]
    graph.add_conditional_edges(
        "draft", lambda state: [*sends, Send("helper", {"draft": "c"})], ["gate", "helper"]
    )
    return graph


def paused(shape: Callable[[], StateGraph]) -> tuple[Compiled, Any]:
    compiled = shape().compile(interrupt_before=["gate"])
    settings = ReviewSettings(approval_nodes=["gate"], group="any")
    graph = joined(Graph("any", compiled, settings))
    config: Any = {"configurable": {"thread_id": f"ways-{uuid.uuid4().hex}"}}
    graph.invoke({"log": [], "draft": "Dear Maeve", "tags": ["vip"]}, config)
    assert "gate" in graph.get_state(config).next
    return graph, config


def changed(graph: Compiled, config: Any, change: Update) -> StateSnapshot:
    with transaction.atomic():
        applied, after = update(graph, graph, config, change)
    head = graph.get_state(config)
    assert (head.config, head.next) == (after.config, after.next)
    assert head.config["configurable"]["checkpoint_id"] == applied
    return after


def goes(graph: Compiled, config: Any) -> list[str]:
    """What runs from here to the next stop, sorted."""
    before = len(graph.get_state(config).values["log"])
    asyncio.run(graph.ainvoke(None, config))
    return sorted(graph.get_state(config).values["log"][before:])


SINGLE = [by_edge, by_router, by_command, by_join]


@pytest.mark.parametrize("shape", [*SINGLE, by_loop])
@pytest.mark.parametrize("goto", ["send", "draft"])
def test_a_goto_is_all_that_comes_next(shape, goto):
    graph, config = paused(shape)
    after = changed(graph, config, Update(WHY, goto=goto, instead_of=("gate",)))
    assert after.next == (goto,)
    assert (after.values["note"], after.values["approved"]) == ("shorter", False)


@pytest.mark.parametrize("shape", SINGLE)
def test_where_it_went_to_runs_once_and_the_approval_node_does_not(shape):
    graph, config = paused(shape)
    changed(graph, config, Update(WHY, goto="send", instead_of=("gate",)))
    assert goes(graph, config) == ["send"]
    assert graph.get_state(config).next == ()


@pytest.mark.parametrize("shape", [by_edge, by_join])
def test_what_was_sent_back_comes_to_the_same_pause_again(shape):
    graph, config = paused(shape)
    changed(graph, config, Update(WHY, goto="draft", instead_of=("gate",)))
    ran = goes(graph, config)
    assert ran == ["draft"]
    waits = graph.get_state(config).next
    # A join waits for all of its branches anew: only one of them was sent back.
    assert waits == (("gate",) if shape is by_edge else ())


@pytest.mark.parametrize("shape", [*SINGLE, by_loop])
@pytest.mark.parametrize("values", [WHY, {}])
def test_an_end_leaves_nothing_to_run(shape, values):
    graph, config = paused(shape)
    after = changed(graph, config, Update(values, goto=END, instead_of=("gate",)))
    assert after.next == ()
    assert after.values.get("note") == values.get("note")
    assert goes(graph, config) == []


@pytest.mark.parametrize("goto", ["send", "draft", "gate", END])
def test_what_comes_in_the_same_step_stays(goto):
    graph, config = paused(beside)
    after = changed(graph, config, Update(WHY, goto=goto, instead_of=("gate",)))
    assert sorted(after.next) == sorted(["other", *([] if goto == END else [goto])])


def test_what_comes_in_the_same_step_runs_once():
    graph, config = paused(beside)
    changed(graph, config, Update(WHY, goto="draft", instead_of=("gate",)))
    assert goes(graph, config) == ["draft", "other"]
    changed(graph, config, Update(WHY))
    assert goes(graph, config) == ["gate", "send"]


def test_a_goto_in_place_of_all_that_comes_leaves_none_of_it():
    graph, config = paused(beside)
    after = changed(graph, config, Update(WHY, goto="draft", instead_of=("gate", "other")))
    assert after.next == ("draft",)


def test_values_go_through_reducers_and_edits_replace():
    graph, config = paused(by_edge)
    after = changed(graph, config, Update({"tags": ["late"]}))
    assert after.values["tags"] == ["vip", "late"]
    after = changed(graph, config, Update({}, {"tags": ["gone"]}))
    assert after.values["tags"] == ["gone"]


@pytest.mark.parametrize("goto", ["send", END])
def test_an_edit_replaces_on_the_way_elsewhere_too(goto):
    graph, config = paused(by_edge)
    change = Update(WHY, {"tags": ["gone"], "draft": "Dear all"}, goto, ("gate",))
    after = changed(graph, config, change)
    assert (after.values["tags"], after.values["draft"]) == (["gone"], "Dear all")


def test_nothing_to_write_and_nowhere_to_go_writes_nothing():
    graph, config = paused(by_edge)
    before = graph.get_state(config)
    assert changed(graph, config, Update()).config == before.config


def test_an_edit_that_its_field_cannot_hold_writes_nothing():
    graph, config = paused(by_edge)
    before = graph.get_state(config)
    with pytest.raises(ValueError, match="array"), transaction.atomic():
        update(graph, graph, config, Update({}, {"tags": "late"}))
    assert graph.get_state(config).config == before.config


def test_a_goto_to_a_node_that_is_not_there_is_refused_and_writes_nothing():
    graph, config = paused(by_edge)
    before = graph.get_state(config)
    with pytest.raises(Dropped), transaction.atomic():
        update(graph, graph, config, Update(WHY, goto="nowhere", instead_of=("gate",)))
    assert graph.get_state(config).config == before.config


# Sends


def test_values_beside_sends_leave_each_with_what_it_was_sent():
    graph, config = paused(sending)
    before = graph.get_state(config).next
    assert sorted(before) == ["gate", "gate", "helper", "other"]
    after = changed(graph, config, Update({"approved": True}))
    assert sorted(after.next) == sorted(before)
    assert after.values["approved"] is True
    assert goes(graph, config) == ["gate a", "gate b", "helper c", "other"]


def test_an_edit_of_what_was_sent_is_refused_and_writes_nothing():
    graph, config = paused(sending)
    before = graph.get_state(config)
    with pytest.raises(SentApart), transaction.atomic():
        update(graph, graph, config, Update({"approved": True}, {"draft": "mine"}))
    assert graph.get_state(config).config == before.config


def test_sends_to_the_approval_node_go_and_the_others_stay():
    graph, config = paused(sending)
    after = changed(graph, config, Update(WHY, goto=END, instead_of=("gate",)))
    assert sorted(after.next) == ["helper", "other"]
    assert goes(graph, config) == ["helper c", "other"]


def test_sends_are_drafted_again_beside_what_stays():
    graph, config = paused(sending)
    after = changed(graph, config, Update(WHY, goto="draft", instead_of=("gate",)))
    assert sorted(after.next) == ["draft", "helper", "other"]
    assert goes(graph, config) == ["draft", "helper c", "other"]
    assert sorted(graph.get_state(config).next) == ["gate", "gate", "helper", "other"]


# An end and a fork


@pytest.mark.parametrize("shape", [*SINGLE, by_loop, beside, sending])
def test_an_ended_thread_has_nothing_to_run(shape):
    graph, config = paused(shape)
    values = graph.get_state(config).values
    with transaction.atomic():
        at = end(graph, config)
    state = graph.get_state(config)
    assert (state.next, state.values) == ((), values)
    assert state.config["configurable"]["checkpoint_id"] == at
    assert goes(graph, config) == []


@pytest.mark.parametrize("shape", [*SINGLE, by_loop, beside, sending])
def test_a_fork_stands_where_the_older_checkpoint_stood(shape):
    graph, config = paused(shape)
    old = graph.get_state(config)
    with transaction.atomic():
        end(graph, config)
        at = fork(graph, graph.checkpointer.get_tuple(old.config), "d")
    state = graph.get_state(config)
    assert state.config["configurable"]["checkpoint_id"] == at
    assert (sorted(state.next), state.values) == (sorted(old.next), old.values)
