"""The update of an approval never changes what runs next, whatever the edges before it say."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from django.db import transaction
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from approvals.savers import joined
from approvals.update import Dropped, SentApart, Update, end, fork, update
from graphs.registry import Graph, ReviewSettings

pytestmark = pytest.mark.django_db
EDIT = Update({"is_compliant": True}, {"reply": "edited"})


class State(TypedDict, total=False):
    reply: str
    is_compliant: bool
    log: Annotated[list[str], operator.add]


def node(name: str) -> Any:
    return lambda state: {"log": [name]}


def deliver(state: State) -> dict[str, Any]:
    return {"log": [f"deliver {state['reply']}"]}


def where(state: State) -> str:
    return "deliver" if state.get("is_compliant") else "human_approval"


def by_edge(builder: StateGraph) -> None:
    builder.add_node("check", node("check"))
    builder.add_edge("draft", "check")
    builder.add_edge("check", "human_approval")


def by_router(builder: StateGraph) -> None:
    builder.add_node("check", node("check"))
    builder.add_edge("draft", "check")
    builder.add_conditional_edges("check", where, ["deliver", "human_approval"])


def by_command(builder: StateGraph) -> None:
    def check(state: State) -> Command:
        return Command(goto=where(state), update={"log": ["check"]})

    builder.add_node("check", check, destinations=("deliver", "human_approval"))
    builder.add_edge("draft", "check")


def by_join(builder: StateGraph) -> None:
    builder.add_node("facts", node("facts"))
    builder.add_node("check", node("check"))
    builder.add_edge("draft", "facts")
    builder.add_edge("draft", "check")
    builder.add_edge(["facts", "check"], "human_approval")


def paused(shape: Any) -> tuple[Any, Any]:
    builder = StateGraph(State)
    builder.add_node("draft", lambda state: {"reply": "drafted", "log": ["draft"]})
    builder.add_node("human_approval", node("human_approval"))
    builder.add_node("deliver", deliver)
    shape(builder)
    builder.add_edge(START, "draft")
    builder.add_edge("human_approval", "deliver")
    builder.add_edge("deliver", END)
    compiled = builder.compile(interrupt_before=["human_approval"])
    settings = ReviewSettings(approval_nodes=["human_approval"], response="reply", group="any")
    graph = joined(Graph("any", compiled, settings))
    config: Any = {"configurable": {"thread_id": f"update-{shape.__name__}"}}
    graph.invoke({"log": []}, config)
    assert graph.get_state(config).next == ("human_approval",)
    return graph, config


def log_of(graph: Any, config: Any) -> list[str]:
    """The run is resumed; the log of it once nothing comes next."""
    asyncio.run(graph.ainvoke(None, config))
    state = graph.get_state(config)
    assert state.next == ()
    return list(state.values["log"])


@pytest.mark.parametrize("shape", [by_edge, by_router, by_command, by_join])
def test_the_approval_node_still_comes_next_and_everything_after_runs_once(shape):
    graph, config = paused(shape)
    with transaction.atomic():
        _, after = update(graph, graph, config, EDIT)
    assert after.next == ("human_approval",)
    log = log_of(graph, config)
    assert log[-2:] == ["human_approval", "deliver edited"]
    assert sum(line.startswith("deliver") for line in log) == 1


def test_an_update_that_no_way_can_make_is_refused_and_writes_nothing():
    graph, config = paused_without_a_way()
    before = [state.config for state in graph.get_state_history(config)]
    with pytest.raises(Dropped), transaction.atomic():
        update(graph, graph, config, EDIT)
    assert [state.config for state in graph.get_state_history(config)] == before


def paused_without_a_way() -> tuple[Any, Any]:
    """Whichever node the update acts as, its edge leads to deliver once it is compliant."""
    builder = StateGraph(State)
    for name in ("draft", "human_approval", "deliver"):
        builder.add_node(name, node(name))
        builder.add_conditional_edges(name, where, ["deliver", "human_approval"])
    builder.add_edge(START, "draft")
    compiled = builder.compile(interrupt_before=["human_approval"])
    settings = ReviewSettings(approval_nodes=["human_approval"], response="reply", group="any")
    graph = joined(Graph("any", compiled, settings))
    config: Any = {"configurable": {"thread_id": "update-no-way"}}
    graph.invoke({"log": []}, config)
    return graph, config


# What an edit does to a field that has a reducer


def test_an_edit_replaces_a_field_and_what_an_answer_sets_goes_through_its_reducer():
    graph, config = paused(by_edge)
    with transaction.atomic():
        _, edited = update(graph, graph, config, Update(edits={"log": ["rewritten"]}))
    assert edited.values["log"] == ["rewritten"]
    with transaction.atomic():
        _, added = update(graph, graph, config, Update({"log": ["added"]}))
    assert added.values["log"] == ["rewritten", "added"]
    assert log_of(graph, config) == ["rewritten", "added", "human_approval", "deliver drafted"]


def test_an_edit_of_a_reduced_field_replaces_it_where_only_a_detour_leads_back():
    graph, config = paused(by_command)
    with transaction.atomic():
        update(graph, graph, config, Update({"is_compliant": True}, {"log": ["rewritten"]}))
    assert log_of(graph, config) == ["rewritten", "human_approval", "deliver drafted"]


def test_an_edit_that_its_field_cannot_hold_is_refused():
    graph, config = paused(by_edge)
    with pytest.raises(ValueError, match="valid array"), transaction.atomic():
        update(graph, graph, config, Update(edits={"log": "no list at all"}))
    assert graph.get_state(config).values["log"] == ["draft", "check"]


# Somewhere else instead


@pytest.mark.parametrize("shape", [by_edge, by_router, by_command, by_join])
@pytest.mark.parametrize(("goto", "tail"), [("deliver", "deliver edited"), ("__end__", None)])
def test_an_answer_that_leads_elsewhere_skips_the_approval_node(shape, goto, tail):
    graph, config = paused(shape)
    before = graph.get_state(config).values["log"]
    change = Update(EDIT.values, EDIT.edits, goto, ("human_approval",))
    with transaction.atomic():
        _, after = update(graph, graph, config, change)
    assert after.next == ((goto,) if tail else ())
    assert after.values["reply"] == "edited"
    assert log_of(graph, config) == [*before, *([tail] if tail else [])]


def test_an_answer_that_leads_back_has_the_draft_made_again():
    graph, config = paused(by_router)
    change = Update({"reply": "by your note"}, goto="draft", instead_of=("human_approval",))
    with transaction.atomic():
        _, after = update(graph, graph, config, change)
    assert after.next == ("draft",)
    asyncio.run(graph.ainvoke(None, config))
    again = graph.get_state(config)
    assert again.next == ("human_approval",)
    assert again.values["log"] == ["draft", "check", "draft", "check"]


# Nodes that were reached by Send


def by_send(builder: StateGraph) -> None:
    builder.add_conditional_edges(
        "draft",
        lambda state: [Send("human_approval", {"reply": reply}) for reply in ("one", "two")],
        ["human_approval"],
    )


def test_an_edit_of_what_was_sent_is_refused_and_writes_nothing():
    graph, config = paused_by_send()
    before = [state.config for state in graph.get_state_history(config)]
    with pytest.raises(SentApart), transaction.atomic():
        update(graph, graph, config, EDIT)
    assert [state.config for state in graph.get_state_history(config)] == before


def test_what_an_approval_sets_leaves_what_was_sent_as_it_was():
    graph, config = paused_by_send()
    with transaction.atomic():
        _, after = update(graph, graph, config, Update({"is_compliant": True}))
    assert after.next == ("human_approval", "human_approval")
    log = log_of(graph, config)
    assert sorted(log[1:3]) == ["approved one", "approved two"]
    assert log[3:] == ["deliver drafted"]


def paused_by_send() -> tuple[Any, Any]:
    builder = StateGraph(State)
    builder.add_node("draft", lambda state: {"reply": "drafted", "log": ["draft"]})
    builder.add_node("human_approval", lambda state: {"log": [f"approved {state['reply']}"]})
    builder.add_node("deliver", deliver)
    by_send(builder)
    builder.add_edge(START, "draft")
    builder.add_edge("human_approval", "deliver")
    compiled = builder.compile(interrupt_before=["human_approval"])
    settings = ReviewSettings(response="reply", group="any")
    graph = joined(Graph("any", compiled, settings))
    config: Any = {"configurable": {"thread_id": "update-by-send"}}
    graph.invoke({"log": []}, config)
    return graph, config


# What admins do


@pytest.mark.parametrize("shape", [by_edge, by_router, by_command, by_join])
def test_after_an_end_nothing_comes_next_and_the_state_is_what_it_was(shape):
    graph, config = paused(shape)
    before = graph.get_state(config).values
    with transaction.atomic():
        at = end(graph, config)
    after = graph.get_state(config)
    assert (after.next, after.values) == ((), before)
    assert after.config["configurable"]["checkpoint_id"] == at


def test_a_fork_is_the_older_checkpoint_as_the_newest():
    graph, config = paused(by_edge)
    drafted = next(one for one in graph.get_state_history(config) if one.next == ("check",))
    with transaction.atomic():
        at = fork(graph, graph.checkpointer.get_tuple(drafted.config), "d")
    state = graph.get_state(config)
    assert state.config["configurable"]["checkpoint_id"] == at
    assert (state.next, state.values) == (("check",), drafted.values)
