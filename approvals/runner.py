"""Decision → `aupdate_state` → `ainvoke(None)` → outcome.

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
from langgraph.types import StateSnapshot
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, events
from approvals.capture import waiting_nodes
from approvals.errors import AWAY
from approvals.models import Decision
from approvals.plain import clean, jsonable
from approvals.registry import registry
from approvals.savers import FencedSaver, LeaseLost, joined, with_saver
from approvals.threads import head, newest_of
from approvals.update import Dropped, SentApart, update
from graphs.registry import Graph

logger = logging.getLogger(__name__)
State = Decision.State
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


# What LangGraph itself writes in a checkpoint's metadata, and what is ours.
RESERVED = {
    *("source", "step", "parents", "writes", "run_id", "thread_id", "checkpoint_ns"),
    *("checkpoint_id", "checkpoint_map", "graph_id", "decision_id"),
}


@dataclass(frozen=True)
class Lease:
    """This worker's hold on one run of one decision."""

    decision_id: str
    epoch: int
    thread_id: str
    checkpoint_ns: str
    checkpoint_applied: str
    retried: bool
    review_id: int
    graph: Graph

    def config(self, metadata: Any) -> Any:
        """For a run of the thread whose head has this metadata."""
        return run_config(
            self.thread_id, self.checkpoint_ns, self.decision_id, self.graph, metadata
        )


def run_config(
    thread_id: str, checkpoint_ns: str, decision_id: str, graph: Graph, metadata: Any
) -> Any:
    """The config of the agent's own run, as its checkpoints tell it, with the decision's id.

    LangGraph keeps the plain values of `configurable` in each checkpoint's metadata: a node that
    asks for its `user_id` finds it after an approval too.
    """
    kept = {k: v for k, v in (metadata or {}).items() if k not in RESERVED}
    return {
        "configurable": {
            **{k: v for k, v in kept.items() if not k.startswith(("langgraph_", "__"))},
            "thread_id": thread_id,
            "checkpoint_ns": checkpoint_ns,
            "decision_id": decision_id,
        },
        "metadata": {"decision_id": decision_id, "graph_id": graph.id},
    }


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
    """One transaction. None when there is nothing left to do."""
    with transaction.atomic():
        decision = actions.take(decision_id)
        if decision is None:
            return None
        graph = registry().get(decision.review.graph)
        if graph is None:
            actions.end(
                decision,
                State.FAILED,
                error=f"The graph {decision.review.graph!r} is not registered here any more.",
            )
            return None
        if decision.state == State.PENDING and not _apply(decision, graph):
            return None
        review = decision.review
        return Lease(
            str(decision.pk),
            decision.epoch,
            review.thread_id,
            review.checkpoint_ns,
            decision.checkpoint_applied,
            bool(decision.error),
            review.pk,
            graph,
        )


def _apply(decision: Decision, graph: Graph) -> bool:
    """Whether the decision is now in the thread; if not, it has been ended with the reason."""
    review = decision.review
    now_at = head(review.thread_id, review.checkpoint_ns)
    if now_at != review.checkpoint_id:
        reason = "The thread was deleted" if now_at is None else "The thread moved on"
        actions.end(
            decision,
            State.SUPERSEDED,
            checkpoint_after=now_at or "",
            error=f"{reason} before the decision could be applied. Nothing of it was sent.",
        )
        return False
    compiled = joined(graph)
    place: Any = {"thread_id": review.thread_id, "checkpoint_ns": review.checkpoint_ns}
    try:
        with transaction.atomic():
            before = compiled.get_state({"configurable": place})
            config = run_config(
                review.thread_id, review.checkpoint_ns, str(decision.pk), graph, before.metadata
            )
            applied, after = update(compiled, config, decision.values)
    except AWAY:
        raise
    except Exception as error:
        actions.end(decision, State.FAILED, error=_words(error))
        return False
    actions.mark_applied(
        decision, applied, _only(before, decision.values), _only(after, decision.values)
    )
    return True


def _only(state: StateSnapshot, keys: Any) -> dict[str, Any]:
    return {key: jsonable(state.values.get(key)) for key in keys}


def _words(error: BaseException) -> str:
    if isinstance(error, Dropped | SentApart):
        return " ".join((type(error).__doc__ or "").split())
    return str(jsonable(f"{type(error).__name__}: {error}"))[:4000]


# Run


async def _run_on(lease: Lease, pool: AsyncConnectionPool[Any]) -> BaseException | None:
    """Runs the thread to its next stop; the exception of a node, if one ended the run."""
    compiled = with_saver(lease.graph, FencedSaver(pool, lease.decision_id, lease.epoch))
    try:
        state = await compiled.aget_state({"configurable": {"thread_id": lease.thread_id}})
        if not _has_way_to_go(lease, state):
            return None
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


def _has_way_to_go(lease: Lease, state: StateSnapshot) -> bool:
    """Whether the run has nodes left to run before its next stop.

    Answers for a job that is repeated: a run that paused again must not be pushed through its
    next question with this decision, nor the agent's own next turn be run with it.
    """
    if (state.metadata or {}).get("decision_id") != lease.decision_id or not state.next:
        return False
    if any(task.error for task in state.tasks):
        return lease.retried
    if state.config["configurable"]["checkpoint_id"] == lease.checkpoint_applied:
        return not any(task.interrupts for task in state.tasks)
    return not waiting_nodes(state, set(lease.graph.review.approval_nodes))


async def _is_node_error(compiled: Any, lease: Lease) -> bool:
    """A node may talk to a database of its own: what it raised is written in the thread."""
    try:
        state = await compiled.aget_state({"configurable": {"thread_id": lease.thread_id}})
    except (psycopg.Error, PoolTimeout):
        return False
    return any(task.error for task in state.tasks)


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
        except AWAY:
            raise
        except Exception as unreadable:
            ended = {"state": State.FAILED, "error": _words(unreadable)}
        actions.end(decision, **ended)


def _ended(lease: Lease, error: BaseException | None) -> dict[str, Any]:
    """What `actions.end` is told, judged by the newest checkpoint that this run wrote.

    Another program may have moved the thread on since: that is its turn, not this run's end.
    """
    at = newest_of(lease.thread_id, lease.checkpoint_ns, lease.decision_id)
    if at is None:
        return {
            "state": State.SUPERSEDED,
            "error": "It was applied; another program then deleted the thread.",
        }
    place: Any = {"thread_id": lease.thread_id}
    if at != head(lease.thread_id, lease.checkpoint_ns):
        place["checkpoint_id"] = at
    state = joined(lease.graph).get_state({"configurable": place})
    failed = next((task for task in state.tasks if task.error), None)
    if error is not None or failed is not None:
        words = _words(error) if error is not None else clean(str(failed and failed.error))
        return {
            "state": State.FAILED,
            "checkpoint_after": at,
            "error_node": failed.name if failed else "",
            "error": words[:4000],
        }
    if not state.next:
        return {"state": State.FINISHED, "checkpoint_after": at}
    approval = set(lease.graph.review.approval_nodes)
    if "checkpoint_id" not in place or waiting_nodes(state, approval):
        return {"state": State.PAUSED, "checkpoint_after": at}
    return {
        "state": State.SUPERSEDED,
        "checkpoint_after": at,
        "error": "It was applied; another program then moved the thread.",
    }
