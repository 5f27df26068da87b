"""The console on each shape of graph: registered, run as an agent would, decided and resumed."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.types import StateSnapshot

from approvals import actions
from approvals.answers import Order, question_of
from approvals.audit import Actor
from approvals.models import Decision, Review
from approvals.questions import Choice
from approvals.registry import registry
from approvals.savers import joined
from graphs.registry import Graph
from tests.conftest import capture_all, resume
from tests.contract.graphs import SHAPES

TABLE = """
[graphs.{name}]
title = "{name}"
group = "scripted-reviewers"
editable = ["draft", "amount"]
undo_window = 0
"""


@pytest.fixture
def shapes(settings: Any, tmp_path: Any) -> Iterator[None]:
    """All shapes registered, each as the graph of its name."""
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    targets = {name: f"tests.graphs.shapes:{name}" for name in SHAPES}
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": targets}))
    settings.REVIEWS_TOML.write_text("".join(TABLE.format(name=name) for name in SHAPES))
    registry.cache_clear()
    yield
    registry.cache_clear()


def run_shape(name: str, durability: Any = "async", thread_id: str = "") -> str:
    """Runs the shape to its first pause, as its own program would; the thread's id."""
    thread_id = thread_id or f"{name}-{uuid.uuid4().hex[:8]}"
    config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": name}}
    compiled = joined(registry().graphs[name])
    compiled.invoke(dict(SHAPES[name].given), config, durability=durability)
    capture_all()
    return thread_id


def state_of(name: str, thread_id: str) -> StateSnapshot:
    place: Any = {"configurable": {"thread_id": thread_id}}
    return joined(registry().graphs[name]).get_state(place, subgraphs=True)


def langgraphs_answer(state: StateSnapshot) -> set[tuple[str, str, str]]:
    """(namespace, checkpoint, interrupt) of whatever waits in a thread that nobody runs.

    Written anew for the tests, from the snapshot alone.
    """
    place = state.config["configurable"]
    here = (str(place.get("checkpoint_ns", "")), str(place["checkpoint_id"]))
    found: set[tuple[str, str, str]] = set()
    for task in state.tasks:
        if isinstance(task.state, StateSnapshot) and task.state.next:
            found |= langgraphs_answer(task.state)
    known = {interrupt for _, _, interrupt in found}
    asked = {i.id for task in state.tasks for i in task.interrupts}
    found |= {(*here, one) for one in asked - known}
    return found or ({(*here, "")} if state.next else set())


def reviews_of(thread_id: str) -> set[tuple[str, str, str]]:
    rows = Review.objects.waiting().filter(thread_id=thread_id)
    return set(rows.values_list("checkpoint_ns", "checkpoint_id", "interrupt_id"))


def order_of(review: Review, answer: Any = None, **fields: Any) -> Order:
    """An approval, or an answer to the question that the review shows."""
    choices = ()
    if review.is_question:
        graph: Graph = registry().graphs[review.graph]
        question = question_of(graph, review)
        made = [Choice("approve") for _ in question.calls]
        choices = tuple(made) or (Choice("respond", args=answer),)
    return Order(review.digest, review.checkpoint_id, uuid.uuid4(), choices=choices, **fields)


def decide(person: Any, review: Review, order: Order) -> Decision:
    return actions.decide(Actor(person, person.get_full_name()), review.pk, order)


def settle(decision: Decision) -> Decision:
    """What the worker does, and the capture after it."""
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    return decision


def invoke(name: str, thread_id: str, given: Any = None) -> Any:
    """Another program resumes the thread."""
    config: Any = {"configurable": {"thread_id": thread_id}}
    return asyncio.run(joined(registry().graphs[name]).ainvoke(given, config))
