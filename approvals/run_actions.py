"""What admins do to runs that broke off: continue, end, delete; and run again from a checkpoint.

As everywhere: one action = one transaction + its audit entry + a nudge. Lock, guard, write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import StateSnapshot

from approvals import audit
from approvals.actions import enqueue, locked_review, refusing, stands
from approvals.applying import in_words, run_config
from approvals.audit import Actor
from approvals.capture import broken_off
from approvals.clock import database_now
from approvals.errors import (
    AWAY,
    AlreadyDecided,
    ApprovalError,
    Conflict,
    Invalid,
    Moved,
    NotAllowed,
    Stale,
)
from approvals.events import nudge
from approvals.models import AuditEntry, Decision, Review
from approvals.pauses import waiting
from approvals.policies import Policy
from approvals.registry import registry
from approvals.savers import JoiningSaver, joined, raw_connection
from approvals.update import end, fork
from graphs.registry import Compiled, Graph

Action, State = Decision.Action, Decision.State
FAILED_AGAIN = "It was continued, and failed again. Retry it, or end the run."


@dataclass(frozen=True)
class Sight:
    """What an admin's form was made from: the run as they saw it, and the form's own key."""

    digest: str
    key: UUID


def continue_run(actor: Actor, review_id: int, sight: Sight) -> Decision:
    """Has a worker run a stalled thread on from where it stands.

    Raises NotAllowed; Conflict when it moved, or somebody was first. The same form sent twice gives
    the first answer again.
    """
    with refusing(actor, review_id=review_id):
        review = locked_review(review_id)
        if (known := _repeated(actor, sight.key)) is not None:
            return known
        _guard(actor, review, sight)
        _graph_of(review)
        _nothing_to_retry(actor, review.thread_id, f"{actor.name} had the run go on.")
        return _take_up(actor, review, Action.CONTINUE, sight.key, AuditEntry.Action.CONTINUED)


def end_run(actor: Actor, review_id: int, sight: Sight) -> None:
    """Writes a checkpoint after which nothing comes next. What was done stays done."""
    with refusing(actor, review_id=review_id):
        review = locked_review(review_id)
        _guard(actor, review, sight, even_failed=True)
        graph = _graph_of(review)
        compiled = joined(graph)
        with _foreign():
            at = end(compiled, _config(compiled, review, graph))
        _close(actor, review, AuditEntry.Action.ENDED, f"Ended by {actor.name}.", at)


def delete_thread(actor: Actor, review_id: int, sight: Sight) -> None:
    """Deletes every checkpoint of a thread, of any graph. Its reviews and audit entries stay."""
    with refusing(actor, review_id=review_id):
        review = locked_review(review_id)
        _guard(actor, review, sight, even_failed=True)
        JoiningSaver(raw_connection()).delete_thread(review.thread_id)
        _close(actor, review, AuditEntry.Action.DELETED, f"Deleted by {actor.name}.", "")


def run_again(actor: Actor, review_id: int, checkpoint_id: str, key: UUID) -> Decision:
    """Forks the thread at an older checkpoint, and runs it on from there where it has nodes to run.

    Where the fork pauses at once, the decision has ended so, and the pause is a case of its own.
    Raises NotAllowed, Conflict while a decision of this thread is under way, Invalid.
    """
    with refusing(actor, review_id=review_id):
        review = locked_review(review_id)
        if (known := _repeated(actor, key)) is not None:
            return known
        _refuse_while_busy(review.thread_id)
        with _foreign():
            return _fork(actor, review, _graph_of(review), checkpoint_id, key)


@contextmanager
def _foreign() -> Iterator[None]:
    """What a graph's own state classes, reducers and edges raise, told to the admin."""
    try:
        yield
    except (ApprovalError, *AWAY):
        raise
    except Exception as error:
        raise Invalid(f"LangGraph cannot do this: {in_words(error)} Nothing was done.") from error


def _repeated(actor: Actor, key: UUID) -> Decision | None:
    """The decision that this very form made before, if it did."""
    if not Policy(actor.user).tends_runs:
        raise NotAllowed("Only admins tend runs.")
    return Decision.objects.filter(idempotency_key=key, actor=actor.user).first()


def _guard(actor: Actor, review: Review, sight: Sight, even_failed: bool = False) -> None:
    """`even_failed`: also where it was continued, and failed once more in the same place."""
    if not Policy(actor.user).tends_runs:
        raise NotAllowed("Only admins tend runs.")
    if review.kind != Review.Kind.STALLED:
        raise Invalid("This run waits for a person: decide it, or undo its decision.")
    failed = review.decisions.filter(state=State.FAILED).exists()
    if review.status == Review.Status.DECIDED and not (failed and even_failed):
        raise Conflict(FAILED_AGAIN) if failed else AlreadyDecided
    if review.status == Review.Status.SUPERSEDED or not stands(review):
        raise Moved(review.ended_because)
    if sight.digest != review.digest:
        raise Stale
    _refuse_while_busy(review.thread_id)  # a retry of a failed decision stands in the same place


def _graph_of(review: Review) -> Graph:
    graph = registry().get(review.graph)
    if graph is None:
        raise Invalid("The graph of this thread is not registered here, so nothing can run it.")
    return graph


def _config(compiled: Compiled, review: Review, graph: Graph) -> Any:
    place: Any = {"configurable": {"thread_id": review.thread_id}}
    metadata = compiled.get_state(place).metadata
    config = run_config(review.thread_id, "", graph, metadata)
    del config["configurable"]["decision_id"], config["metadata"]["decision_id"]
    return config


def _take_up(
    actor: Actor, review: Review, action: Decision.Action, key: UUID, noted: AuditEntry.Action
) -> Decision:
    decision = _decided(actor, review, key, action=action, apply_after=database_now())
    audit.record(actor, noted, review=review, decision=decision)
    enqueue(decision)
    return decision


def _decided(actor: Actor, review: Review, key: UUID, **fields: Any) -> Decision:
    review.status = Review.Status.DECIDED
    review.save(update_fields=["status"])
    nudge(review.pk, review.graph)
    return Decision.objects.create(
        review=review,
        actor=actor.user,
        idempotency_key=key,
        values={},
        decided_at=database_now(),
        **fields,
    )


def _close(
    actor: Actor, review: Review, action: AuditEntry.Action, because: str, checkpoint_id: str
) -> None:
    _leave_open_ones(actor, review.thread_id, because, told=review)
    _nothing_to_retry(actor, review.thread_id, because)
    audit.record(actor, action, review=review, checkpoint_after=checkpoint_id, note=because)


def _leave_open_ones(
    actor: Actor, thread_id: str, because: str, told: Review | None = None
) -> None:
    """What waited on this thread waits no more. The act's own entry tells so of `told`."""
    for one in Review.objects.filter(thread_id=thread_id):
        if not one.is_open:
            continue
        one.status, one.ended_because = Review.Status.SUPERSEDED, because
        one.save(update_fields=["status", "ended_because"])
        if one != told:
            audit.record(actor, AuditEntry.Action.MOVED, review=one, note=because)
        nudge(one.pk, one.graph)


def _nothing_to_retry(actor: Actor, thread_id: str, because: str) -> None:
    """Decisions whose run failed here: what was left of it has been taken out of their hands.

    Else they would be listed as failed for ever, each retry finding nothing to run.
    """
    failed = Decision.objects.filter(review__thread_id=thread_id, state=State.FAILED)
    for one in failed.exclude(checkpoint_applied="").select_related("review"):
        one.state, one.error = State.SUPERSEDED, because
        one.save(update_fields=["state", "error"])
        audit.record(actor, AuditEntry.Action.SUPERSEDED, decision=one, note=because)
        nudge(one.review_id, one.review.graph)


def _refuse_while_busy(thread_id: str) -> None:
    busy = Decision.objects.filter(
        review__thread_id=thread_id, state__in=[State.PENDING, State.APPLIED]
    )
    if busy.exists():
        raise Conflict("A decision of this thread is under way. Wait until it has ended.")


def _fork(actor: Actor, review: Review, graph: Graph, checkpoint_id: str, key: UUID) -> Decision:
    thread_id, decision_id = review.thread_id, uuid4()
    compiled = joined(graph)
    at = fork(compiled, _checkpoint(compiled, thread_id, checkpoint_id), str(decision_id))
    because = f"{actor.name} ran the thread again from a checkpoint."
    _leave_open_ones(actor, thread_id, because)
    _nothing_to_retry(actor, thread_id, because)
    state = compiled.get_state({"configurable": {"thread_id": thread_id}}, subgraphs=True)
    made = Review.objects.create(
        thread_id=thread_id, checkpoint_id=at, **broken_off(graph, state, thread_id).shown
    )
    decision = _decided(
        actor, made, key, id=decision_id, action=Action.RERUN, **_way(graph, state, at)
    )
    audit.record(
        actor,
        AuditEntry.Action.FORKED,
        decision=decision,
        checkpoint_before=checkpoint_id,
        checkpoint_after=at,
        note=f"from {checkpoint_id}",
    )
    if decision.is_open:
        enqueue(decision)
    return decision


def _checkpoint(compiled: Compiled, thread_id: str, checkpoint_id: str) -> CheckpointTuple:
    saver: Any = compiled.checkpointer
    place = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
    named = checkpoint_id and "\x00" not in checkpoint_id
    found: CheckpointTuple | None = saver.get_tuple({"configurable": place}) if named else None
    if found is None:
        raise Invalid("The thread has no such checkpoint any more.")
    return found


def _way(graph: Graph, state: StateSnapshot, at: str) -> dict[str, Any]:
    """How far a fork has to go: on, by a worker; or nowhere, where it pauses or ends at once."""
    now = database_now()
    ended = {"ended_at": now, "applied_at": now, "checkpoint_applied": at, "checkpoint_after": at}
    if not state.next:
        return {"apply_after": now, "state": State.FINISHED, **ended}
    if waiting(graph, state):
        return {"apply_after": now, "state": State.PAUSED, **ended}
    return {"apply_after": now}
