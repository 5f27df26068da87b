"""Decision → `aupdate_state`, or the answer → `ainvoke(None)` → outcome.

Applying is one transaction: checkpoint, audit entry and the decision's state, all or nothing.
The run is then LangGraph's; its outcome is a transaction of its own. A job that is repeated,
for whatever reason, reads from the thread how far the run got, and goes on from there.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from django.db import close_old_connections, transaction
from langgraph.errors import is_invalid_resume
from langgraph.types import StateSnapshot
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, events
from approvals.answering import Asking, NotAsked, give_again, take_answer_out
from approvals.applying import apply, in_words, run_config
from approvals.capture import unanswered
from approvals.errors import AWAY
from approvals.models import Decision, Review
from approvals.pauses import can_run, failures, levels, waiting
from approvals.plain import clean
from approvals.registry import registry
from approvals.savers import (
    FencedSaver,
    JoiningSaver,
    LeaseLost,
    joined,
    raw_connection,
    with_saver,
)
from approvals.threads import head, newest_of
from graphs.registry import Graph

logger = logging.getLogger(__name__)
State = Decision.State
REFUSED = "The node would not have this answer. Take it back, and answer anew."
# Django's thread_sensitive default would put all database work of a worker on one thread.
_threads = ThreadPoolExecutor(4, thread_name_prefix="database")


async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Runs database work on a thread whose connection is sound before and given back after."""

    def run() -> Any:
        close_old_connections()
        try:
            return work(*args)
        finally:
            close_old_connections()

    return await sync_to_async(run, thread_sensitive=False, executor=_threads)()


class CannotReach(Exception):
    """Postgres went away in the middle of a run. The job is tried again."""


@dataclass(frozen=True)
class Lease:
    """This worker's hold on one run of one decision."""

    decision_id: str
    epoch: int
    thread_id: str
    root_checkpoint_id: str  # where the whole thread stood when the person looked
    head: str  # where it stood when this run was found to have a way to go
    retried: bool
    review_id: int
    graph: Graph

    def config(self, metadata: Any) -> Any:
        """For a run of the thread whose head has this metadata."""
        return run_config(self.thread_id, self.decision_id, self.graph, metadata)


async def resume(decision_id: str, pool: AsyncConnectionPool[Any]) -> None:
    """Applies a decision unless that is done, runs the thread on, records the outcome.

    Raises actions.NotYet while the decision can be undone, CannotReach when the job should be
    tried again.
    """
    lease = await in_thread(take_and_apply, decision_id)
    if lease is None:
        return
    try:
        error = await _run_on(lease, pool)
    except LeaseLost as lost:
        logger.warning("Left a run to the worker that took it over: %s", lost)
        return
    await in_thread(record_outcome, lease, error)


# Apply


def take_and_apply(decision_id: str) -> Lease | None:
    """One transaction. None when there is nothing to run."""
    with transaction.atomic():
        decision = actions.take(decision_id)
        if decision is None:
            return None
        review = decision.review
        graph = registry().get(review.graph)
        if graph is None:
            reason = f"The graph {review.graph!r} is not registered here any more."
            actions.end(decision, State.FAILED, error=reason)
            return None
        if decision.state == State.PENDING and not _apply(decision, graph):
            return None
        lease = Lease(
            str(decision.pk),
            decision.epoch,
            review.thread_id,
            review.root_checkpoint_id or review.checkpoint_id,
            head(review.thread_id) or "",
            bool(decision.error),
            review.pk,
            graph,
        )
        ended = _way_on(lease)
        if ended is None:
            return lease
        actions.end(decision, **ended)
        return None


def _way_on(lease: Lease) -> dict[str, Any] | None:
    """How it has ended already, or cannot go on; None where there are nodes to run."""
    try:
        with transaction.atomic():
            _give_again(lease)
            return None if _has_way_to_go(lease) else _ended(lease, None, ran=False)
    except AWAY:
        raise
    except Exception as unreadable:  # state classes and reducers of other people
        return {"state": State.FAILED, "error": in_words(unreadable)}


def _apply(decision: Decision, graph: Graph) -> bool:
    """Whether the decision is now in the thread; if not, it has been ended with the reason."""
    review = decision.review
    if not actions.stands(review):
        _leave_alone(decision)
        return False
    if decision.action in {Decision.Action.CONTINUE, Decision.Action.RERUN}:
        actions.mark_applied(decision, review.checkpoint_id, None, None)
        return True
    try:
        with transaction.atomic():
            made = apply(graph, review, str(decision.pk), actions.effect_of(decision))
    except NotAsked:
        _leave_alone(decision)
        return False
    except AWAY:
        raise
    except Exception as error:
        actions.end(decision, State.FAILED, error=in_words(error))
        return False
    actions.mark_applied(decision, made.checkpoint_id, made.before, made.after)
    return True


def _leave_alone(decision: Decision) -> None:
    now_at = head(decision.review.thread_id)
    reason = "The thread was deleted" if now_at is None else "The thread moved on"
    actions.end(
        decision,
        State.SUPERSEDED,
        checkpoint_after=now_at or "",
        error=f"{reason} before the decision could be applied. Nothing of it was sent.",
    )


def _give_again(lease: Lease) -> None:
    """Has every answer that was given lie where the run will look for it."""
    given = Decision.objects.filter(
        review__thread_id=lease.thread_id, review__kind=Review.Kind.QUESTION
    ).exclude(checkpoint_applied="")
    answers = dict(given.values_list("review__interrupt_id", "answer"))
    saver = JoiningSaver(raw_connection())
    for level in levels(lease.graph, _look(lease)) if answers else []:
        for task in level.unfinished:
            place = (lease.thread_id, level.checkpoint_ns, level.checkpoint_id, task.id, "")
            give_again(saver, Asking(*place), task.name, answers)


def _has_way_to_go(lease: Lease) -> bool:
    """Whether the run has nodes to run before its next stop.

    Answers for a job that is repeated, too: a run that paused again must not be pushed through its
    next pause with this decision, nor the agent's own next turn be run with it.
    """
    state = _look(lease)
    at = state.config["configurable"].get("checkpoint_id")
    ours = (state.metadata or {}).get("decision_id") == lease.decision_id
    if not ours and at != lease.root_checkpoint_id:
        return False
    held = unanswered(lease.thread_id, waiting(lease.graph, state))
    return can_run(lease.graph, state, held, despite_errors=lease.retried or lease.epoch == 1)


def _look(lease: Lease, checkpoint_id: str = "") -> StateSnapshot:
    place: Any = {"thread_id": lease.thread_id}
    if checkpoint_id:
        place["checkpoint_id"] = checkpoint_id
    return joined(lease.graph).get_state({"configurable": place}, subgraphs=True)


# Run


async def _run_on(lease: Lease, pool: AsyncConnectionPool[Any]) -> BaseException | None:
    """Runs the thread to its next stop; the exception of a node, if one ended the run."""
    compiled = with_saver(lease.graph, FencedSaver(pool, lease.decision_id, lease.epoch))
    try:
        state = await compiled.aget_state({"configurable": {"thread_id": lease.thread_id}})
        if state.config["configurable"].get("checkpoint_id") != lease.head:
            return None  # another program was first: its next pause is not this decision's
        # ainvoke(None), heard node by node
        async for _ in compiled.astream(
            None, lease.config(state.metadata), stream_mode="tasks", durability="sync"
        ):
            await _nudge(lease, pool)
    except LeaseLost:
        raise
    except asyncio.CancelledError:
        raise
    except (*AWAY, PoolTimeout) as error:
        if await _is_node_error(compiled, lease):
            return error
        raise CannotReach(str(error)) from error
    except Exception as error:
        return error
    return None


async def _is_node_error(compiled: Any, lease: Lease) -> bool:
    """A node may talk to a database of its own: what it raised is written in the thread."""
    try:
        state = await compiled.aget_state({"configurable": {"thread_id": lease.thread_id}})
    except (psycopg.Error, PoolTimeout):
        return False
    return any(task.error for task in state.tasks if task.result is None)


async def _nudge(lease: Lease, pool: AsyncConnectionPool[Any]) -> None:
    try:
        async with pool.connection() as conn:
            await conn.execute(
                "SELECT pg_notify(%s, %s)",
                (events.CHANNEL, events.payload(lease.review_id, lease.graph.id)),
            )
    except (psycopg.Error, PoolTimeout) as error:
        logger.warning("A nudge was lost: %s", error)


# Outcome


def record_outcome(lease: Lease, error: BaseException | None) -> None:
    """One transaction: how the run ended, as the thread itself says it."""
    with transaction.atomic():
        decision = actions.lock_decision(lease.decision_id)
        if decision.state != State.APPLIED or decision.epoch != lease.epoch:
            return
        try:
            with transaction.atomic():
                ended = _ended(lease, error)
                if error is not None and is_invalid_resume(error):
                    _take_answer_out(decision, ended["error_node"])
        except AWAY:
            raise
        except Exception as unreadable:
            ended = {"state": State.FAILED, "error": in_words(unreadable)}
        actions.end(decision, **ended)


def _take_answer_out(decision: Decision, node: str) -> None:
    """The node would not have this answer, and never will: the question is asked once more."""
    refused = decision if decision.review.is_question else _answered_in(decision, node)
    if refused is None:
        return
    saver = JoiningSaver(raw_connection())
    review = refused.review
    take_answer_out(saver, review.thread_id, review.interrupt_id, review.node)
    refused.checkpoint_applied, refused.applied_at = "", None
    if refused is not decision:
        actions.end(refused, State.FAILED, error_node=node, error=REFUSED)


def _answered_in(decision: Decision, node: str) -> Decision | None:
    """The answer that this run was the first to read: it waited for the thread's static pauses."""
    answers = Decision.objects.filter(
        review__thread_id=decision.review.thread_id,
        review__kind=Review.Kind.QUESTION,
        review__node=node,
        state=State.PAUSED,
    ).exclude(checkpoint_applied="")
    return answers.select_related("review").order_by("-applied_at").first()


def _ended(lease: Lease, error: BaseException | None, ran: bool = True) -> dict[str, Any]:
    """What `actions.end` is told, judged by the newest checkpoint that this run wrote.

    Another program may have moved the thread on since: that is its turn, not this run's end. Errors
    in the thread are this run's if it raised one, or a worker before this one died of it; else they
    are older, or of other parts of the thread.
    """
    now_at = head(lease.thread_id)
    if now_at is None:
        return {
            "state": State.SUPERSEDED,
            "error": "It was applied; another program then deleted the thread.",
        }
    at = newest_of(lease.thread_id, "", lease.decision_id) or lease.root_checkpoint_id
    moved = at != now_at
    state = _look(lease, at if moved else "")
    ours = error is not None or (not ran and lease.epoch > 1)
    failed = failures(lease.graph, state) if ours else []
    if error is not None or failed:
        node, words = failed[0] if failed else ("", "")
        return {
            "state": State.FAILED,
            "checkpoint_after": at,
            "error_node": node,
            "error": clean(in_words(error) if error is not None else words)[:4000],
        }
    if not state.next:
        return {"state": State.FINISHED, "checkpoint_after": at}
    if unanswered(lease.thread_id, waiting(lease.graph, state)):
        return {"state": State.PAUSED, "checkpoint_after": at}
    if moved:
        reason = "It was applied; another program then moved the thread."
        return {"state": State.SUPERSEDED, "checkpoint_after": at, "error": reason}
    return {
        "state": State.FAILED,
        "checkpoint_after": at,
        "error": f"The run stopped before {', '.join(state.next)}, and asks nobody there. A pause "
        "of a graph that LangGraph cannot see inside its node can only be ended by an admin.",
    }
