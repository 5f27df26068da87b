"""Agents that were never told of us: what their runs carry, and how they are served."""

import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from django.core.management import call_command
from django.db import connection
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from approvals import install
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from approvals.threads import note_unknown_threads
from tests.conftest import capture_all, form_of, pause, resume, waiting

pytestmark = pytest.mark.django_db


class State(TypedDict, total=False):
    reply: str
    status: str
    said: Annotated[list[str], operator.add]


def approve(state: State, config: RunnableConfig) -> dict[str, Any]:
    return {"said": [f"{state['reply']} for {config['configurable']['user_id']}"]}


asking = StateGraph(State)
asking.add_node("human_approval", approve)
asking.add_edge(START, "human_approval")
asking.add_edge("human_approval", END)

sending = StateGraph(State)
sending.add_node("draft", lambda state: {"said": ["draft"]})
sending.add_node("human_approval", lambda state: {"said": [state["reply"]]})
sending.add_edge(START, "draft")
sending.add_conditional_edges(
    "draft",
    lambda state: [Send("human_approval", {"reply": reply}) for reply in ("as sent", "also sent")],
    ["human_approval"],
)

REVIEWS = """
[graphs.agent]
approval_nodes = ["human_approval"]
response = "reply"
title = "{reply}"
group = "scripted-reviewers"
undo_window = 0
approve = { status = "approved" }
"""


@pytest.fixture
def paused(settings, tmp_path):
    """A review of one of this file's graphs, run as its own program would."""
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.REVIEWS_TOML.write_text(REVIEWS)

    def run(name: str, **configurable: str) -> Review:
        settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": {"agent": f"{__name__}:{name}"}}))
        registry.cache_clear()
        config: Any = {"configurable": {"thread_id": name, **configurable}}
        joined(registry().graphs["agent"]).invoke({"reply": "drafted", "said": []}, config)
        capture_all()
        return Review.objects.waiting().get(thread_id=name)

    yield run
    registry.cache_clear()


def decide(client: Any, review: Review, text: str) -> Decision:
    assert client.post(f"/reviews/{review.pk}/decide", form_of(review, text)).status_code == 302
    return Decision.objects.select_related("review").get(review=review)


@pytest.mark.usefixtures("clean")
def test_a_node_finds_what_the_run_was_started_with(as_, paused):
    review = paused("asking", user_id="u7")
    decision = decide(as_("rita"), review, "edited")
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error) == ("finished", "")
    place: Any = {"configurable": {"thread_id": "asking"}}
    state = joined(registry().graphs["agent"]).get_state(place)
    assert state.values["said"] == ["edited for u7"]


@pytest.mark.usefixtures("clean")
def test_an_edit_that_would_not_reach_its_node_is_refused_with_its_text_kept(as_, paused):
    review = paused("sending")
    form = form_of(review, "edited")
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form)
    assert answer.status_code == 422
    assert "edited" in answer.content.decode()
    assert not Decision.objects.exists()
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING
    refused = AuditEntry.objects.get(review=review, action="refused")
    assert "reply" in refused.note


@pytest.mark.usefixtures("clean")
def test_nodes_that_were_reached_by_send_run_once_each_with_what_they_were_sent(as_, paused):
    review = paused("sending")
    form = form_of(review)
    del form["edit.reply"]
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form).status_code == 302
    decision = Decision.objects.select_related("review").get(review=review)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error) == ("finished", "")
    place: Any = {"configurable": {"thread_id": "sending"}}
    state = joined(registry().graphs["agent"]).get_state(place)
    assert sorted(state.values["said"]) == ["also sent", "as sent", "draft"]
    assert state.values["status"] == "approved"


def test_a_case_of_an_unknown_graph_gets_its_place_once_the_graph_is_registered(as_):
    thread_id = pause("scripted")
    with connection.cursor() as cursor:
        rename = "UPDATE checkpoints SET metadata = jsonb_set(metadata, '{graph_id}', %s)"
        cursor.execute(rename, [json.dumps("not registered")])
        capture_all()
        assert Review.objects.waiting().get().graph == ""
        connection.cursor().execute("DELETE FROM approvals_threadchange")
        cursor.execute(rename, [json.dumps("scripted")])
        cursor.execute("DELETE FROM approvals_threadchange")
    note_unknown_threads()  # as every worker does when it starts
    capture_all()
    review = Review.objects.waiting().get(thread_id=thread_id)
    again = AuditEntry.objects.filter(review=review, action="paused").latest("id")
    assert again.note.startswith("before human_approval, read again: ")
    assert (review.graph, review.title) == ("scripted", f"Case {thread_id}")
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302


@pytest.mark.usefixtures("clean")
def test_a_retried_run_shows_its_nodes_as_they_are_now(as_):
    review = waiting("scripted", script={"fail": "no post today"})
    decision = decide(as_("rita"), review, "Dear Maeve")
    resume(decision)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO gates VALUES (%s)", [review.thread_id])
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    decision.refresh_from_db()
    assert decision.checkpoint_after == ""
    resume(decision)
    page = as_("rita").get(f"/reviews/{review.pk}/").content.decode()
    assert "<code>deliver</code><span>done</span>" in page


@pytest.mark.usefixtures("clean")
def test_agents_go_on_writing_when_we_are_taken_out_again():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE approvals_threadchange RENAME TO away")
        try:
            install.after_migrate(sender=None)
            pause("scripted")
        finally:
            cursor.execute("ALTER TABLE away RENAME TO approvals_threadchange")
            call_command("migrate", verbosity=0)
    assert install.missing_triggers(connection) == []


def test_nobody_cancels_or_repeats_a_decisions_job_in_the_admin(as_):
    assert as_("mara").get("/admin/procrastinate/procrastinatejob/").status_code == 404
    assert "rocrastinate" not in as_("mara").get("/admin/").content.decode()
