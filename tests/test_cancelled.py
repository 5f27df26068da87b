"""A question that a failing neighbour cut short is still asked: cancelled is not failed."""

import asyncio
import json
import operator
import uuid
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from approvals.models import Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all
from tests.shapes import decide, langgraphs_answer, order_of, reviews_of, settle, state_of

pytestmark = pytest.mark.usefixtures("clean")
SLOW, BROKEN = set(), set()


class State(TypedDict, total=False):
    said: Annotated[list[str], operator.add]


async def quick(state: State, config: RunnableConfig) -> dict[str, Any]:
    answer = interrupt("quick?")
    if config["configurable"]["thread_id"] in BROKEN:
        raise RuntimeError("no post today")
    return {"said": [f"quick {answer}"]}


async def slow(state: State, config: RunnableConfig) -> dict[str, Any]:
    if config["configurable"]["thread_id"] in SLOW:
        await asyncio.sleep(5)
    return {"said": [f"slow {interrupt('slow?')}"]}


async def twice(state: State) -> dict[str, Any]:
    return {"said": [f"first {interrupt('first?')}", f"second {interrupt('second?')}"]}


async def shaky(state: State, config: RunnableConfig) -> dict[str, Any]:
    if config["configurable"]["thread_id"] in BROKEN:
        raise RuntimeError("no post today")
    return {"said": ["shaky"]}


def side_by_side(*nodes: Any) -> StateGraph:
    graph = StateGraph(State)
    for node in nodes:
        graph.add_node(node)
        graph.add_edge(START, node.__name__)
        graph.add_edge(node.__name__, END)
    return graph


both = side_by_side(quick, slow)
mended = side_by_side(twice, shaky)

TABLE = """
[graphs.{name}]
title = "{name}"
group = "scripted-reviewers"
undo_window = 0
"""


@pytest.fixture
def registered(settings, tmp_path):
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    targets = {name: f"{__name__}:{name}" for name in ("both", "mended")}
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": targets}))
    settings.REVIEWS_TOML.write_text("".join(TABLE.format(name=name) for name in targets))
    registry.cache_clear()
    yield
    registry.cache_clear()


def begin(name: str, thread_id: str) -> None:
    config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": name}}
    asyncio.run(joined(registry().graphs[name]).ainvoke({"said": []}, config))
    capture_all()


def asked_in(node: str) -> Review:
    return Review.objects.waiting().get(node=node)


def test_the_question_beside_a_failed_node_goes_on_waiting(cast, registered):
    thread_id = f"both-{uuid.uuid4().hex[:8]}"
    begin("both", thread_id)
    SLOW.add(thread_id)
    BROKEN.add(thread_id)
    review = asked_in("quick")
    decision = settle(decide(cast.rita, review, order_of(review, "yes")))
    assert (decision.state, decision.error_node) == (Decision.State.FAILED, "quick")
    cut_short = next(t for t in state_of("both", thread_id).tasks if t.name == "slow")
    assert "CancelledError" in str(cut_short.error)
    kept = asked_in("slow")
    key = (kept.checkpoint_ns, kept.checkpoint_id, kept.interrupt_id)
    assert key in langgraphs_answer(state_of("both", thread_id))
    assert reviews_of(thread_id) == {key}
    SLOW.remove(thread_id)
    BROKEN.remove(thread_id)
    last = settle(decide(cast.tom, kept, order_of(kept, "no")))
    assert (last.state, last.error) == (Decision.State.FINISHED, "")
    said = state_of("both", thread_id).values["said"]
    assert sorted(said) == ["quick yes", "slow no"]


def test_a_node_that_failed_once_and_ended_well_is_no_failure_any_more(cast, registered):
    thread_id = f"mended-{uuid.uuid4().hex[:8]}"
    BROKEN.add(thread_id)
    with pytest.raises(RuntimeError, match="no post today"):
        begin("mended", thread_id)
    BROKEN.remove(thread_id)
    capture_all()
    for number, (question, ended) in enumerate([("first?", "paused"), ("second?", "finished")]):
        review = asked_in("twice")
        assert review.pause["question"] == question
        assert ("failed" in review.pause) == (number == 0)
        decision = settle(decide(cast.rita, review, order_of(review, "yes")))
        assert (decision.state, decision.error) == (ended, "")
    assert sorted(state_of("mended", thread_id).values["said"]) == [
        "first yes",
        "second yes",
        "shaky",
    ]
