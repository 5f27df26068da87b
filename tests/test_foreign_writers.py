"""Programs that move a thread while a person, or our worker, is at it: seen, and told."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool
from pytest_django.asserts import assertContains, assertNotContains

from approvals import runner, update
from approvals.audit import Actor
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.run_actions import run_again
from approvals.savers import FencedSaver, joined
from tests.conftest import (
    capture_all,
    direct,
    effects,
    eventually,
    form_of,
    resume,
    take_up,
    test_url,
    waiting,
)
from tests.graphs import scripted
from tests.test_resume import run_on

pytestmark = pytest.mark.usefixtures("clean")
State = Decision.State


def decided(
    as_, text: str = "Dear Maeve, yes.", graph: str = "scripted", **script: Any
) -> Decision:
    review = waiting(graph, script=script) if graph == "scripted" else waiting(graph)
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, text))
    assert answer.status_code == 302
    return Decision.objects.select_related("review").get(review=review)


def place(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


async def elsewhere(act: Any) -> Any:
    """As the agent's own program does it, on a connection of its own."""
    async with AsyncPostgresSaver.from_conn_string(test_url()) as saver:
        graph = scripted.builder.compile(saver, interrupt_before=["human_approval"])
        return await act(graph)


async def change(graph: Any, thread_id: str) -> None:
    await graph.aupdate_state(place(thread_id), {"agent_response": "Nobody has read this."})


def run_while(decision: Decision, act: Any) -> None:
    """Runs the decision; `act` happens while its approval node sleeps."""

    async def run() -> None:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            job = asyncio.create_task(runner.resume(str(decision.pk), pool))
            while not await asyncio.to_thread(is_applied):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            await elsewhere(act)
            await job

    def is_applied() -> bool:
        return Decision.objects.filter(pk=decision.pk, state=State.APPLIED).exists()

    asyncio.run(run())
    decision.refresh_from_db()


def test_a_run_stops_where_another_program_has_written_to_its_thread(as_):
    decision = decided(as_, sleep=1.2)
    thread_id = decision.review.thread_id
    run_while(decision, lambda graph: change(graph, thread_id))
    assert decision.state == State.SUPERSEDED
    assert decision.error == (
        "It was applied; another program then moved the thread. The run was stopped there; what "
        "its nodes had done by then is done."
    )
    assert effects(thread_id) == []  # `deliver` did not run, neither on our state nor on theirs
    told = AuditEntry.objects.filter(decision=decision).order_by("id")
    assert list(told.values_list("action", flat=True)) == ["decided", "applied", "superseded"]
    capture_all()
    assert Review.objects.waiting().get().values["agent_response"] == "Nobody has read this."


def test_a_run_that_another_program_resumes_as_well_is_delivered_by_us_once_and_told(as_):
    decision = decided(as_, sleep=0.8)
    thread_id = decision.review.thread_id
    run_while(decision, lambda graph: graph.ainvoke(None, place(thread_id)))
    capture_all()
    decision.refresh_from_db()
    # Nobody can keep the agent from running its own thread; which of the two was first is open, and
    # ours may have been stopped before or after its own delivery.
    ours = [key for key, _ in effects(thread_id) if key]
    assert ours in ([], [str(decision.pk)])
    assert decision.state == State.SUPERSEDED or (ours and decision.state == State.FINISHED)
    assert decision.forked_at
    assertContains(as_("rita").get(decision.review.get_absolute_url()), "This thread forked")


def test_a_thread_that_moves_in_the_undo_window_is_told_before_the_window_ends(as_):
    decision = decided(as_, graph="support", text="Dear Maeve, we agree.")
    config = place(decision.review.thread_id)
    joined(registry().graphs["support"]).update_state(config, {"subject": "Another matter"})
    capture_all()
    decision.refresh_from_db()
    decision.review.refresh_from_db()
    assert (decision.state, decision.review.status) == (State.SUPERSEDED, "superseded")
    page = as_("rita").get(decision.review.get_absolute_url())
    assertContains(page, "Not applied: the thread had moved")
    assertContains(page, "Dear Maeve, we agree.")  # what was written is still there


def test_a_pause_that_moves_under_an_open_page_refuses_the_form_and_keeps_its_text(as_):
    review = waiting("scripted")
    form = form_of(review, "Dear Maeve, my best letter.")
    asyncio.run(elsewhere(lambda graph: change(graph, review.thread_id)))
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form)
    assert answer.status_code == 409
    assertContains(answer, "Dear Maeve, my best letter.", status_code=409)
    refused = AuditEntry.objects.get(review=review, action="refused")
    assert refused.after["agent_response"] == "Dear Maeve, my best letter."


# A fork


def late_sibling(found: CheckpointTuple) -> Any:
    """What a program does that read the thread before our update, and writes after our run."""

    async def act(graph: Any) -> None:
        await graph.aupdate_state(
            {"configurable": {**found.config["configurable"], "checkpoint_ns": ""}},
            {"agent_response": "Nobody has read this."},
        )

    return act


def read_now(thread_id: str) -> CheckpointTuple:
    async def act(graph: Any) -> Any:
        return await graph.checkpointer.aget_tuple(place(thread_id))

    return asyncio.run(elsewhere(act))


def test_a_fork_is_seen_told_and_audited_once(as_):
    decision = decided(as_)
    before = read_now(decision.review.thread_id)
    resume(decision)
    asyncio.run(elsewhere(late_sibling(before)))
    capture_all()
    decision.refresh_from_db()
    assert decision.state == State.FINISHED
    ((newest,),) = direct("SELECT max(checkpoint_id) FROM checkpoints")
    assert decision.forked_at == newest
    noted = AuditEntry.objects.get(action="fork_seen")
    assert (noted.decision_id, noted.actor_name) == (decision.pk, "capture")
    assert (noted.checkpoint_before, noted.checkpoint_after) == (
        before.config["configurable"]["checkpoint_id"],
        newest,
    )
    assertContains(as_("rita").get(decision.review.get_absolute_url()), "This thread forked")
    assertContains(as_("ada").get("/audit/?action=fork_seen"), "The thread forked")
    direct("INSERT INTO approvals_threadchange (thread_id) VALUES (%s)", decision.review.thread_id)
    capture_all()
    assert AuditEntry.objects.filter(action="fork_seen").count() == 1
    # What stands now is theirs, and waits for a person like any other pause.
    assert Review.objects.waiting().get().values["agent_response"] == "Nobody has read this."


def test_a_thread_that_only_went_on_has_not_forked(as_):
    decision = decided(as_, rounds=2)
    resume(decision)
    asyncio.run(elsewhere(lambda graph: change(graph, decision.review.thread_id)))
    capture_all()
    decision.refresh_from_db()
    assert decision.forked_at == ""
    page = as_("rita").get(decision.review.get_absolute_url())
    assertNotContains(page, "This thread forked")


def test_an_admins_own_run_from_an_older_checkpoint_is_no_fork_of_anybody_elses(as_, cast):
    decision = decided(as_)
    resume(decision)
    ((first,),) = direct(
        "SELECT checkpoint_id FROM checkpoints WHERE metadata->>'step' = '0' LIMIT 1"
    )
    page = as_("mara").get(decision.review.get_absolute_url())
    assert page.status_code == 200
    from django.contrib.auth import get_user_model

    mara = Actor(get_user_model().objects.get(username="mara"), "Mara Quist")
    again = run_again(mara, decision.review_id, first, uuid4())
    resume(again)
    capture_all()
    assert not Decision.objects.exclude(forked_at="").exists()


def test_a_worker_that_took_a_thread_up_before_it_moved_reads_nothing_more_of_it(as_):
    decision = decided(as_)
    lease = take_up(decision)
    assert lease is not None
    asyncio.run(elsewhere(lambda graph: change(graph, lease.thread_id)))
    assert isinstance(run_on(lease), runner.ThreadTaken)
    assert effects(lease.thread_id) == []
    runner.record_outcome(lease, runner.ThreadTaken(""))
    eventually(lambda: Decision.objects.get().state == State.SUPERSEDED, 2)


# Between two statements of ours


async def resume_all(graph: Any, thread_id: str) -> None:
    await graph.ainvoke(None, place(thread_id))


async def pass_the_pause(graph: Any, thread_id: str) -> None:
    """As a program in the middle of a run of its own: deliver comes next."""
    unseen = {"agent_response": "Unseen words"}
    await graph.aupdate_state(place(thread_id), unseen, "human_approval")


def test_a_program_that_resumes_between_our_look_and_our_update_leaves_nothing_of_ours(
    as_, monkeypatch
):
    decision = decided(as_)
    thread_id, put, done = decision.review.thread_id, update._put, []

    def late(*args: Any) -> Any:
        if not done:
            done.append(asyncio.run(elsewhere(lambda graph: resume_all(graph, thread_id))))
        return put(*args)

    monkeypatch.setattr(update, "_put", late)
    resume(decision)
    decision.refresh_from_db()
    assert [key for key, _ in effects(thread_id)] == [None]  # theirs; ours would be a second one
    assert (decision.state, decision.checkpoint_applied) == (State.SUPERSEDED, "")


def test_a_program_that_writes_between_the_fence_and_the_read_is_not_run_under_our_name(
    as_, monkeypatch
):
    decision = decided(as_)
    thread_id, fenced, cursors = decision.review.thread_id, FencedSaver._cursor, []

    @asynccontextmanager
    async def cursor(self: Any, *, pipeline: bool = False) -> Any:
        async with fenced(self, pipeline=pipeline) as opened:
            cursors.append(opened)
            if len(cursors) == 2:  # the fence has looked; the run's first read comes next
                await elsewhere(lambda graph: pass_the_pause(graph, thread_id))
            yield opened

    monkeypatch.setattr(FencedSaver, "_cursor", cursor)
    resume(decision)
    assert (str(decision.pk), "Unseen words") not in effects(thread_id)
    assert Decision.objects.get().state == State.SUPERSEDED
