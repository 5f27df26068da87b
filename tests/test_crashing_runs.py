"""A run that ends its workers is set aside; one that is only unlucky is not."""

import asyncio
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool
from pytest_django.asserts import assertContains, assertNotContains

from approvals import actions, runner
from approvals.models import AuditEntry, Decision
from approvals.registry import registry
from tests.conftest import direct, effects, form_of, resume, take_up, waiting
from tests.postgres import ROOT
from tests.test_resume import open_gate, run_on

pytestmark = pytest.mark.usefixtures("clean")
State = Decision.State
LIMIT = 5


def decided(as_, **script: Any) -> Decision:
    review = waiting("scripted", script=script)
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    return Decision.objects.select_related("review").get(review=review)


def told(decision: Decision) -> list[str]:
    entries = AuditEntry.objects.filter(decision=decision).order_by("id")
    return list(entries.values_list("action", flat=True))


def crash(decision: Decision, times: int) -> None:
    """Workers that take the run and are never heard of again."""
    for _ in range(times):
        take_up(decision)
    decision.refresh_from_db()


def test_a_run_that_ended_five_workers_is_set_aside_told_and_run_no_more(as_):
    decision = decided(as_)
    crash(decision, LIMIT)
    assert (decision.state, decision.crashes) == (State.APPLIED, LIMIT - 1)
    crash(decision, 1)
    assert (decision.state, decision.crashes) == (State.FAILED, LIMIT)
    assert decision.error.startswith("The worker ended in the middle of this run 5 times")
    assert told(decision) == ["decided", "applied", "failed"]
    resume(decision)
    assert effects(decision.review.thread_id) == []
    page = as_("rita").get(decision.review.get_absolute_url())
    assertContains(page, "was set aside")
    assertContains(page, "Retry")
    assertContains(as_("rita").get("/"), "1 run failed after approval")


def test_a_retry_of_a_run_that_was_set_aside_starts_counting_anew(as_):
    decision = decided(as_)
    crash(decision, LIMIT + 1)
    assert as_("mara").post(reverse("retry", args=[decision.pk])).status_code == 302
    crash(decision, LIMIT - 1)
    assert (decision.state, decision.crashes) == (State.APPLIED, LIMIT - 2)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == State.FINISHED
    assert len(effects(decision.review.thread_id)) == 1
    assert told(decision).count("applied") == 1


def test_a_run_that_kills_while_it_is_applied_is_counted_as_well(as_):
    decision = decided(as_)
    for _ in range(LIMIT + 1):  # what the take counted is committed before anything is applied
        actions.take(str(decision.pk), uuid.uuid4())
    decision.refresh_from_db()
    assert (decision.state, decision.is_stuck) == (State.FAILED, True)
    undone = as_("rita").post(reverse("undo", args=[decision.pk]))
    assert undone.status_code == 302
    decision.refresh_from_db()
    assert decision.state == State.UNDONE


def test_a_worker_that_takes_its_own_run_up_again_has_not_crashed(as_):
    decision, holder = decided(as_), uuid.uuid4()
    for _ in range(2 * LIMIT):  # as after an outage of Postgres
        assert runner.take_up(str(decision.pk), holder) is not None
    decision.refresh_from_db()
    assert (decision.state, decision.crashes, decision.epoch) == (State.APPLIED, 0, 2 * LIMIT)


def test_a_worker_that_hands_its_run_back_has_not_crashed(as_):
    decision = decided(as_)
    for _ in range(2 * LIMIT):
        holder = uuid.uuid4()
        assert runner.take_up(str(decision.pk), holder) is not None
        actions.let_go(str(decision.pk), holder)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.crashes) == (State.FINISHED, 0)


def test_a_run_that_is_cut_off_is_handed_back_for_a_second_later(as_):
    decision = decided(as_, sleep=30)

    async def cut_off() -> runner.HandedBack:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            job = asyncio.create_task(runner.resume(str(decision.pk), pool))
            while not await asyncio.to_thread(is_applied):
                await asyncio.sleep(0.05)
            job.cancel()
            with pytest.raises(runner.HandedBack) as raised:
                await job
            return raised.value

    def is_applied() -> bool:
        return Decision.objects.filter(pk=decision.pk, state=State.APPLIED).exists()

    handed = asyncio.run(cut_off())
    decision.refresh_from_db()
    assert (decision.state, decision.holder) == (State.APPLIED, None)
    assert 0 < (handed.at - decision.applied_at).total_seconds() < 30


@pytest.mark.parametrize(("crashes", "alone"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_run_that_ended_two_workers_runs_by_itself(as_, crashes, alone):
    decision = decided(as_)
    crash(decision, crashes)
    assert actions.is_suspect(str(decision.pk)) == alone


def test_of_several_suspects_one_runs_at_a_time(as_):
    suspects = [decided(as_, sleep=0.4) for _ in range(3)]
    for one in suspects:
        crash(one, 2)

    async def work() -> None:
        alone = asyncio.Lock()
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            await asyncio.gather(*(runner.resume(str(one.pk), pool, alone) for one in suspects))

    asyncio.run(work())
    runs = sorted(
        (one.applied_at, one.ended_at, one.state, one.epoch)
        for one in Decision.objects.filter(pk__in=[one.pk for one in suspects])
    )
    assert {state for *_, state, _ in runs} == {State.FINISHED}
    ends = sorted(ended for _, ended, *_ in runs)
    assert all((after - before).total_seconds() > 0.4 for before, after in pairwise(ends))


def test_the_limit_is_the_graphs_own(as_, settings, tmp_path):
    limited(settings, tmp_path, "crash_limit = 1")
    decision = decided(as_)
    crash(decision, 2)
    assert decision.state == State.FAILED
    assert "in the middle of this run once" in decision.error


def limited(settings: Any, folder: Path, line: str) -> None:
    """The scripted graph with one more line in its table."""
    text = (ROOT / "tests" / "reviews.toml").read_text()
    settings.REVIEWS_TOML = folder / "reviews.toml"
    settings.REVIEWS_TOML.write_text(text.replace("max_length = 500", f"max_length = 500\n{line}"))
    registry.cache_clear()


@pytest.fixture(autouse=True)
def _registry_as_before():
    yield
    registry.cache_clear()


# A node that raises


def test_the_traceback_of_a_node_is_for_admins(as_):
    decision = decided(as_, fail="the mail server is closed")
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error_node) == (State.FAILED, "deliver")
    assert "the mail server is closed" in decision.traceback
    assert "scripted.py" in decision.traceback
    here = decision.review.get_absolute_url()
    assertContains(as_("mara").get(here), "Traceback (most recent call last)")
    for name in ("rita", "ada"):
        page = as_(name).get(here)
        assertContains(page, "the mail server is closed")
        assertNotContains(page, "Traceback (most recent call last)")


def test_a_failed_node_is_not_tried_again_unless_reviews_toml_says_so(as_):
    decision = decided(as_, fail="closed")
    resume(decision)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.attempts) == (State.FAILED, 0)
    assert told(decision) == ["decided", "applied", "failed"]


def retried(settings, tmp_path, **table: Any) -> None:
    pairs = ", ".join(f"{key} = {value}" for key, value in table.items())
    limited(settings, tmp_path, f"retry = {{ {pairs} }}")


def test_a_failed_node_is_tried_again_as_often_as_reviews_toml_says(as_, settings, tmp_path):
    retried(settings, tmp_path, times=2, wait=0)
    decision = decided(as_, fail="closed")
    for _ in range(3):
        resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.attempts) == (State.FAILED, 2)
    assert told(decision) == ["decided", "applied", "retried", "retried", "failed"]
    noted = AuditEntry.objects.filter(decision=decision, action="retried").values_list(
        "actor_name", "note"
    )
    assert set(noted) == {("worker", "deliver: RuntimeError: closed")}


def test_a_node_that_works_at_the_second_try_finishes_the_run(as_, settings, tmp_path):
    retried(settings, tmp_path, times=3, wait=7)
    decision = decided(as_, fail="closed")
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.attempts, decision.error) == (
        State.APPLIED,
        1,
        "RuntimeError: closed",
    )
    page = as_("rita").get(decision.review.get_absolute_url())
    assertContains(page, "tried again by itself, as this graph’s settings say: try 1 of 3")
    open_gate(decision.review)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error, decision.traceback) == (State.FINISHED, "", "")
    assert len(effects(decision.review.thread_id)) == 1


def test_who_cannot_wait_for_the_next_try_retries_at_once(as_, settings, tmp_path):
    retried(settings, tmp_path, times=3, wait=600)
    decision = decided(as_, fail="closed")
    resume(decision)
    decision.refresh_from_db()
    scheduled = decision.job_id
    assertContains(as_("rita").get(decision.review.get_absolute_url()), "Retry now")
    assert as_("rita").post(reverse("retry", args=[decision.pk])).status_code == 302
    decision.refresh_from_db()
    assert (decision.state, decision.attempts) == (State.APPLIED, 0)
    jobs = dict(direct("SELECT id, status FROM procrastinate_jobs"))
    assert (jobs[scheduled], jobs[decision.job_id]) == ("cancelled", "todo")
    open_gate(decision.review)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == State.FINISHED


def test_no_try_waits_longer_than_an_hour(as_, settings, tmp_path):
    retried(settings, tmp_path, times=20, wait=3600)
    decision = decided(as_, fail="closed")
    for _ in range(2):
        resume(decision)
    (late,) = direct("SELECT max(scheduled_at) - now() FROM procrastinate_jobs")[0]
    assert 3500 < late.total_seconds() <= 3600


@pytest.mark.parametrize(
    ("names", "again"),
    [
        ('["RuntimeError"]', True),
        ('["builtins.RuntimeError"]', True),
        ('["Exception"]', True),
        ('["TimeoutError", "httpx.TransportError"]', False),
    ],
)
def test_only_the_exceptions_that_are_named_are_tried_again(as_, settings, tmp_path, names, again):
    retried(settings, tmp_path, times=1, wait=0, on=names)
    decision = decided(as_, fail="closed")
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == (State.APPLIED if again else State.FAILED)


def test_a_worker_that_dies_after_a_retry_failed_does_not_run_the_node_once_more(as_):
    decision = decided(as_, fail="closed")
    resume(decision)
    assert as_("rita").post(reverse("retry", args=[decision.pk])).status_code == 302
    lease = take_up(decision)
    assert lease is not None
    assert isinstance(run_on(lease), RuntimeError)  # and dies before it can say so
    open_gate(decision.review)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error_node) == (State.FAILED, "deliver")
    assert effects(decision.review.thread_id) == []
