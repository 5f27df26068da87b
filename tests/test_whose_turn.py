"""A decision answers the pause it was made for; what comes after it is somebody else's turn."""

import asyncio
import json

import pytest
from django.db import transaction

from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all, effects, form_of, resume, take_up, waiting

pytestmark = pytest.mark.django_db


def decide(client, review, text=None, **fields) -> Decision:
    answer = client.post(f"/reviews/{review.pk}/decide", form_of(review, text, **fields))
    assert answer.status_code == 302, answer.content.decode()
    return Decision.objects.select_related("review").get(review=review, state="pending")


def run_elsewhere(thread_id: str, given: dict | None) -> None:
    """As the agent's own program would, knowing nothing of decisions."""
    config = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": "scripted"}}
    graph = joined(registry().graphs["scripted"])
    asyncio.run(graph.ainvoke(given, config))


@pytest.mark.usefixtures("clean")
def test_a_repeated_job_leaves_the_agents_next_turn_alone(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    resume(decision)
    Decision.objects.filter(pk=decision.pk).update(state="applied", ended_at=None)
    run_elsewhere(review.thread_id, {"agent_response": "A new turn", "log": ["new"]})
    resume(decision)  # its worker had died before it could say how the run ended
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED
    assert effects(review.thread_id) == [(str(decision.pk), review.values["agent_response"])]
    capture_all()
    assert Review.objects.waiting().get().thread_id == review.thread_id


@pytest.mark.usefixtures("clean")
def test_a_question_asked_inside_the_approval_node_becomes_a_review(as_):
    review = waiting("scripted", script={"ask": "Which account?"})
    decision = decide(as_("rita"), review)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.PAUSED
    capture_all()
    asked = Review.objects.waiting().get()
    assert asked.interrupt_id
    assert asked.checkpoint_id == decision.checkpoint_applied


def test_a_run_that_the_worker_is_resuming_does_not_wait(as_, settings):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    with transaction.atomic():
        take_up(decision)
    capture_all()
    assert not Review.objects.waiting().exists()


def test_a_node_that_another_graph_approves_in_is_no_pause(settings, tmp_path, cast):
    """Each graph has approval nodes of its own: `deliver` waits in the one, runs in the other."""
    (tmp_path / "langgraph.json").write_text(
        json.dumps(
            {
                "graphs": {
                    "scripted": "tests.graphs.scripted:builder",
                    "other": "tests.graphs.scripted:builder",
                }
            }
        )
    )
    table = '[graphs.{0}]\napproval_nodes = ["{1}"]\nresponse = "agent_response"\ngroup = "any"\n'
    (tmp_path / "reviews.toml").write_text(
        table.format("scripted", "human_approval") + table.format("other", "deliver")
    )
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    registry.cache_clear()
    try:
        review = waiting("scripted")
        thread = {"thread_id": review.thread_id}
        config = {"configurable": thread, "metadata": {"graph_id": "scripted"}}
        graph = joined(registry().graphs["scripted"])
        asyncio.run(graph.ainvoke(None, config, interrupt_before=["deliver"]))
        assert graph.get_state(config).next == ("deliver",)
        capture_all()
        assert not Review.objects.waiting().exists()
    finally:
        registry.cache_clear()


def test_a_form_sent_again_with_another_text_is_not_taken_for_the_first(as_):
    review = waiting("scripted")
    rita, form = as_("rita"), form_of(review, "First text")
    assert rita.post(f"/reviews/{review.pk}/decide", form).status_code == 302
    again = {**form, "edit.agent_response": "Second text"}
    answer = rita.post(f"/reviews/{review.pk}/decide", again)
    assert answer.status_code == 409
    assert "Second text" in answer.content.decode()
    assert Decision.objects.get().edits == {"agent_response": "First text"}
    assert AuditEntry.objects.get(action="refused").after == {"agent_response": "Second text"}


@pytest.mark.usefixtures("clean")
def test_what_was_applied_is_not_said_to_be_unsent_when_the_thread_then_goes(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review, "Sent text")
    resume(decision)
    Decision.objects.filter(pk=decision.pk).update(state="applied", ended_at=None)
    joined(registry().graphs["scripted"]).checkpointer.delete_thread(review.thread_id)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.SUPERSEDED
    page = as_("rita").get(f"/reviews/{review.pk}/").content.decode()
    page = page[page.index('<div class="work"') :]
    assert "and applied; the thread was then moved on" in page
    assert "It was applied; another program then deleted the thread." in page
    assert "Not sent" not in page
