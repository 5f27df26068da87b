"""The update of an approval never changes what runs next, whatever the edges before it say."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from django.db import transaction
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from approvals.savers import joined
from approvals.update import Dropped, update
from graphs.registry import Graph, ReviewSettings

pytestmark = pytest.mark.django_db
EDIT = {"reply": "edited", "is_compliant": True}


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


@pytest.mark.parametrize("shape", [by_edge, by_router, by_command, by_join])
def test_the_approval_node_still_comes_next_and_everything_after_runs_once(shape):
    graph, config = paused(shape)
    with transaction.atomic():
        _, after = update(graph, config, EDIT)
    assert after.next == ("human_approval",)
    asyncio.run(graph.ainvoke(None, config))
    state = graph.get_state(config)
    assert state.next == ()
    assert state.values["log"][-2:] == ["human_approval", "deliver edited"]
    assert sum(line.startswith("deliver") for line in state.values["log"]) == 1


def test_an_update_that_no_way_can_make_is_refused_and_writes_nothing():
    graph, config = paused_without_a_way()
    before = [state.config for state in graph.get_state_history(config)]
    with pytest.raises(Dropped), transaction.atomic():
        update(graph, config, EDIT)
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
