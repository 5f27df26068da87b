"""A draft that is sent back comes again as the next round of the same case."""

import datetime as dt
import json
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from django.utils import timezone
from langgraph.graph import END, START, StateGraph
from pytest_django.asserts import assertContains, assertNotContains

from approvals.capture import reconcile
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all, effects, form_of, resume, waiting
from tests.shapes import settle

pytestmark = pytest.mark.usefixtures("clean")


def decided(client, review: Review, action: str, text: str = "") -> Decision:
    form = form_of(review, **{"action": action, f"text.{action}": text})
    answer = client.post(f"/reviews/{review.pk}/decide", form)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    return Decision.objects.exclude(state="undone").get(review=review)


def sent_back(client, review: Review, note: str) -> tuple[Decision, Review]:
    """The decision, and the next round that its run led to."""
    decision = settle(decided(client, review, "send_back", note))
    assert decision.state == "paused", decision.error
    return decision, Review.objects.waiting().get(thread_id=review.thread_id)


def test_what_was_sent_back_comes_again_as_round_two(as_):
    review = waiting("scripted")
    assert (review.round, review.follows) == (1, None)
    decision, second = sent_back(as_("rita"), review, "shorter")
    assert (second.round, second.follows) == (2, decision)
    assert second.pk != review.pk
    assert second.values["agent_response"] == "By your note: shorter"
    review.refresh_from_db()
    assert (review.status, review.round) == ("decided", 1)


def test_sent_back_twice_it_is_round_three_and_what_is_approved_goes_out_once(as_):
    review = waiting("scripted")
    first, second = sent_back(as_("rita"), review, "shorter")
    again, third = sent_back(as_("tom"), second, "warmer")
    assert (third.round, third.follows) == (3, again)
    assert [first.review_id, again.review_id] == [review.pk, second.pk]
    last = settle(decided(as_("rita"), third, "approve"))
    assert last.state == "finished"
    assert effects(review.thread_id) == [(str(last.pk), "By your note: warmer")]
    assert not Review.objects.waiting().exists()


def test_a_repeated_job_makes_no_further_round(as_):
    review = waiting("scripted")
    decision, second = sent_back(as_("rita"), review, "shorter")
    settle(decision)
    settle(decision)
    assert Review.objects.filter(thread_id=review.thread_id).count() == 2
    assert Review.objects.waiting().get() == second
    assert AuditEntry.objects.filter(action="paused_again").count() == 1


def test_what_is_captured_again_stays_in_its_round(as_):
    review = waiting("scripted")
    decision, second = sent_back(as_("rita"), review, "shorter")
    digest, noted = second.digest, AuditEntry.objects.count()
    list(reconcile())
    second.refresh_from_db()
    assert (second.round, second.follows, second.digest) == (2, decision, digest)
    assert AuditEntry.objects.count() == noted


def test_a_loop_that_was_approved_begins_again_at_round_one_and_says_what_it_follows(as_):
    review = waiting("scripted", script={"rounds": 2})
    decision = settle(decided(as_("rita"), review, "approve"))
    assert decision.state == "paused", decision.error
    second = Review.objects.waiting().get()
    assert (second.round, second.follows) == (1, decision)


def test_a_round_after_an_approval_counts_from_there(as_):
    review = waiting("scripted", script={"rounds": 2})
    settle(decided(as_("rita"), review, "approve"))
    following = Review.objects.waiting().get()
    decision, third = sent_back(as_("rita"), following, "shorter")
    assert (third.round, third.follows) == (2, decision)


def test_the_waiting_list_shows_the_new_round_alone(as_):
    review = waiting("scripted")
    assertContains(as_("rita").get("/"), f"/reviews/{review.pk}/")
    decision = decided(as_("rita"), review, "send_back", "shorter")
    assertNotContains(as_("tom").get("/"), f'href="/reviews/{review.pk}/')
    settle(decision)
    second = Review.objects.waiting().get()
    page = as_("tom").get("/")
    assertContains(page, f'href="/reviews/{second.pk}/')
    assertNotContains(page, f'href="/reviews/{review.pk}/')


def test_nothing_waits_while_it_is_being_drafted_again(as_):
    review = waiting("scripted")
    decided(as_("rita"), review, "send_back", "shorter")
    capture_all()
    assert not Review.objects.waiting().exists()


def test_a_send_back_that_was_taken_back_starts_no_round(as_):
    review = waiting("scripted")
    decision = decided(as_("rita"), review, "send_back", "shorter")
    within = timezone.now() + dt.timedelta(seconds=60)
    Decision.objects.filter(pk=decision.pk).update(apply_after=within)
    assert as_("rita").post(f"/decisions/{decision.pk}/undo").status_code == 302
    settle(decision)
    assert decision.state == "undone"
    again = Review.objects.waiting().get()
    assert (again, again.round, again.follows) == (review, 1, None)
    following = sent_back(as_("rita"), again, "warmer")[1]
    assert following.round == 2
    assert following.values["agent_response"] == "By your note: warmer"


def test_the_old_round_cannot_be_decided_any_more(as_):
    review = waiting("scripted")
    sent_back(as_("rita"), review, "shorter")
    answer = as_("tom").post(f"/reviews/{review.pk}/decide", form_of(review))
    assert answer.status_code == 409
    assert effects(review.thread_id) == []


# A draft that fails

BROKEN: set[str] = set()
RAN: list[str] = []


class State(TypedDict, total=False):
    reply: str
    note: str
    log: Annotated[list[str], operator.add]


def draft(state: State) -> dict[str, Any]:
    RAN.append("draft")
    if state.get("note") in BROKEN:
        raise RuntimeError("the model is away")
    return {"log": ["draft"], "reply": f"Dear Maeve {state.get('note', '')}"}


def gate(state: State) -> dict[str, Any]:
    return {"log": ["gate"]}


def send(state: State) -> dict[str, Any]:
    RAN.append("send")
    return {"log": ["send"]}


drafting = StateGraph(State)
for name, node in (("draft", draft), ("gate", gate), ("send", send)):
    drafting.add_node(name, node)
for start, end in ((START, "draft"), ("draft", "gate"), ("gate", "send"), ("send", END)):
    drafting.add_edge(start, end)
graph = drafting.compile(interrupt_before=["gate"])

TABLE = """
[graphs.drafting]
group = "scripted-reviewers"
response = "reply"
undo_window = 0
[graphs.drafting.send_back]
reason = "note"
goto = "draft"
"""


@pytest.fixture
def failing(settings: Any, tmp_path: Any) -> Iterator[Review]:
    """A case whose draft cannot be written again by the note "shorter"."""
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    targets = {"graphs": {"drafting": f"{__name__}:graph"}}
    settings.LANGGRAPH_JSON.write_text(json.dumps(targets))
    settings.REVIEWS_TOML.write_text(TABLE)
    registry.cache_clear()
    RAN.clear()
    BROKEN.add("shorter")
    config: Any = {"configurable": {"thread_id": "drafting"}, "metadata": {"graph_id": "drafting"}}
    joined(registry().graphs["drafting"]).invoke({"log": []}, config)
    capture_all()
    yield Review.objects.get()
    BROKEN.clear()
    registry.cache_clear()


def test_a_draft_that_fails_is_a_failed_decision_and_no_round(as_, failing):
    decision = settle(decided(as_("rita"), failing, "send_back", "shorter"))
    assert (decision.state, decision.error_node) == ("failed", "draft")
    assert "the model is away" in decision.error
    assert not Review.objects.waiting().exists()
    assert RAN == ["draft", "draft"]


def test_a_draft_that_failed_is_retried_and_comes_as_round_two(as_, failing):
    decision = settle(decided(as_("rita"), failing, "send_back", "shorter"))
    BROKEN.clear()
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    settle(decision)
    assert decision.state == "paused", decision.error
    second = Review.objects.waiting().get()
    assert (second.round, second.follows) == (2, decision)
    assert second.values["reply"] == "Dear Maeve shorter"
    assert RAN == ["draft", "draft", "draft"]


def test_nobody_is_left_with_a_stalled_run_once_the_retry_went_well(as_, failing):
    decision = settle(decided(as_("rita"), failing, "send_back", "shorter"))
    BROKEN.clear()
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    settle(decision)
    assert not Review.objects.filter(status="stalled").exists()
    last = settle(decided(as_("rita"), Review.objects.waiting().get(), "approve"))
    assert last.state == "finished"
    assert RAN.count("send") == 1


def test_a_retry_that_fails_again_is_failed_again_and_no_round(as_, failing):
    decision = settle(decided(as_("rita"), failing, "send_back", "shorter"))
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    assert (decision.state, decision.error_node) == ("failed", "draft")
    assert not Review.objects.waiting().exists()
    assert AuditEntry.objects.filter(action="failed").count() == 2
