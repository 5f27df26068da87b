"""Postgres goes away in the middle of a run: waited out, and no error of any node's."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, runner
from approvals.models import AuditEntry, Decision
from graphs.registry import Retry
from tests.conftest import direct, effects, form_of, resume, take_up, test_url, waiting
from tests.test_resume import run_on

pytestmark = pytest.mark.usefixtures("clean")
State = Decision.State


def decided(as_, **script: Any) -> Decision:
    review = waiting("scripted", script=script)
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    return Decision.objects.select_related("review").get(review=review)


class Cut(AsyncConnectionPool[Any]):
    """A pool from which, for a while, no connection is to be had."""

    until = 0.0

    async def getconn(self, timeout: float | None = None) -> Any:
        if time.monotonic() < self.until:
            raise PoolTimeout("couldn't get a connection")
        return await super().getconn(timeout)


def run_cut_off(decision: Decision, after: float, seconds: float) -> None:
    async def run() -> None:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with Cut(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            job = asyncio.create_task(runner.resume(str(decision.pk), pool))
            while not await asyncio.to_thread(is_applied):
                await asyncio.sleep(0.02)
            await asyncio.sleep(after)
            pool.until = time.monotonic() + seconds
            await job

    def is_applied() -> bool:
        return Decision.objects.filter(pk=decision.pk, state=State.APPLIED).exists()

    asyncio.run(run())
    decision.refresh_from_db()


def test_a_run_whose_database_is_away_for_a_while_is_taken_up_again_and_is_no_crash(as_):
    decision = decided(as_, sleep=2)
    run_cut_off(decision, after=0.2, seconds=3)
    assert (decision.state, decision.crashes) == (State.FINISHED, 0)
    assert decision.epoch > 1
    assert len(effects(decision.review.thread_id)) == 1
    told = AuditEntry.objects.filter(decision=decision).order_by("id")
    assert list(told.values_list("action", flat=True)) == ["decided", "applied", "finished"]


def test_a_try_again_whose_commit_was_answered_by_nobody_is_not_noted_twice(as_):
    decision = decided(as_, fail="closed")
    taken = take_up(decision)
    assert taken is not None
    review = taken.graph.review.model_copy(update={"retry": Retry(times=3)})
    lease = replace(taken, graph=replace(taken.graph, review=review))
    error = run_on(lease)
    for _ in range(2):
        runner.record_outcome(lease, error)
    decision.refresh_from_db()
    assert (decision.state, decision.attempts) == (State.APPLIED, 1)
    assert AuditEntry.objects.filter(decision=decision, action="retried").count() == 1


def test_the_job_of_a_dead_worker_is_left_to_it_should_it_wake_up(as_):
    decision = decided(as_)
    first = decision.job_id
    direct("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", first)
    assert actions.rescue(first, str(decision.pk), 6)
    decision.refresh_from_db()
    assert decision.job_id != first
    assert direct("SELECT status FROM procrastinate_jobs ORDER BY id") == [("failed",), ("todo",)]
    assert not actions.rescue(first, str(decision.pk), 6)  # by another worker, a moment later
    assert len(direct("SELECT 1 FROM procrastinate_jobs")) == 2
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == State.FINISHED


def test_a_worker_whose_heart_beats_again_keeps_its_job(as_):
    decision = decided(as_)
    direct(
        "WITH alive AS (INSERT INTO procrastinate_workers (last_heartbeat)"
        " VALUES (now() - interval '5 s') RETURNING id)"
        " UPDATE procrastinate_jobs SET status = 'doing', worker_id = alive.id FROM alive"
    )
    assert not actions.rescue(decision.job_id, str(decision.pk), 6)
    assert direct("SELECT status FROM procrastinate_jobs") == [("doing",)]
    assert actions.rescue(decision.job_id, str(decision.pk), 4)


def test_a_worker_whose_run_is_given_to_another_is_shut_out_at_once(as_):
    decision = decided(as_)
    lease = take_up(decision)
    assert lease is not None
    direct("UPDATE procrastinate_jobs SET status = 'doing'")
    assert actions.rescue(decision.job_id, str(decision.pk), 6)
    with pytest.raises(runner.LeaseLost):
        run_on(lease)


def test_a_thread_that_somebody_is_at_is_looked_at_later(as_):
    decision = decided(as_)
    direct("UPDATE procrastinate_jobs SET status = 'doing'")
    with psycopg.connect(test_url()) as other:
        thread_id = decision.review.thread_id
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [thread_id])
        assert not actions.rescue(decision.job_id, str(decision.pk), 6)
    assert actions.rescue(decision.job_id, str(decision.pk), 6)


def test_the_job_of_a_dead_worker_whose_decision_has_ended_is_only_closed(as_):
    decision = decided(as_)
    resume(decision)
    direct("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", decision.job_id)
    assert actions.rescue(decision.job_id, str(decision.pk), 6)
    assert direct("SELECT status FROM procrastinate_jobs") == [("failed",)]


# What Postgres refuses


def refusing_writes(lift_after: float | None) -> Any:
    """The table of checkpoints refuses every row, as a full disk does, and then no more."""
    direct(
        "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$"
    )
    direct(
        "CREATE TRIGGER full_disk BEFORE INSERT ON checkpoints"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    if lift_after is not None:
        threading.Timer(lift_after, space_again).start()


def space_again() -> None:
    direct("DROP FUNCTION IF EXISTS full_disk CASCADE")


@pytest.fixture(autouse=True)
def _space_again():
    yield
    space_again()


def test_a_run_that_can_write_nothing_for_good_is_set_aside_after_some_tries(as_):
    decision = decided(as_)
    assert take_up(decision) is not None
    Decision.objects.update(holder=None)
    refusing_writes(None)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.crashes) == (State.FAILED, 5)
    assert "could not write what it had done" in decision.error
    assert effects(decision.review.thread_id) == []


def test_a_run_that_could_write_nothing_for_a_moment_goes_on(as_):
    decision = decided(as_)
    refusing_writes(0.5)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == State.FINISHED
    assert len(effects(decision.review.thread_id)) == 1
