"""Runs that broke off in other programs: told to admins, and never taken for a pause."""

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from pytest_django.asserts import assertContains, assertNotContains

from approvals.audit import Actor
from approvals.capture import capture_batch
from approvals.errors import Conflict
from approvals.models import AuditEntry, Decision, Review, ThreadChange
from approvals.policies import Policy
from approvals.registry import registry
from approvals.run_actions import Sight, continue_run
from approvals.savers import joined
from approvals.threads import note_all_threads
from tests.conftest import (
    capture_all,
    direct,
    effects,
    eventually,
    form_of,
    pause,
    resume,
    take_up,
    test_url,
    waiting,
)
from tests.graphs import scripted
from tests.postgres import ROOT

pytestmark = pytest.mark.usefixtures("clean")
State, Status = Decision.State, Review.Status
QUIET = 1.0  # seconds after which a run that writes nothing counts as stalled


@pytest.fixture
def quick(settings: Any, tmp_path: Any) -> Iterator[None]:
    """The scripted graph, whose runs count as stalled after QUIET seconds."""
    told = (ROOT / "tests" / "reviews.toml").read_text()
    mine = told.replace("max_length = 500", f"max_length = 500\nstalled_after = {QUIET}")
    assert mine != told
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.REVIEWS_TOML.write_text(mine)
    registry.cache_clear()
    yield
    registry.cache_clear()


def place(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": "scripted"}}


def run_elsewhere(thread_id: str, given: Any = None, **pauses: list[str]) -> None:
    """Another program runs the scripted thread on, with a saver of its own."""

    async def run() -> None:
        async with AsyncPostgresSaver.from_conn_string(test_url()) as saver:
            await scripted.builder.compile(saver, **pauses).ainvoke(given, place(thread_id))

    asyncio.run(run())


def started_and_died(thread_id: str = "") -> str:
    """A run whose program was gone between two checkpoints: nodes come next, and nobody runs them.

    It stands before `deliver`, which no graph pauses before.
    """
    thread_id = pause("scripted", thread_id)
    run_elsewhere(thread_id, interrupt_before=["deliver"])
    return thread_id


def stalled() -> list[tuple[str, str, str]]:
    found = Review.objects.filter(status=Status.STALLED)
    return [(one.thread_id, one.node, one.pause["error"]) for one in found]


def fails_elsewhere(script: Any) -> Review:
    """A review that waited, whose run another program resumed, and that failed there."""
    review = waiting("scripted", script=script)
    with pytest.raises((TypeError, RuntimeError)):
        run_elsewhere(review.thread_id)
    capture_all()
    review.refresh_from_db()
    return review


# A node failed


def test_a_review_whose_run_failed_elsewhere_says_so_and_waits_no_more(as_):
    review = fails_elsewhere({"sleep": "not a number"})
    assert review.status == Status.SUPERSEDED
    assert review.ended_because.startswith(
        "Another program resumed the run, and it failed in human_approval: TypeError"
    )
    assert not Review.objects.waiting().exists()
    told = AuditEntry.objects.get(review=review, action="moved")
    assert told.note == review.ended_because
    assertContains(as_("rita").get(f"/reviews/{review.pk}/"), "it failed in human_approval")


def test_a_form_of_a_review_whose_run_failed_elsewhere_is_refused_with_the_reason(as_):
    review = waiting("scripted", script={"sleep": "not a number"})
    form = form_of(review, "Dear Maeve, I typed this.")
    with pytest.raises(TypeError):
        run_elsewhere(review.thread_id)
    capture_all()
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form)
    assertContains(answer, "it failed in human_approval", status_code=409)
    assertContains(answer, "Dear Maeve, I typed this.", status_code=409)
    assert not Decision.objects.exists()


@pytest.mark.parametrize(
    ("script", "node", "error"),
    [
        ({"sleep": "not a number"}, "human_approval", "TypeError"),  # at the checkpoint it paused
        ({"fail": "no post today"}, "deliver", "no post today"),  # at a later one
    ],
)
def test_a_failed_run_is_told_to_admins_at_once_with_its_node_and_error(cast, script, node, error):
    review = fails_elsewhere(script)
    case = Review.objects.exclude(pk=review.pk).get()
    assert (case.kind, case.status, case.node) == ("stalled", "stalled", node)
    assert error in case.pause["error"]
    assert error in case.excerpt
    assert case.title == review.title
    assert AuditEntry.objects.get(review=case).action == "stalled"
    for person, sees in (("rita", False), ("tom", False), ("stan", False), ("mara", True)):
        assert Policy(getattr(cast, person)).reviews().filter(pk=case.pk).exists() is sees, person


@pytest.mark.parametrize(("person", "status"), [("rita", 404), ("ada", 403), ("mara", 403)])
def test_a_stalled_run_is_decided_by_no_form(as_, person, status):
    fails_elsewhere({"fail": "no post today"})
    case = Review.objects.get(status=Status.STALLED)
    form = form_of(case)
    del form["edit.agent_response"]
    assert as_(person).post(f"/reviews/{case.pk}/decide", form).status_code == status
    assert not Decision.objects.exists()


def test_a_run_that_failed_and_was_mended_by_its_own_program_is_no_case_any_more():
    review = fails_elsewhere({"fail": "no post today"})
    direct("INSERT INTO gates VALUES (%s)", review.thread_id)
    run_elsewhere(review.thread_id)
    capture_all()
    assert stalled() == []
    case = Review.objects.exclude(pk=review.pk).get()
    assert case.status == Status.SUPERSEDED
    assert AuditEntry.objects.filter(review=case).latest("id").action == "moved"
    assert len(effects(review.thread_id)) == 1


def test_a_run_that_failed_and_pauses_when_it_is_tried_again_waits_once_more():
    """It failed where it paused: the same checkpoint is a failed run, and then a pause again."""
    review = fails_elsewhere({"sleep": "not a number"})
    graph = joined(registry().graphs["scripted"])
    asyncio.run(graph.aupdate_state(place(review.thread_id), {"script": {}}))
    capture_all()
    assert stalled() == []
    again = Review.objects.waiting().get()
    assert (again.thread_id, again.node) == (review.thread_id, "human_approval")


# One of ours failed


def fails_here(client: Any) -> Decision:
    review = waiting("scripted", script={"fail": "no post today"})
    assert client.post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    return settled(Decision.objects.select_related("review").get())


def settled(decision: Decision) -> Decision:
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    return decision


def test_our_own_failed_run_can_be_retried_by_reviewers_and_ended_by_admins(as_):
    decision = fails_here(as_("rita"))
    assert (decision.state, decision.error_node) == (State.FAILED, "deliver")
    assertContains(as_("rita").get("/"), "1 run failed after approval")
    assert stalled() == [(decision.review.thread_id, "deliver", "RuntimeError('no post today')")]


def test_a_retry_that_works_closes_the_admins_case_as_well(as_):
    decision = fails_here(as_("rita"))
    direct("INSERT INTO gates VALUES (%s)", decision.review.thread_id)
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    assert settled(decision).state == State.FINISHED
    assert stalled() == []
    assert not Review.objects.waiting().exists()


def test_a_retry_that_fails_again_leaves_one_case(as_):
    decision = fails_here(as_("rita"))
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    assert settled(decision).state == State.FAILED
    assert len(stalled()) == 1
    assert Review.objects.filter(kind=Review.Kind.STALLED).count() == 1


def test_a_failed_run_that_an_admin_continued_is_not_offered_for_a_retry_any_more(as_, cast):
    decision = fails_here(as_("rita"))
    direct("INSERT INTO gates VALUES (%s)", decision.review.thread_id)
    case = Review.objects.get(status=Status.STALLED)
    mara = Actor(cast.mara, "Mara Quist")
    continued = continue_run(mara, case.pk, Sight(case.digest, uuid.uuid4()))
    assert settled(continued).state == State.FINISHED
    assert len(effects(decision.review.thread_id)) == 1
    assertNotContains(as_("rita").get("/"), "failed after approval")
    page = as_("rita").get(decision.review.get_absolute_url())
    assertNotContains(page, ">Retry</button>")


def test_a_run_is_not_retried_and_continued_at_the_same_time(as_, cast):
    decision = fails_here(as_("rita"))
    direct("INSERT INTO gates VALUES (%s)", decision.review.thread_id)
    case = Review.objects.get(status=Status.STALLED)
    mara, sight = Actor(cast.mara, "Mara Quist"), Sight(case.digest, uuid.uuid4())
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    with pytest.raises(Conflict, match="under way"):
        continue_run(mara, case.pk, sight)
    assert settled(decision).state == State.FINISHED
    assert len(effects(decision.review.thread_id)) == 1


def test_a_run_that_an_admin_continues_is_not_retried_as_well(as_, cast):
    decision = fails_here(as_("rita"))
    direct("INSERT INTO gates VALUES (%s)", decision.review.thread_id)
    case = Review.objects.get(status=Status.STALLED)
    mara = Actor(cast.mara, "Mara Quist")
    continued = continue_run(mara, case.pk, Sight(case.digest, uuid.uuid4()))
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 409
    assert settled(continued).state == State.FINISHED
    assert len(effects(decision.review.thread_id)) == 1


# Its program died


def test_a_run_that_nobody_runs_is_a_case_only_after_a_while(quick):
    thread_id = started_and_died()
    capture_all()
    assert stalled() == []
    note = ThreadChange.objects.get(thread_id=thread_id)
    assert timezone.now() < note.not_before <= timezone.now() + dt.timedelta(seconds=QUIET)
    eventually(lambda: capture_batch() and stalled(), 5, "it is noticed by itself")
    assert stalled() == [(thread_id, "deliver", "")]
    assert not ThreadChange.objects.exists()


def test_a_run_is_given_the_time_that_its_table_allows():
    thread_id = started_and_died()
    capture_all()
    assert stalled() == []
    allowed = dt.timedelta(seconds=registry().graphs["scripted"].review.stalled_after)
    due = ThreadChange.objects.get(thread_id=thread_id).not_before
    assert allowed - dt.timedelta(seconds=30) < due - timezone.now() <= allowed


def test_the_notes_of_a_run_that_is_looked_at_often_do_not_pile_up():
    thread_id = started_and_died()
    for _ in range(5):
        note_all_threads()
        capture_all()
    assert ThreadChange.objects.filter(thread_id=thread_id).count() == 1


def test_a_stalled_run_goes_away_when_its_agent_moves_on(quick):
    thread_id = started_and_died()
    eventually(lambda: (capture_all(), stalled())[1], 5)
    run_elsewhere(thread_id)
    capture_all()
    assert stalled() == []
    case = Review.objects.get(thread_id=thread_id, kind=Review.Kind.STALLED)
    assert case.status == Status.SUPERSEDED
    assert "moved the thread on" in case.ended_because


def test_a_stalled_run_whose_agent_pauses_is_a_review_again(quick):
    thread_id = pause("scripted", script={"rounds": 2})
    run_elsewhere(thread_id, interrupt_before=["deliver"])
    eventually(lambda: (capture_all(), stalled())[1], 5)
    run_elsewhere(thread_id, interrupt_before=["human_approval"])
    capture_all()
    assert stalled() == []
    assert [one.node for one in Review.objects.waiting()] == ["human_approval"]


def test_the_same_broken_run_is_one_case_however_often_it_is_looked_at(quick):
    started_and_died()
    eventually(lambda: (capture_all(), stalled())[1], 5)
    for _ in range(3):
        note_all_threads()
        capture_all()
    assert Review.objects.filter(kind=Review.Kind.STALLED).count() == 1
    assert AuditEntry.objects.filter(action="stalled").count() == 1


# Not stalled


def test_an_agent_that_goes_on_writing_is_never_listed(quick, settings, tmp_path):
    """A loop of short steps that takes several times as long as a quiet run is allowed to."""
    thread_id, seen = "alive", 0
    until = timezone.now() + dt.timedelta(seconds=3 * QUIET)
    run_elsewhere(thread_id, started(thread_id), interrupt_before=["draft"])
    while timezone.now() < until:
        wrote = time.monotonic()
        asyncio.run(touch(thread_id))
        capture_all()
        listed = stalled()
        if time.monotonic() - wrote < QUIET:  # else this machine is too slow to say
            assert listed == []
            seen += 1
    assert seen
    eventually(lambda: (capture_all(), stalled())[1], 5, "and it is once it stops")


def started(thread_id: str) -> dict[str, Any]:
    return {"conversation_id": thread_id, "title": "A living run", "script": {}, "log": []}


async def touch(thread_id: str) -> None:
    async with AsyncPostgresSaver.from_conn_string(test_url()) as saver:
        graph = scripted.builder.compile(saver)
        await graph.aupdate_state(place(thread_id), {"note": "on"}, as_node="__start__")
    await asyncio.sleep(QUIET / 5)


def test_our_own_running_decision_is_never_listed(quick, as_):
    review = waiting("scripted")
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    decision = Decision.objects.get()
    assert take_up(decision) is not None
    eventually(lambda: quiet_for(review.thread_id) > QUIET, 5)
    note_all_threads()
    capture_all()
    assert (stalled(), list(Review.objects.waiting())) == ([], [])
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    assert decision.state == State.FINISHED
    assert stalled() == []


def quiet_for(thread_id: str) -> float:
    """Seconds since the thread's last checkpoint."""
    state = joined(registry().graphs["scripted"]).get_state(place(thread_id))
    since = dt.datetime.fromisoformat(state.created_at or "")
    return (timezone.now() - since).total_seconds()


def test_a_pause_however_old_is_no_stalled_run(quick):
    review = waiting("scripted")
    eventually(lambda: quiet_for(review.thread_id) > QUIET, 5)
    note_all_threads()
    capture_all()
    assert stalled() == []
    assert Review.objects.waiting().get() == review


def test_a_finished_run_is_no_stalled_one(quick):
    thread_id = pause("scripted")
    run_elsewhere(thread_id)
    eventually(lambda: quiet_for(thread_id) > QUIET, 5)
    note_all_threads()
    capture_all()
    assert not Review.objects.exists()
