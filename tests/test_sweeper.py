"""The queue is a hint, the decision row is the truth: what the queue lost is found and taken up."""

import datetime as dt

import pytest
from django.db import connection, transaction

from approvals import actions
from approvals.clock import database_now
from approvals.models import AuditEntry, Decision, Review
from tests.conftest import direct, effects, eventually, form_of, resume, take_up, waiting
from tests.shapes import decide, order_of, run_shape, shapes

__all__ = ["shapes"]
pytestmark = pytest.mark.timeout(90)


def decided(as_) -> Decision:
    review = waiting("scripted")
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    return Decision.objects.select_related("review").get(review=review)


def of_a_worker_that_is_gone(decision: Decision) -> None:
    """Its job is under way, by a worker that has not been heard of for ten seconds."""
    direct(
        "WITH gone AS (INSERT INTO procrastinate_workers (last_heartbeat)"
        " VALUES (now() - interval '10 s') RETURNING id)"
        " UPDATE procrastinate_jobs SET status = 'doing', worker_id = gone.id FROM gone"
        " WHERE procrastinate_jobs.id = %s",
        decision.job_id,
    )


def of_no_worker(decision: Decision) -> None:
    direct("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", decision.job_id)


def vanished(decision: Decision) -> None:
    direct("DELETE FROM procrastinate_jobs WHERE id = %s", decision.job_id)


def failed_for_no_reason_of_ours(decision: Decision) -> None:
    direct("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %s", decision.job_id)


LOST = [of_a_worker_that_is_gone, of_no_worker, vanished, failed_for_no_reason_of_ours]


def test_whatever_became_of_its_job_a_decision_is_applied_and_its_run_finished(processes, as_):
    decided_only = [decided(as_) for _ in LOST]
    applied = [decided(as_) for _ in LOST]
    for one in applied:
        assert take_up(one) is not None
    for lose, *each in zip(LOST, decided_only, applied, strict=True):
        for one in each:
            lose(one)
    direct("UPDATE approvals_decision SET apply_after = now() - interval '11 s'")  # no waiting
    processes.worker()
    open_ones = Decision.objects.filter(ended_at=None)
    eventually(lambda: not open_ones.exists(), 30, "every decision ends")
    for one in (*decided_only, *applied):
        one.refresh_from_db()
        assert one.state == Decision.State.FINISHED, one.error
        assert len(effects(one.review.thread_id)) == 1
        told = AuditEntry.objects.filter(decision=one).order_by("id")
        assert list(told.values_list("action", flat=True)) == ["decided", "applied", "finished"]


def test_a_job_that_comes_twice_runs_nothing_twice(clean, as_):
    decision = decided(as_)
    resume(decision)
    resume(decision)
    assert len(effects(decision.review.thread_id)) == 1


def test_a_lost_decision_is_found_behind_any_number_that_are_not(clean, as_, monkeypatch):
    monkeypatch.setattr(actions, "SWEPT", 1)
    sound, lost = decided(as_), decided(as_)
    vanished(lost)
    for decision, age in ((sound, 60), (lost, 30)):
        overdue = database_now() - dt.timedelta(seconds=age)
        Decision.objects.filter(pk=decision.pk).update(apply_after=overdue)
    assert actions.requeue_lost() == 1
    assert actions.requeue_lost() == 0
    lost.refresh_from_db()
    assert fetched() in {str(sound.pk), str(lost.pk)}


def fetched() -> str | None:
    """The decision whose job a worker would be given next."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT args->>'decision_id' FROM procrastinate_fetch_job_v2(NULL, NULL)")
        return cursor.fetchone()[0]


@pytest.mark.usefixtures("clean", "shapes")
def test_an_answer_does_not_wait_for_another_of_its_run_that_is_tried_again_in_an_hour(cast):
    thread_id = run_shape("asks_side_by_side")
    reviews = Review.objects.filter(thread_id=thread_id).order_by("pk")
    first = decide(cast.rita, reviews[0], order_of(reviews[0], "yes"))
    assert fetched() == str(first.pk)
    direct("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = %s", first.job_id)
    with transaction.atomic():
        later = database_now() + dt.timedelta(hours=1)
        actions.try_again(actions.lock_decision(first.pk), later, node="finance", error="away")
    second = decide(cast.rita, reviews[1], order_of(reviews[1], "yes"))
    assert fetched() == str(second.pk)
