"""Checkpoints → reviews. What waits is LangGraph's own answer, asked once per change of a thread.

Triggers note the threads that changed; the loop in every worker takes those notes in one
transaction with what comes of them, so a kill at any instant loses nothing.
"""

import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any

import psycopg
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from langgraph.types import StateSnapshot

from approvals import actions
from approvals.actions import MOVED, Pause
from approvals.clock import database_now
from approvals.errors import AWAY
from approvals.models import Decision, Review, ThreadChange
from approvals.paths import excerpt, fill, pick
from approvals.pauses import Waiting, failures, is_over, stands_before, waiting
from approvals.plain import as_text, clean, digest, jsonable
from approvals.questions import read
from approvals.registry import registry
from approvals.savers import JoiningSaver, joined, raw_connection
from approvals.snapshots import bounded, snapshot
from approvals.tagging import deadline_of, tags_of
from approvals.threads import lock_thread, note_all_threads, note_later
from approvals.tolerant import reading, tolerant
from graphs.registry import Graph

logger = logging.getLogger(__name__)
BATCH = 50
READS = 5
OURS = "The run went on, by a decision that was made here."
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
        notes = cursor.fetchall()
        # A thread of many tasks leaves many notes; one look answers them all.
        cursor.execute(
            """
            DELETE FROM approvals_threadchange WHERE id IN (
                SELECT id FROM approvals_threadchange
                WHERE thread_id = ANY(%s) AND not_before <= clock_timestamp()
                FOR UPDATE SKIP LOCKED)
            RETURNING thread_id, attempts
            """,
            [[thread_id for thread_id, _ in notes]],
        )
        taken: dict[str, int] = {}
        for thread_id, attempts in [*notes, *cursor.fetchall()]:
            taken[thread_id] = max(attempts, taken.get(thread_id, 0))
    return taken


def _capture_one(thread_id: str, attempts: int) -> None:
    try:
        with transaction.atomic():
            unread = capture_thread(thread_id)
    except AWAY:
        raise  # the whole batch again, with its notes
    except Exception as error:
        unread = error
    if unread is not None:
        # One thread that cannot be read must not hold up the others, nor be forgotten.
        tries = attempts + 1
        logger.error("Thread %s is unreadable (try %s)", thread_id, tries, exc_info=unread)
        later = dt.timedelta(seconds=min(2**attempts, LONGEST_PAUSE))
        ThreadChange.objects.filter(thread_id=thread_id, attempts__gt=0).delete()
        ThreadChange.objects.create(
            thread_id=thread_id,
            attempts=min(attempts + 1, 20),
            not_before=database_now() + later,
        )


def capture_thread(thread_id: str) -> Exception | None:
    """Inside a transaction: makes the thread's waiting reviews what LangGraph says they are.

    Where LangGraph cannot read the thread, admins get to see that: the error is returned. The lock
    comes first: without it two captures of one thread, the older finishing last, left a review
    waiting on a finished run for ever.
    """
    lock_thread(thread_id)
    for _ in range(READS):
        head = _head(thread_id)
        unread: Exception | None = None
        try:
            pauses = _pauses(thread_id, head) if head else []
        except _MovedMeanwhile:
            continue
        except (psycopg.Error, DatabaseError):
            raise  # the transaction is broken, or the database away
        except Exception as error:  # state classes and reducers of other people
            pauses, unread = [_unreadable(thread_id, head, error)], error
        actions.project(thread_id, pauses, gone_because(head, pauses))
        return unread
    raise _MovedMeanwhile(thread_id)


class _MovedMeanwhile(Exception):
    """The agent wrote another checkpoint between our two reads; its note is on the way."""


def _head(thread_id: str) -> Any:
    saver = tolerant(JoiningSaver(raw_connection()))
    return saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})


def gone_because(head: Any, pauses: list[Pause]) -> str:
    """Why a review of this thread that waits no more does not."""
    if head is None:
        return "The thread was deleted by another program."
    stalled = next((one.shown for one in pauses if one.kind == Review.Kind.STALLED), None)
    error = (stalled or {}).get("excerpt")
    if stalled and error and not stalled["node"]:
        return str(error)
    if stalled and error:
        return f"Another program resumed the run, and it failed in {stalled['node']}: {error}"
    return OURS if head.metadata.get("decision_id") else MOVED


def _pauses(thread_id: str, head: Any) -> list[Pause]:
    graph, state = attribute(thread_id, head)
    if state is None:
        return _unknown(thread_id, head)
    if state.config["configurable"].get("checkpoint_id") != checkpoint_of(head):
        raise _MovedMeanwhile(thread_id)
    if graph is None:
        return _unsure(thread_id, state)
    held = unanswered(thread_id, waiting(graph, state))
    found = [_pause(graph, state, one, follows(thread_id, one)) for one in held]
    return found or _stalled(graph, state, thread_id)


def checkpoint_of(head: Any) -> str:
    return str(head.config["configurable"]["checkpoint_id"])


def unanswered(thread_id: str, held: list[Waiting]) -> list[Waiting]:
    """Those pauses that no decision of ours has answered.

    A thread that our worker is resuming, or failed to, looks exactly like a paused one.
    """
    if not held:
        return []
    runs = (Decision.Action.CONTINUE, Decision.Action.RERUN)  # of admins, who answer nothing
    here = {one.level.checkpoint_id for one in held}
    ours = Decision.objects.filter(review__thread_id=thread_id, checkpoint_applied__in=here)
    decided = ours.exclude(action__in=runs).values_list(
        "review__checkpoint_ns", "checkpoint_applied", "review__interrupt_id", "goto"
    )
    answered = {tuple(key) for *key, goto in decided if not goto}
    # Where it leads elsewhere, the node that ran last is still the one that was answered for.
    directed = {tuple(key) for *key, goto in decided if goto}
    return [
        one
        for one in held
        if one.key not in answered and not (one.kind == "after" and one.key in directed)
    ]


def follows(thread_id: str, one: Waiting) -> Decision | None:
    """The decision whose run led to this pause: LangGraph keeps its id with each checkpoint."""
    metadata: Any = one.level.state.metadata or {}
    if one.kind == "question":  # several in one node are asked without a checkpoint in between
        last = Decision.objects.filter(
            review__thread_id=thread_id,
            checkpoint_applied=one.level.checkpoint_id,
            review__node=one.node,
        ).order_by("-decided_at")
        if (found := last.select_related("review").first()) is not None:
            return found
    if (sent_back := _sent_back_in(thread_id, one)) is not None:
        return sent_back
    try:
        known = Decision.objects.select_related("review").defer("review__snapshot")
        return known.filter(pk=metadata.get("decision_id"), review__thread_id=thread_id).first()
    except (ValueError, ValidationError):
        return None


def _sent_back_in(thread_id: str, one: Waiting) -> Decision | None:
    """The answer that sent this subgraph's draft back, though the run was another's.

    Where subgraphs wait side by side, the thread runs on with the last of their decisions.
    """
    if not one.level.checkpoint_ns:
        return None
    applied = Decision.objects.filter(
        review__thread_id=thread_id,
        review__checkpoint_ns=one.level.checkpoint_ns,
        checkpoint_applied__gt="",
        checkpoint_applied__lt=one.level.checkpoint_id,
    )
    last = applied.select_related("review").defer("review__snapshot")
    found = last.order_by("-checkpoint_applied").first()
    return found if found and found.action == Decision.Action.SEND_BACK else None


def attribute(thread_id: str, head: Any) -> tuple[Graph | None, StateSnapshot | None]:
    """The graph of a thread and its snapshot.

    By `graph_id` in the checkpoint's metadata, else the graph of the thread's earlier cases, else
    the one registered graph that waits here, else the default; (None, snapshot) when several might
    be meant.
    """
    named = registry().get(str(head.metadata.get("graph_id", "")))
    if named is not None:
        return named, _state(named, thread_id)
    if head.metadata.get("graph_id"):
        return None, None
    if (known := _known_before(thread_id)) is not None:
        return known, _state(known, thread_id)
    states = {graph.id: _state_or_none(graph, thread_id) for graph in registry()}
    fits = {k: s for k, s in states.items() if s and waiting(registry().graphs[k], s)}
    own = {k: s for k, s in (fits or states).items() if s and not is_over(s) and _knows(k, head)}
    candidates = own or fits
    chosen = registry().default_graph if len(candidates) > 1 else next(iter(candidates), None)
    if chosen in candidates:
        return registry().graphs[chosen], candidates[chosen]
    return None, next(iter(fits.values()), None)


def _known_before(thread_id: str) -> Graph | None:
    """The graph that this thread's cases were of: a program that resumes it may not name it."""
    told = Review.objects.filter(thread_id=thread_id).exclude(graph="").order_by("-pk")
    return registry().get(told.values_list("graph", flat=True).first() or "")


def _state(graph: Graph, thread_id: str) -> StateSnapshot:
    # Not by checkpoint_id: so asked, LangGraph leaves out the answers that came as writes.
    config: Any = {"configurable": {"thread_id": thread_id}}
    return reading(joined(graph)).get_state(config, subgraphs=True)


def _state_or_none(graph: Graph, thread_id: str) -> StateSnapshot | None:
    """The thread as this graph reads it; a thread of another graph may make no sense to it."""
    try:
        return _state(graph, thread_id)
    except AWAY:
        raise
    except Exception:
        return None


def _knows(graph_id: str, head: Any) -> bool:
    """Whether every field of the checkpoint is a field of the graph's state."""
    fields = {k for k in head.checkpoint["channel_values"] if not k.startswith(("__", "branch:"))}
    return fields <= registry().graphs[graph_id].channels


# What is shown


def _pause(graph: Graph, root: StateSnapshot, one: Waiting, after: Decision | None) -> Pause:
    state, review = one.level.state, graph.review
    pause: dict[str, Any] = {"kind": one.kind, "nodes": list(one.nodes)}
    if one.question is not None:
        state = _of_its_own(state, one)
        pause["question"] = jsonable(one.question.value)
        pause["schema"] = jsonable(one.question.response_schema)
    around = {"around": jsonable(root.values)} if one.level.checkpoint_ns else {}
    failed = [f"{node}: {error}" for node, error in failures(graph, root)]
    shown = snapshot(state, whole=review.editable_fields, pause=pause, **around)
    columns = _columns(graph, shown, one.level.place["thread_id"])
    if one.question is not None:
        columns["excerpt"] = excerpt(asked(pause), 200) or columns["excerpt"]
    if failed:
        shown["pause"]["failed"] = clean("; ".join(failed))[:4000]
    again = after is not None and after.action == Decision.Action.SEND_BACK
    return Pause(
        *one.key,
        {
            **_row(shown, one.node, graph.id, one.kind, **columns),
            "root_checkpoint_id": str(root.config["configurable"]["checkpoint_id"]),
            "follows": after,
            "round": after.review.round + 1 if after and again else 1,
        },
    )


def _of_its_own(state: StateSnapshot, one: Waiting) -> StateSnapshot:
    """The state with the task that asks alone: others of the step ask and end for themselves."""
    asking = [t for t in state.tasks if any(i.id == one.interrupt_id for i in t.interrupts)]
    return state._replace(tasks=tuple(asking), next=(one.node,))


def asked(pause: dict[str, Any]) -> str:
    """A question in a line."""
    question = read(pause["question"], pause["schema"])
    if question.calls:
        return ", ".join(call.name for call in question.calls)
    return question.text or as_text(question.value)


def _columns(graph: Graph, shown: dict[str, Any], thread_id: str) -> dict[str, Any]:
    review = graph.review
    since = dt.datetime.fromisoformat(shown["created_at"])
    values = {**(shown.get("around") or {}), **shown["values"]}
    return {
        "title": fill(review.title, values) or thread_id[:200],
        "who": _text(pick(values, review.who))[:200],
        "risk": _text(pick(values, review.risk))[:50],
        "excerpt": excerpt(_text(pick(values, review.response)), 200) if review.response else "",
        "tags": tags_of(pick(values, review.tags)) if review.tags else [],
        "deadline": deadline_of(
            pick(values, review.deadline) if review.deadline else None, since, review.respond_within
        ),
    }


def _row(
    shown: dict[str, Any], node: str, graph_id: str, kind: str, **columns: Any
) -> dict[str, Any]:
    return {
        **columns,
        "graph": graph_id,
        "node": node,
        "kind": kind,
        "snapshot": shown,
        "digest": digest(shown),
        "waiting_since": dt.datetime.fromisoformat(shown["created_at"]),
    }


def _stalled(graph: Graph, state: StateSnapshot, thread_id: str) -> list[Pause]:
    """A run that has nodes to run and is run by nobody: at once if one failed, else after a while.

    A living agent's run looks the same between two checkpoints.
    """
    if is_over(state) or _is_running(thread_id):
        return []
    failed = failures(graph, state)
    quiet = dt.timedelta(seconds=graph.review.stalled_after)
    due = dt.datetime.fromisoformat(state.created_at or "") + quiet
    if not failed and due > database_now():
        note_later(thread_id, due)
        return []
    return [broken_off(graph, state, thread_id)]


def broken_off(graph: Graph, state: StateSnapshot, thread_id: str) -> Pause:
    """A run that stands between two nodes, as admins are shown it."""
    nodes = stands_before(state)
    node, error = next(iter(failures(graph, state)), ((*nodes, "")[0], ""))
    pause: Any = {"kind": "stalled", "nodes": nodes, "error": clean(error)[:4000]}
    shown = snapshot(state, pause=pause)
    columns = _columns(graph, shown, thread_id)
    columns["excerpt"] = excerpt(pause["error"], 200)
    row = _row(shown, node, graph.id, Review.Kind.STALLED, **columns)
    return Pause(
        "", shown["checkpoint_id"], "", {**row, "root_checkpoint_id": shown["checkpoint_id"]}
    )


def _unreadable(thread_id: str, head: Any, error: Exception) -> Pause:
    """A thread that LangGraph itself cannot read, from its bare checkpoint."""
    channels = head.checkpoint.get("channel_values", {})
    named = registry().get(str(head.metadata.get("graph_id", "")))
    said = clean(f"LangGraph cannot read this thread: {type(error).__name__}: {error}")[:4000]
    at = checkpoint_of(head)
    full: dict[str, Any] = {
        "values": jsonable({k: v for k, v in channels.items() if not k.startswith("__")}),
        "next": [],
        "tasks": [],
        "metadata": jsonable(dict(head.metadata)),
        "created_at": head.checkpoint["ts"],
        "checkpoint_id": at,
        "pause": {"kind": "stalled", "nodes": [], "error": said},
    }
    shown = bounded(full)
    columns = _columns(named, shown, thread_id) if named else {"title": thread_id[:200]}
    columns["excerpt"] = excerpt(said, 200)
    row = _row(shown, "", named.id if named else "", Review.Kind.STALLED, **columns)
    return Pause("", at, "", {**row, "root_checkpoint_id": at})


def _is_running(thread_id: str) -> bool:
    return Decision.objects.filter(
        review__thread_id=thread_id, state=Decision.State.APPLIED
    ).exists()


def _unsure(thread_id: str, state: StateSnapshot) -> list[Pause]:
    """A pause that several graphs might have made: looked at, not decided."""
    node = state.next[0] if state.next else ""
    shown = snapshot(state)
    title = f"Unknown graph: {thread_id}"[:200]
    row = _row(shown, node, "", Review.Kind.UNKNOWN, title=title)
    return [Pause("", shown["checkpoint_id"], "", row)]


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
    full = {
        "values": values,
        "next": nodes,
        "tasks": [],
        "metadata": jsonable(dict(head.metadata)),
        "created_at": head.checkpoint["ts"],
        "checkpoint_id": checkpoint_of(head),
    }
    shown = bounded(full)
    title = f"Unknown graph: {head.metadata.get('graph_id') or thread_id}"[:200]
    row = _row(shown, nodes[0], "", Review.Kind.UNKNOWN, title=title)
    return [Pause("", shown["checkpoint_id"], "", row)]


def _text(value: Any) -> str:
    return "" if value is None else as_text(value)


def reconcile() -> Iterable[int]:
    """Rebuilds the reviews from the checkpoints; yields the number of threads done so far."""
    note_all_threads()
    done = 0
    while taken := capture_batch():
        done += taken
        yield done
