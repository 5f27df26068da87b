"""Each shape of pause: the reviews are what LangGraph says waits, and each answer does its work."""

import os
import uuid
from collections import Counter

import pytest
from pytest_django.asserts import assertContains

from approvals.models import Review
from tests.conftest import capture_all
from tests.contract.graphs import BROKEN, RAN, SHAPES
from tests.shapes import (
    decide,
    langgraphs_answer,
    order_of,
    reviews_of,
    run_shape,
    settle,
    shapes,
    state_of,
)

__all__ = ["shapes"]
pytestmark = pytest.mark.usefixtures("clean", "shapes")

ANSWERS = {"asks_a_model": {"approved": True, "amount": 5}, "asks_a_schema": {"approved": True}}
# Nodes that ask begin again at every answer; the others begin once.
ASKING = {"ask", "legal", "finance", "gate", "sub", "deep"}
DURABILITIES = ["sync", "async", "exit"]
# Each shape in one of the three; `make repeats` has all. The contract tests run all, always.
EVERY = "COUNTERSIGN_REPEATS" in os.environ
RUNS = [
    (name, durability)
    for place, name in enumerate(SHAPES)
    for durability in (DURABILITIES if EVERY else [DURABILITIES[place % 3]])
]


@pytest.mark.parametrize(("name", "durability"), RUNS)
def test_what_waits_is_what_langgraph_says_before_and_after_each_answer(name, durability, cast):
    shape = SHAPES[name]
    thread_id = run_shape(name, durability)
    state = state_of(name, thread_id)
    assert sorted(state.next) == shape.waits
    answers = 0
    while state.next:
        assert reviews_of(thread_id) == langgraphs_answer(state)
        review = Review.objects.waiting().filter(thread_id=thread_id).order_by("pk").first()
        decision = settle(decide(cast.rita, review, order_of(review, ANSWERS.get(name, "yes"))))
        assert decision.state in {"finished", "paused"}, decision.error
        state = state_of(name, thread_id)
        assert (decision.state == "finished") == (not state.next)
        answers += 1
        assert answers < 12
    assert reviews_of(thread_id) == set()
    assert sorted(state.values["log"]) == shape.does
    wanted = Counter(node.split(" ")[0] for node in shape.does)
    begun = Counter(RAN[thread_id])
    assert {n: begun[n] for n in wanted if n not in ASKING} == {
        n: times for n, times in wanted.items() if n not in ASKING
    }


def test_a_question_beside_a_failed_node_waits_and_says_so_and_answering_runs_both(cast, as_):
    thread_id = f"broken-{uuid.uuid4().hex[:8]}"
    BROKEN.add((thread_id, "other"))
    with pytest.raises(RuntimeError, match="other is broken"):
        run_shape("asks_beside_another", "sync", thread_id)
    capture_all()
    review = Review.objects.waiting().get(thread_id=thread_id)
    assert (review.node, review.pause["failed"]) == (
        "ask",
        "other: RuntimeError('other is broken')",
    )
    assert not Review.objects.filter(status="stalled").exists()
    page = as_("rita").get(review.get_absolute_url())
    assertContains(page, "A node beside this one failed")
    BROKEN.remove((thread_id, "other"))
    decision = settle(decide(cast.rita, review, order_of(review, "yes")))
    assert (decision.state, decision.error) == ("finished", "")
    state = state_of("asks_beside_another", thread_id)
    assert sorted(state.values["log"]) == ["ask", "other", "send"]
    assert RAN[thread_id].count("send") == 1
