"""kill -9 of the worker between apply and the end of the run, and the gentle end.

COUNTERSIGN_KILLS makes it longer; `make repeats` does.
"""

import os
import signal
import time
from collections import Counter

import pytest
from django.db import connection

from approvals.models import AuditEntry, Decision, Review, ThreadChange
from tests.conftest import direct, effects, eventually, form_of, pause
from tests.test_capture import appears

KILLS = int(os.environ.get("COUNTERSIGN_KILLS", "3"))

pytestmark = pytest.mark.timeout(900)


def decide(as_, review: Review) -> Decision:
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, "Dear Maeve, yes."))
    assert answer.status_code == 302
    return Decision.objects.get(review=review)


def state(decision: Decision) -> str:
    decision.refresh_from_db()
    return decision.state


def jobs(where: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs j JOIN procrastinate_workers w "
            f"ON w.id = j.worker_id WHERE j.status = 'doing' AND {where}"
        )
        return int(cursor.fetchone()[0])


def kill_in_the_middle(processes, as_, decided: list[Decision]) -> None:
    """Starts a worker, decides a review, kills the worker once the decision is applied.

    Where the new worker has taken over runs of its forerunners, they may end first: a kill in
    `deliver` would be another test, since no outside effect can be exactly once.
    """
    worker = processes.worker()
    eventually(lambda: direct("SELECT 1 FROM procrastinate_workers"), what="the worker starts")
    while True:
        decision = decide(as_, appears("scripted", script={"sleep": 1.5}))
        decided.append(decision)
        eventually(lambda d=decision: state(d) != Decision.State.PENDING, 30, "it is applied")
        its = f"w.id = {worker_of(decision)}"
        if decision.state == Decision.State.APPLIED and jobs(its) == 1:
            processes.kill(worker)
            assert state(decision) == Decision.State.APPLIED
            return
        eventually(lambda where=its: jobs(where) == 0, 30, "the others end first")


def worker_of(decision: Decision) -> int:
    ((found,),) = direct("SELECT worker_id FROM procrastinate_jobs WHERE id = %s", decision.job_id)
    return found or 0


def updates(decision: Decision) -> list[str]:
    """The decision ids of the checkpoints that some `aupdate_state` wrote to its thread."""
    rows = direct(
        "SELECT metadata->>'decision_id' FROM checkpoints "
        "WHERE thread_id = %s AND metadata->>'source' = 'update'",
        decision.review.thread_id,
    )
    return [row[0] for row in rows]


def test_a_run_whose_worker_is_killed_is_finished_by_the_next_and_applied_once(processes, as_):
    began, decided = time.monotonic(), []
    for _ in range(KILLS):
        kill_in_the_middle(processes, as_, decided)
    last_kill = time.monotonic()
    processes.worker()
    open_ones = Decision.objects.filter(ended_at=None)
    eventually(lambda: not open_ones.exists(), 30, "every run finishes")
    took = time.monotonic() - last_kill
    taken_over = 0
    for decision in decided:
        assert state(decision) == Decision.State.FINISHED, decision.error
        assert updates(decision) == [str(decision.pk)]
        assert effects(decision.review.thread_id) == [(str(decision.pk), "Dear Maeve, yes.")]
        told = AuditEntry.objects.filter(decision=decision).values_list("action", flat=True)
        assert Counter(told) == {"decided": 1, "applied": 1, "finished": 1}
        taken_over += decision.epoch > 1
    assert taken_over >= KILLS
    print(
        f"\n{KILLS} kills of a worker between apply and end: {len(decided)} runs, {taken_over} of "
        f"them taken over, all finished, applied and delivered once. The last one ended "
        f"{took:.1f} s after its kill; {time.monotonic() - began:.1f} s in all."
    )


def test_a_capture_that_is_killed_in_the_middle_loses_no_review(processes):
    threads = {pause("scripted") for _ in range(150)}  # three batches of the loop
    worker = processes.worker()
    eventually(Review.objects.exists, what="the first batch is in")
    processes.kill(worker)
    seen = Review.objects.count()
    assert 0 < seen < len(threads)
    processes.worker()
    eventually(lambda: not ThreadChange.objects.exists(), 30)
    assert set(Review.objects.waiting().values_list("thread_id", flat=True)) == threads
    assert AuditEntry.objects.filter(action="paused").count() == len(threads)


@pytest.mark.skipif(KILLS < 10, reason="13 s of waiting: part of the long run")
def test_a_worker_that_was_declared_dead_and_wakes_up_writes_nothing_more(processes, as_):
    sleeper = processes.worker()
    decision = decide(as_, appears("scripted", script={"sleep": 1.5}))
    eventually(lambda: state(decision) == Decision.State.APPLIED)
    sleeper.send_signal(signal.SIGSTOP)
    processes.worker()
    eventually(lambda: state(decision) == Decision.State.FINISHED, 20, "another takes over")
    kept = direct("SELECT checkpoint_id FROM checkpoints ORDER BY 1")
    sleeper.send_signal(signal.SIGCONT)
    time.sleep(2.5)  # its node's sleep ends, and it believes that the run is its own
    assert sleeper.poll() is None
    assert direct("SELECT checkpoint_id FROM checkpoints ORDER BY 1") == kept
    assert effects(decision.review.thread_id) == [(str(decision.pk), "Dear Maeve, yes.")]
    assert AuditEntry.objects.filter(decision=decision, action="finished").count() == 1


def test_sigterm_lets_a_running_node_end_and_records_it(processes, as_):
    worker = processes.worker()
    decision = decide(as_, appears("scripted", script={"sleep": 1.5}))
    eventually(lambda: state(decision) == Decision.State.APPLIED)
    later = appears("scripted")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert state(decision) == Decision.State.FINISHED
    assert decision.epoch == 1
    assert effects(decision.review.thread_id) == [(str(decision.pk), "Dear Maeve, yes.")]
    untouched = decide(as_, later)  # and nobody takes new work any more
    time.sleep(1)
    assert state(untouched) == Decision.State.PENDING
