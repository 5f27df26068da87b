"""The queue is a hint, the decision row is the truth: what the queue lost is found and taken up."""

import pytest

from approvals.models import AuditEntry, Decision
from tests.conftest import direct, effects, eventually, form_of, resume, take_up, waiting

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
