"""Checkpoints → reviews. What waits is LangGraph's own answer, asked once per change of a thread.

Triggers note the threads that changed; the loop in every worker takes those notes in one
transaction with what comes of them, so a kill at any instant loses nothing.
"""

import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction
from langgraph.types import StateSnapshot

from approvals import actions
from approvals.actions import Pause
from approvals.clock import database_now
from approvals.errors import AWAY
from approvals.models import Decision, ThreadChange
from approvals.paths import excerpt, fill, pick
from approvals.plain import digest, jsonable
from approvals.registry import registry
from approvals.savers import JoiningSaver, joined, raw_connection
from approvals.threads import lock_thread, note_all_threads
from graphs.registry import Graph

logger = logging.getLogger(__name__)
BATCH = 50
READS = 5
LONGEST_PAUSE = 600  # seconds between tries of a thread that cannot be read


def capture_batch() -> int:
    """Takes up to BATCH notes of changed threads; returns how many it took."""
    with transaction.atomic():
        taken = _take_notes()
        for thread_id in sorted(taken):  # sorted: two loops never wait for each other in a ring
            _capture_one(thread_id, taken[thread_id])
        return len(taken)


def _take_notes() -> dict[str, int]:
    """Threads noted, with the attempts that failed so far. Gone if this transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM approvals_threadchange WHERE id IN (
                SELECT id FROM approvals_threadchange WHERE not_before <= clock_timestamp()
                ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING thread_id, attempts
            """,
            [BATCH],
        )
        taken: dict[str, int] = {}
        for thread_id, attempts in cursor.fetchall():
            taken[thread_id] = max(attempts, taken.get(thread_id, 0))
    return taken


def _capture_one(thread_id: str, attempts: int) -> None:
    try:
        with transaction.atomic():
            capture_thread(thread_id)
    except AWAY:
        raise  # the whole batch again, with its notes
    except Exception:
        # One thread that cannot be read must not hold up the others, nor be forgotten.
        logger.exception("Thread %s could not be captured (attempt %s)", thread_id, attempts + 1)
        later = dt.timedelta(seconds=min(2**attempts, LONGEST_PAUSE))
        ThreadChange.objects.filter(thread_id=thread_id, attempts__gt=0).delete()
        ThreadChange.objects.create(
            thread_id=thread_id,
            attempts=min(attempts + 1, 20),
            not_before=database_now() + later,
        )


def capture_thread(thread_id: str) -> None:
    """Inside a transaction: makes the thread's waiting reviews what LangGraph says they are.

    The lock comes first: without it two captures of one thread, the older finishing last, left
    a review waiting on a finished run for ever.
    """
    lock_thread(thread_id)
    for _ in range(READS):
        head = _head(thread_id)
        try:
            pauses = _pauses(thread_id, head) if head else []
        except _MovedMeanwhile:
            continue
        actions.project(thread_id, pauses, deleted=head is None)
        return
    raise _MovedMeanwhile(thread_id)


class _MovedMeanwhile(Exception):
    """The agent wrote another checkpoint between our two reads; its note is on the way."""


def _head(thread_id: str) -> Any:
    saver = JoiningSaver(raw_connection())
    return saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})


def _pauses(thread_id: str, head: Any) -> list[Pause]:
    checkpoint_id = head.config["configurable"]["checkpoint_id"]
    if _is_ours(thread_id, checkpoint_id):
        return []
    graph, state = attribute(thread_id, head)
    if state is None:
        return _unknown(thread_id, head)
    if state.config["configurable"].get("checkpoint_id") != checkpoint_id:
        raise _MovedMeanwhile(thread_id)
    approval = set(graph.review.approval_nodes) if graph else registry().approval_nodes()
    return [
        Pause("", checkpoint_id, interrupt_id, _shown(graph, state, node, thread_id))
        for node, interrupt_id in waiting_nodes(state, approval)
    ]


def _is_ours(thread_id: str, checkpoint_id: str) -> bool:
    # A thread that our worker is resuming, or failed to, looks exactly like a paused one.
    return Decision.objects.filter(
        checkpoint_applied=checkpoint_id,
        review__thread_id=thread_id,
        state__in=[Decision.State.APPLIED, Decision.State.FAILED],
    ).exists()


def waiting_nodes(state: StateSnapshot, approval: set[str]) -> list[tuple[str, str]]:
    """(node, interrupt id or "") of each pause of a snapshot. A task with an error is no pause.

    Static pauses of one checkpoint are one review: one answer lets all its nodes run.
    """
    asked = [(task.name, one.id) for task in state.tasks for one in task.interrupts]
    if asked or any(task.error for task in state.tasks):
        return asked
    static = [name for name in state.next if name in approval]
    return [(static[0], "")] if static else []


def attribute(thread_id: str, head: Any) -> tuple[Graph | None, StateSnapshot | None]:
    """The graph of a thread and its snapshot.

    By `graph_id` in the checkpoint's metadata, else the one registered graph that waits before
    an approval node here, else the default; (None, snapshot) when several might be meant.
    """
    named = registry().get(str(head.metadata.get("graph_id", "")))
    if named is not None:
        return named, _state(named, thread_id)
    if head.metadata.get("graph_id"):
        return None, None
    states = {graph.id: _state_or_none(graph, thread_id) for graph in registry()}
    fits = {k: s for k, s in states.items() if s and (set(s.next) & _approval(k) or _asks(s))}
    own = {k: s for k, s in fits.items() if _knows(k, head)}
    candidates = own or fits
    chosen = registry().default_graph if len(candidates) > 1 else next(iter(candidates), None)
    if chosen in candidates:
        return registry().graphs[chosen], candidates[chosen]
    return None, next(iter(candidates.values()), None)


def _state(graph: Graph, thread_id: str) -> StateSnapshot:
    # Not by checkpoint_id: so asked, LangGraph leaves out the answers that came as writes.
    return joined(graph).get_state({"configurable": {"thread_id": thread_id}})


def _state_or_none(graph: Graph, thread_id: str) -> StateSnapshot | None:
    """The thread as this graph reads it; a thread of another graph may make no sense to it."""
    try:
        return _state(graph, thread_id)
    except AWAY:
        raise
    except Exception:
        return None


def _approval(graph_id: str) -> set[str]:
    return set(registry().graphs[graph_id].review.approval_nodes)


def _asks(state: StateSnapshot) -> bool:
    return any(task.interrupts for task in state.tasks)


def _knows(graph_id: str, head: Any) -> bool:
    """Whether every field of the checkpoint is a field of the graph's state."""
    fields = {k for k in head.checkpoint["channel_values"] if not k.startswith(("__", "branch:"))}
    return fields <= registry().graphs[graph_id].channels


def _unknown(thread_id: str, head: Any) -> list[Pause]:
    """A pause of a graph that nobody registered: shown to admins, decided by nobody.

    Without the graph there is no asking LangGraph; a trigger channel to a node that some
    registered graph approves in is the sign, good enough to say "look here".
    """
    channels = head.checkpoint["channel_values"]
    approval = registry().approval_nodes()
    nodes = [k[10:] for k in channels if k.startswith("branch:to:") and k[10:] in approval]
    if not nodes:
        return []
    values = jsonable({k: v for k, v in channels.items() if not k.startswith(("__", "branch:"))})
    shown = {
        "values": values,
        "next": nodes,
        "tasks": [],
        "metadata": jsonable(dict(head.metadata)),
        "created_at": head.checkpoint["ts"],
        "checkpoint_id": head.config["configurable"]["checkpoint_id"],
    }
    title = f"Unknown graph: {head.metadata.get('graph_id') or thread_id}"[:200]
    return [Pause("", shown["checkpoint_id"], "", _row(shown, nodes[0], "", title=title))]


def _shown(graph: Graph | None, state: StateSnapshot, node: str, thread_id: str) -> dict[str, Any]:
    shown = snapshot(state)
    if graph is None:
        return _row(shown, node, "", title=f"Unknown graph: {thread_id}"[:200])
    values, review = shown["values"], graph.review
    return _row(
        shown,
        node,
        graph.id,
        title=fill(review.title, values) or thread_id[:200],
        who=_text(pick(values, review.who))[:200],
        risk=_text(pick(values, review.risk))[:50],
        excerpt=excerpt(_text(pick(values, review.response)), 200),
    )


def _row(shown: dict[str, Any], node: str, graph_id: str, **columns: str) -> dict[str, Any]:
    return {
        **columns,
        "graph": graph_id,
        "node": node,
        "snapshot": shown,
        "digest": digest(shown),
        "waiting_since": dt.datetime.fromisoformat(shown["created_at"]),
    }


def snapshot(state: StateSnapshot) -> dict[str, Any]:
    """A state as plain JSON, as it will be shown and hashed: the evidence of what was seen."""
    return {
        "values": jsonable(state.values),
        "next": list(state.next),
        "tasks": [
            {
                "name": task.name,
                "error": jsonable(str(task.error)) if task.error else None,
                "interrupts": jsonable([{"id": i.id, "value": i.value} for i in task.interrupts]),
            }
            for task in state.tasks
        ],
        "metadata": jsonable(dict(state.metadata or {})),
        "created_at": state.created_at,
        "checkpoint_id": state.config["configurable"]["checkpoint_id"],
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def reconcile() -> Iterable[int]:
    """Rebuilds the reviews from the checkpoints; yields the number of threads done so far."""
    note_all_threads()
    done = 0
    while taken := capture_batch():
        done += taken
        yield done
