"""Decision → `aupdate_state`, or the answer → `ainvoke(None)` → outcome.

Taking it is one transaction, which counts its epoch up. Applying is another: checkpoint, audit
entry and the decision's state, all or nothing. The run is then LangGraph's; its outcome is a
transaction of its own. Whoever takes a decision again, for whatever reason, reads from the thread
how far the run got, and goes on from there.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from traceback import StackSummary, TracebackException
from typing import Any
from uuid import UUID, uuid4

import psycopg
from asgiref.sync import sync_to_async
from django.db import close_old_connections, transaction
from langgraph.errors import is_invalid_resume
from langgraph.types import StateSnapshot
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, events, ids
from approvals.answering import Asking, NotAsked, forget_errors, give_again, take_answer_out
from approvals.applying import apply, in_words, run_config
from approvals.capture import unanswered
from approvals.clock import database_now
from approvals.errors import AWAY, first_line, is_gone
from approvals.models import Decision, Review
from approvals.pauses import can_run, failures, is_over, levels, stands_before, waiting
from approvals.plain import clean
from approvals.registry import registry
from approvals.savers import (
    Fence,
    FencedSaver,
    JoiningSaver,
    LeaseLost,
    ThreadTaken,
    joined,
    raw_connection,
    with_saver,
)
from approvals.threads import follows_alone, head, newest_of
from graphs.registry import Graph

logger = logging.getLogger(__name__)
State = Decision.State
LONGEST_WAIT = 3600.0  # seconds before a run is tried again by itself
TRACEBACK = 20_000  # characters
AROUND = re.compile(r"[/\\](langgraph|langchain_core|approvals|asyncio|concurrent)[/\\]")
STOPPED = "The run was stopped there; what its nodes had done by then is done."
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

    working = asyncio.ensure_future(sync_to_async(run, thread_sensitive=False, executor=_threads)())
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})  # a transaction that has begun ends before anything else is
        raise


class CannotReach(Exception):
    """Postgres went away in the middle of a run."""


class HandedBack(Exception):
    """This worker is told to stop, and its node did not end in time; `at` is when another may
    take the run."""

    def __init__(self, at: dt.datetime) -> None:
        super().__init__(str(at))
        self.at = at


@dataclass(frozen=True)
class Lease:
    """This worker's hold on one run of one decision."""

    decision_id: str
    epoch: int
    thread_id: str
    root_checkpoint_id: str  # where the whole thread stood when the person looked
    head: str  # where it stood when this run was found to have a way to go
    review_id: int
    graph: Graph

    @property
    def fence(self) -> Fence:
        return Fence(self.decision_id, self.epoch, self.thread_id, self.head)

    def config(self, metadata: Any) -> Any:
        """For a run of the thread whose head has this metadata."""
        return run_config(self.thread_id, self.decision_id, self.graph, metadata)


async def resume(
    decision_id: str,
    pool: AsyncConnectionPool[Any],
    alone: asyncio.Lock | None = None,
    holder: UUID | None = None,
) -> None:
    """Applies a decision unless that is done, runs the thread on, records the outcome.

    While Postgres is away it waits, and takes the run up again. `alone` is held by one run of this
    worker at a time: a run that has ended workers before. Raises actions.NotYet while the decision
    can be undone, HandedBack when it is cancelled.
    """
    holder = holder or uuid4()
    suspect = alone is not None and await waiting_out(
        lambda: in_thread(actions.is_suspect, decision_id)
    )
    run = Resumption(decision_id, holder, pool)
    try:
        async with alone if alone and suspect else contextlib.nullcontext():
            await waiting_out(run.once)
    except LeaseLost as lost:
        logger.warning("Left a run to the worker that took it over: %s", lost)
    except asyncio.CancelledError:
        raise HandedBack(await in_thread(actions.let_go, decision_id, run.holder)) from None


@dataclass
class Resumption:
    """A decision in the hands of one job, which takes it up again after each outage."""

    decision_id: str
    holder: UUID
    pool: AsyncConnectionPool[Any]
    was_cut_off: bool = False

    async def once(self) -> None:
        try:
            await self._once()
        except (CannotReach, *AWAY) as error:
            self.was_cut_off = True
            if not is_gone(error):
                # A full disk, a limit: again and again it would run the same nodes for nothing. As
                # another holder's it counts as a crash, and is set aside in the end.
                self.holder = uuid4()
            raise

    async def _once(self) -> None:
        lease = await in_thread(take_up, self.decision_id, self.holder, self.was_cut_off)
        if lease is not None:
            error = await _run_on(lease, self.pool)
            await waiting_out(lambda: in_thread(record_outcome, lease, error))


async def waiting_out(work: Callable[[], Awaitable[Any]]) -> Any:
    """Does it again until Postgres answers, with pauses that grow to two seconds."""
    pause = 0.1
    while True:
        try:
            return await work()
        except (CannotReach, PoolTimeout, *AWAY) as error:
            logger.warning("A run waits for Postgres: %s", first_line(error))
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)


# Apply


def take_up(decision_id: str, holder: UUID, was_cut_off: bool = False) -> Lease | None:
    """Two transactions: one that kills its worker while it applies is counted all the same."""
    ids.keep_time()
    epoch = actions.take(decision_id, holder)
    return _apply_and_look(decision_id, epoch, was_cut_off) if epoch else None


def _apply_and_look(decision_id: str, epoch: int, was_cut_off: bool) -> Lease | None:
    """One transaction, for the holder of this epoch. None when there is nothing to run."""
    with transaction.atomic():
        decision = actions.lock_decision(decision_id)
        if not decision.is_open or decision.epoch != epoch:
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
            review.pk,
            graph,
        )
        if was_cut_off:  # what LangGraph noted as a node's error was the outage
            forget_errors(review.thread_id)
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
            return None if _has_way_to_go(lease) else _ended(lease, None)
    except AWAY:
        raise
    except Exception as unreadable:  # state classes and reducers of other people
        return {"state": State.FAILED, "error": in_words(unreadable)}


def _apply(decision: Decision, graph: Graph) -> bool:
    """Whether the decision is now in the thread; if not, it has been ended with the reason."""
    review = decision.review
    if not actions.stands(review):
        actions.supersede(decision)
        return False
    if decision.action in {Decision.Action.CONTINUE, Decision.Action.RERUN}:
        actions.mark_applied(decision, review.checkpoint_id, None, None)
        return True
    try:
        with transaction.atomic():
            made = apply(graph, review, str(decision.pk), actions.effect_of(decision))
            place = (review.thread_id, review.checkpoint_ns, review.checkpoint_id)
            if not follows_alone(*place, made.checkpoint_id, str(decision.pk)):
                raise NotAsked  # the agent was quicker, by less than a moment
    except NotAsked:
        actions.supersede(decision)
        return False
    except AWAY:
        raise
    except Exception as error:
        if not actions.stands(review):  # then that is why
            actions.supersede(decision)
        else:
            actions.end(decision, State.FAILED, error=in_words(error))
        return False
    actions.mark_applied(decision, made.checkpoint_id, made.before, made.after)
    return True


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
    return can_run(lease.graph, state, held)


def _look(lease: Lease, checkpoint_id: str = "") -> StateSnapshot:
    place: Any = {"thread_id": lease.thread_id}
    if checkpoint_id:
        place["checkpoint_id"] = checkpoint_id
    return joined(lease.graph).get_state({"configurable": place}, subgraphs=True)


# Run


async def _run_on(lease: Lease, pool: AsyncConnectionPool[Any]) -> BaseException | None:
    """Runs the thread to its next stop; the exception of a node, if one ended the run."""
    saver = FencedSaver(pool, lease.fence)
    compiled = with_saver(lease.graph, saver)
    try:
        state = await compiled.aget_state({"configurable": {"thread_id": lease.thread_id}})
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
        if not _is_among(error, saver.lost) and await _is_node_error(compiled, lease):
            return error
        raise CannotReach(str(error)) from error
    except Exception as error:
        return error
    return None


def _is_among(error: BaseException, lost: list[BaseException]) -> bool:
    around = (error, error.__cause__, error.__context__)
    return any(one is each for one in around for each in lost)


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
        if ended["state"] == State.FAILED and (due := _due_again(lease.graph, decision, error)):
            node = ended.get("error_node", "")
            actions.try_again(decision, due, node=node, error=ended["error"])
        else:
            actions.end(decision, **ended)


def _due_again(graph: Graph, decision: Decision, error: BaseException | None) -> dt.datetime | None:
    """When reviews.toml has a run tried again whose node raised; never what an answer was to blame
    for, nor what nobody heard raised."""
    retry = graph.review.retry
    if retry is None or error is None or is_invalid_resume(error) or not retry.covers(error):
        return None
    if decision.attempts >= retry.times:
        return None
    pause = min(retry.wait * 2**decision.attempts, LONGEST_WAIT)
    return database_now() + dt.timedelta(seconds=pause)


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


def _ended(lease: Lease, error: BaseException | None) -> dict[str, Any]:
    """What `actions.end` is told, judged by the newest checkpoint that this run wrote.

    Another program may have moved the thread on since: that is its turn, not this run's end. Errors
    that the thread holds are this run's: older ones were forgotten when it was taken up.
    """
    state = _look(lease)
    now_at = state.config["configurable"].get("checkpoint_id")
    if now_at is None:
        return {
            "state": State.SUPERSEDED,
            "error": "It was applied; another program then deleted the thread.",
        }
    taken = isinstance(error, ThreadTaken)
    at = newest_of(lease.thread_id, "", lease.decision_id) or lease.root_checkpoint_id
    moved = at != now_at
    state = _look(lease, at) if moved else state
    failed = failures(lease.graph, state)
    if not taken and (error is not None or failed):
        node, words = failed[0] if failed else ("", "")
        return {
            "state": State.FAILED,
            "checkpoint_after": at,
            "error_node": node,
            "error": clean(in_words(error) if error is not None else words)[:4000],
            "traceback": _traceback(error),
        }
    if is_over(state):
        return {"state": State.FINISHED, "checkpoint_after": at}
    if unanswered(lease.thread_id, waiting(lease.graph, state)):
        return {"state": State.PAUSED, "checkpoint_after": at}
    if moved:
        reason = "It was applied; another program then moved the thread."
        error_words = f"{reason} {STOPPED}" if taken else reason
        return {"state": State.SUPERSEDED, "checkpoint_after": at, "error": error_words}
    return {
        "state": State.FAILED,
        "checkpoint_after": at,
        "error": f"The run stopped before {', '.join(stands_before(state))}, and asks nobody "
        "there. A pause of a graph that LangGraph cannot see inside its node can only be ended by "
        "an admin.",
    }


def _traceback(error: BaseException | None) -> str:
    """Its frames in the agent's own code and what that called, but for those between of LangGraph
    and us; all of them where no other is left."""
    if error is None:
        return ""
    told = TracebackException.from_exception(error)
    chain: list[TracebackException | None] = [told, told.__cause__, told.__context__]
    for one in filter(None, chain):
        agents = [frame for frame in one.stack if not AROUND.search(frame.filename)]
        one.stack = StackSummary.from_list(agents or list(one.stack))
    return clean("".join(told.format()))[-TRACEBACK:]
