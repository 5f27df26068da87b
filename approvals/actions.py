"""The only writer. One action = one transaction + its audit entry + a nudge on commit.

Lock, then guard, then write. The order of locks is the same everywhere: the thread's advisory
lock, the decision, the review.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Now
from django.utils import translation
from procrastinate.contrib.django import app as queue
from procrastinate.contrib.django.models import ProcrastinateJob

from approvals import audit, claims, ids
from approvals.answering import forget_errors
from approvals.answers import Effect, Order, effect
from approvals.applying import rehearse
from approvals.audit import CAPTURE, WORKER, Actor
from approvals.clock import database_now
from approvals.errors import (
    AlreadyDecided,
    ApprovalError,
    Conflict,
    Held,
    Invalid,
    Moved,
    NotAllowed,
    Stale,
    TooLate,
    is_locked,
)
from approvals.events import nudge
from approvals.models import AuditEntry, Decision, Review, ThreadChange
from approvals.paths import pick
from approvals.plain import clean
from approvals.policies import Policy
from approvals.registry import registry
from approvals.threads import forks, head, lock_thread
from approvals.update import Update
from graphs.registry import Graph, ReviewSettings

RESUME_TASK = "approvals.resume"
SNOOZE = ["snoozed_by", "snoozed_until"]
LOOKED = [AuditEntry.Action.OPENED, AuditEntry.Action.DECIDED, AuditEntry.Action.UNDONE]
LOOKED_LATELY = dt.timedelta(minutes=30)
LOST_AFTER = dt.timedelta(seconds=10)
SWEPT = 500  # decisions at a time
State = Decision.State


def open_review(actor: Actor, review: Review) -> None:
    """Records that a person looked, once per half hour: deciding and reloading show it again."""
    lately = AuditEntry.objects.filter(
        review=review, actor=actor.user, at__gt=Now() - LOOKED_LATELY, action__in=LOOKED
    )
    if not lately.exists():
        audit.record(actor, AuditEntry.Action.OPENED, review=review)


def refuse(actor: Actor, error: ApprovalError, **details: Any) -> None:
    """Records an attempt that was refused, with what the person had written."""
    audit.record(actor, AuditEntry.Action.REFUSED, note=clean(error.recorded), **details)


# A person decides


def decide(actor: Actor, review_id: int, order: Order) -> Decision:
    """Records a decision and queues its resumption. No checkpoint is touched yet.

    Raises Conflict when somebody or something was first, NotAllowed, Invalid. The same form sent
    twice gives the first answer again.
    """
    with refusing(actor, review_id=review_id, after=order.told or None):
        review = locked_review(review_id)
        known = Decision.objects.filter(idempotency_key=order.key).first()
        if known is not None:
            return _repeated(known, actor, review, order)
        _guard(actor, review, order)
        return _decide(actor, review, order)


@contextmanager
def refusing(actor: Actor, **about: Any) -> Iterator[None]:
    """One transaction of a person's; an attempt that it refuses is audited in one of its own.

    A person waits seconds for a lock, not minutes: the page then says so and keeps the text.
    """
    try:
        ids.keep_time()
        # What is recorded is in English, whoever acts: see approvals/sentences.py.
        with translation.override(settings.LANGUAGE_CODE), transaction.atomic():
            with connection.cursor() as cursor:
                # The latter also as a startup option, which a pooler would refuse.
                cursor.execute(
                    "SET LOCAL lock_timeout = '5s';"
                    " SET LOCAL idle_in_transaction_session_timeout = '15s'"
                )
            yield
    except ApprovalError as error:
        if "review_id" in about:
            about["review"] = Review.objects.get(pk=about.pop("review_id"))
        if "decision_id" in about:
            about["decision"] = _with_review().get(pk=about.pop("decision_id"))
        refuse(actor, error, **about)
        raise


def _with_review() -> Any:
    return Decision.objects.select_related("review")


def locked_review(review_id: int) -> Review:
    lock_thread(Review.objects.values_list("thread_id", flat=True).get(pk=review_id))
    return Review.objects.select_for_update(no_key=True).get(pk=review_id)


def _repeated(known: Decision, actor: Actor, review: Review, order: Order) -> Decision:
    """The same form again, by a double click or a lost answer. Only the very same counts."""
    if known.review_id != review.pk:
        raise Invalid("This form was used for another review. Open the review again.")
    if known.actor_id != actor.user.pk:
        raise AlreadyDecided
    sent = order.edits if order.action == Decision.Action.APPROVE else {}
    if (known.edits, known.said) != (sent, order.said) or known.state == State.UNDONE:
        raise Stale("This form was sent before, with another text or since taken back.")
    return known


def _guard(actor: Actor, review: Review, order: Order) -> None:
    if not Policy(actor.user).may_decide(review):
        raise NotAllowed
    if review.status == Review.Status.DECIDED:
        raise AlreadyDecided
    if review.status == Review.Status.SUPERSEDED or not stands(review):
        raise Moved(review.ended_because or moved_words(review))
    if (order.digest, order.checkpoint_id) != (review.digest, review.checkpoint_id):
        raise Stale
    held = claims.holder(review, database_now()) if review.claimed_until else None
    if held is not None and held.pk != actor.user.pk:
        raise Held(f"{claims.name_of(held)} has this case.")


def stands(review: Review) -> bool:
    """Whether the thread is still where it was shown, at its root and where it pauses."""
    root = review.root_checkpoint_id or review.checkpoint_id
    here = head(review.thread_id, review.checkpoint_ns) == review.checkpoint_id
    return here and (not review.checkpoint_ns or head(review.thread_id) == root)


def moved_words(review: Review) -> str:
    return MOVED if head(review.thread_id) else "The thread was deleted by another program."


def _decide(actor: Actor, review: Review, order: Order) -> Decision:
    graph = registry().graphs[review.graph]
    meant = effect(graph, review, order)
    rehearse(graph, review, meant)
    now = database_now()
    window = dt.timedelta(seconds=graph.review.undo_window)
    decision = Decision.objects.create(
        review=review,
        actor=actor.user,
        action=meant.action,
        idempotency_key=order.key,
        edits=order.edits if meant.action == Decision.Action.EDIT else {},
        values={**meant.update.values, **meant.update.edits},
        goto=meant.update.goto,
        answer=meant.answer,
        said=order.said,
        decided_at=now,
        apply_after=now + window + (order.more_time if window else dt.timedelta()),
    )
    review.status = Review.Status.DECIDED
    claims.clear(review)
    review.snoozed_by = review.snoozed_until = None
    review.save(update_fields=["status", *claims.FIELDS, *SNOOZE])
    audit.record(
        actor,
        AuditEntry.Action.DECIDED,
        review=review,
        decision=decision,
        note=decision.action,
        **_shown_and_said(graph, review, order, meant),
    )
    enqueue(decision, at=decision.apply_after)
    nudge(review.pk, review.graph)
    return decision


def _shown_and_said(graph: Graph, review: Review, order: Order, meant: Effect) -> dict[str, Any]:
    """What lay before the person, and what they made of it."""
    if review.is_question:
        asked = {"question": review.pause.get("question")}
        return {"before": asked, "after": {"answer": meant.answer, **_reasons(order)}}
    keys = [*filter(None, [graph.review.response]), *order.edits]
    shown = {key: pick(review.values, key) for key in keys}
    said = {"said": order.text} if order.text else {}
    edits = order.edits if meant.action == Decision.Action.EDIT else meant.update.edits
    return {"before": shown, "after": {**shown, **edits, **said}}


def _reasons(order: Order) -> dict[str, Any]:
    """The words that the answer itself may have no room for: an ignored call's reason."""
    words = [choice.text for choice in order.choices]
    return {"said": words} if any(words) else {}


def effect_of(decision: Decision) -> Effect:
    """What a recorded decision does, as it was worked out when it was made."""
    edited = decision.edits if decision.action == Decision.Action.EDIT else {}
    if decision.action == Decision.Action.RESPOND and not decision.review.is_question:
        response = registry().graphs[decision.review.graph].review.response
        edited = {response: decision.values[response]}
    values = {k: v for k, v in decision.values.items() if k not in edited}
    nodes = tuple(decision.review.pause.get("nodes") or [decision.review.node])
    update = Update(values, edited, decision.goto, nodes)
    return Effect(Decision.Action(decision.action), update, decision.answer)


def enqueue(decision: Decision, at: dt.datetime | None = None, *, gives_way: bool = False) -> None:
    """Inside a transaction that holds the decision.

    Of one thread's jobs each waits for those before it, whenever these are due. One that
    `gives_way` waits for all others, and keeps none of them waiting.
    """
    # In this transaction: a decision without its job, or a job without its decision, cannot be.
    decision.job_id = queue.configure_task(
        RESUME_TASK,
        lock=f"thread:{decision.review.thread_id}",
        schedule_at=at,
        priority=-1 if gives_way else 0,
    ).defer(decision_id=str(decision.pk))
    decision.save(update_fields=["job_id"])


def lock_decision(decision_id: uuid.UUID | str) -> Decision:
    """Inside a transaction: the decision with its review, for this transaction alone."""
    lock_thread(_with_review().get(pk=decision_id).review.thread_id)
    locked: Decision = _with_review().select_for_update(no_key=True).get(pk=decision_id)
    return locked


def undo(actor: Actor, decision_id: uuid.UUID) -> Decision:
    """Takes a decision back: within its window, or when it failed before it was applied.

    Raises TooLate, NotAllowed.
    """
    with refusing(actor, decision_id=decision_id):
        decision = lock_decision(decision_id)
        if not Policy(actor.user).may_undo(decision):
            raise NotAllowed("Only the person who decided can take it back.")
        if decision.state == State.UNDONE:
            return decision
        if not decision.is_stuck and not _is_in_window(decision):
            raise TooLate
        return _undo(actor, decision)


def _is_in_window(decision: Decision) -> bool:
    return decision.state == State.PENDING and database_now() < decision.apply_after


def _undo(actor: Actor, decision: Decision) -> Decision:
    review = decision.review
    decision.state, decision.ended_at = State.UNDONE, database_now()
    decision.save(update_fields=["state", "ended_at"])
    review.status = _open_status(review.kind)
    if Policy(actor.user).may_decide(review):  # to go on with; nobody can have claimed it meanwhile
        review.claimed_by, review.claimed_until = actor.user, database_now() + claims.LEASE
    review.save(update_fields=["status", *claims.FIELDS])
    audit.record(actor, AuditEntry.Action.UNDONE, decision=decision)
    if not stands(review):
        _leave(review, moved_words(review))
    _look_again(review)
    if decision.job_id:
        # Best effort: a job that has started already finds the decision undone and stops.
        queue.job_manager.cancel_job_by_id(decision.job_id)
    nudge(review.pk, review.graph)
    return decision


def retry(actor: Actor, decision_id: uuid.UUID) -> Decision:
    """Runs a failed resumption on from where it stands, or one that waits to be tried again by
    itself. Raises NotAllowed, Conflict."""
    with refusing(actor, decision_id=decision_id):
        decision = lock_decision(decision_id)
        if not Policy(actor.user).may_retry(decision):
            raise NotAllowed
        if decision.state != State.FAILED and not decision.awaits_try:
            raise Conflict("This run is not failed any more; somebody may have retried it.")
        if decision.awaits_try and decision.job_id:  # it would hold the next one up
            queue.job_manager.cancel_job_by_id(decision.job_id)
        decision.state = State.APPLIED if decision.checkpoint_applied else State.PENDING
        decision.ended_at, decision.checkpoint_after = None, ""
        decision.crashes = decision.attempts = 0
        decision.save()
        forget_errors(decision.review.thread_id)
        audit.record(actor, AuditEntry.Action.RETRIED, decision=decision)
        _look_again(decision.review)
        enqueue(decision)
        nudge(decision.review_id, decision.review.graph)
        return decision


# The worker applies and ends


class NotYet(Exception):
    """The undo window is still open; `at` is its end."""

    def __init__(self, at: dt.datetime) -> None:
        super().__init__(str(at))
        self.at = at


def take(decision_id: str, holder: uuid.UUID) -> int | None:
    """One transaction: an open decision for this worker, and its epoch; None when there is no work.

    Raises NotYet while it can be undone. Counts the epoch up, which shuts out whoever held it. A
    holder that is found there ended without a word: killed, most likely. A run that does that to
    `crash_limit` workers one after the other is set aside, and waits for an admin's Retry.
    """
    with transaction.atomic():
        decision = lock_decision(decision_id)
        if not decision.is_open:
            return None
        if decision.state == State.PENDING and database_now() < decision.apply_after:
            raise NotYet(decision.apply_after)
        if decision.holder not in {None, holder}:
            decision.crashes += 1
        decision.epoch += 1
        if decision.crashes >= _crash_limit(decision):
            _set_aside(decision)
            return None
        decision.holder = holder
        decision.save(update_fields=["epoch", "holder", "crashes"])
        return decision.epoch


def _crash_limit(decision: Decision) -> int:
    graph = registry().get(decision.review.graph)
    return graph.review.crash_limit if graph else ReviewSettings.model_fields["crash_limit"].default


def _set_aside(decision: Decision) -> None:
    times = f"{decision.crashes} times" if decision.crashes > 1 else "once"
    error = (
        f"The worker ended in the middle of this run {times}, or could not write what it had done, "
        "so the run was set aside. Something in it may kill the process, want more memory or write "
        "more than there is room for: look before you retry it."
    )
    end(decision, State.FAILED, error=error)


def let_go(decision_id: str, holder: uuid.UUID) -> dt.datetime:
    """One transaction: a worker that is told to stop gives its run back, which is no crash of it.

    Returns when the next worker may take it: the nodes of this one are given a second to end.
    """
    with transaction.atomic():
        Decision.objects.filter(pk=decision_id, holder=holder).update(holder=None)
        return database_now() + dt.timedelta(seconds=1)


def is_suspect(decision_id: str) -> bool:
    """Whether this run has ended two workers, or is about to have: it then runs by itself, so that
    it takes no other runs with it, and theirs are not counted against them."""
    known = Decision.objects.filter(pk=decision_id).values_list("crashes", "holder").first()
    crashes, holder = known or (0, None)
    return bool(crashes + (holder is not None) >= 2)


def try_again(decision: Decision, at: dt.datetime, *, node: str, error: str) -> None:
    """Inside a transaction that holds it: reviews.toml has a run retried whose node raised."""
    decision.attempts += 1
    decision.epoch += 1  # if the answer to this commit is lost, it is not done once more
    decision.holder = None
    decision.error_node, decision.error = node, error
    decision.save()
    forget_errors(decision.review.thread_id)
    audit.record(
        WORKER,
        AuditEntry.Action.RETRIED,
        decision=decision,
        note=f"{node}: {error}" if node else error,
    )
    enqueue(decision, at=at, gives_way=True)
    nudge(decision.review_id, decision.review.graph)


def mark_applied(decision: Decision, checkpoint_id: str, before: Any, after: Any) -> None:
    """Inside the transaction that wrote the checkpoint."""
    forget_errors(decision.review.thread_id)
    decision.state, decision.checkpoint_applied = State.APPLIED, checkpoint_id
    decision.applied_at = database_now()
    decision.save(update_fields=["state", "checkpoint_applied", "applied_at"])
    audit.record(
        WORKER,
        AuditEntry.Action.APPLIED,
        decision=decision,
        checkpoint_after=checkpoint_id,
        before=before,
        after=after,
    )
    nudge(decision.review_id, decision.review.graph)


_OUTCOMES = {
    State.FINISHED: AuditEntry.Action.FINISHED,
    State.PAUSED: AuditEntry.Action.PAUSED_AGAIN,
    State.FAILED: AuditEntry.Action.FAILED,
    State.SUPERSEDED: AuditEntry.Action.SUPERSEDED,
}


def end(
    decision: Decision,
    state: Decision.State,
    *,
    checkpoint_after: str = "",
    error_node: str = "",
    error: str = "",
    traceback: str = "",
) -> None:
    """Inside a transaction that holds the decision: records how its resumption ended."""
    decision.state, decision.ended_at = state, database_now()
    decision.checkpoint_after, decision.holder = checkpoint_after, None
    decision.error_node, decision.error, decision.traceback = error_node, error, traceback
    decision.save()
    if state == State.SUPERSEDED and not decision.checkpoint_applied:
        Review.objects.filter(pk=decision.review_id).update(
            status=Review.Status.SUPERSEDED, ended_because=error
        )
    audit.record(
        WORKER,
        _OUTCOMES[state],
        decision=decision,
        checkpoint_before=decision.checkpoint_applied or decision.review.checkpoint_id,
        checkpoint_after=checkpoint_after,
        note=f"{error_node}: {error}" if error_node else error,
    )
    _look_again(decision.review)
    nudge(decision.review_id, decision.review.graph)


def _look_again(review: Review) -> None:
    """Has the capture look once more: while we held the thread, its pauses did not count."""
    ThreadChange.objects.create(thread_id=review.thread_id)


def supersede(decision: Decision) -> None:
    """Inside a transaction that holds the decision: the thread moved before it was applied."""
    now_at = head(decision.review.thread_id)
    reason = "The thread was deleted" if now_at is None else "The thread moved on"
    end(
        decision,
        State.SUPERSEDED,
        checkpoint_after=now_at or "",
        error=f"{reason} before the decision could be applied. Nothing of it was sent.",
    )


def rescue(job_id: int, decision_id: str, dead_after: float) -> bool:
    """Queues the decision of a dead worker's job anew, and shuts that worker out at once.

    False if the job has ended meanwhile, the worker's heart beats again, or somebody is at the
    thread: a later look tells. Not the same job again: should that worker wake up, it ends a job
    that is its own.
    """
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '500ms'")
            decision = lock_decision(decision_id)
            if not _end_job_of_dead(job_id, dead_after):
                return False
            if decision.is_open:
                decision.epoch += 1
                decision.save(update_fields=["epoch"])
                enqueue(decision)
            return True
    except OperationalError as error:
        if is_locked(error):
            return False
        raise


def _end_job_of_dead(job_id: int, dead_after: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT procrastinate_finish_job_v1(j.id, 'failed', false)"
            " FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
            " WHERE j.id = %s AND j.status = 'doing' AND (w.id IS NULL"
            " OR w.last_heartbeat < clock_timestamp() - make_interval(secs => %s))",
            [job_id, dead_after],
        )
        return bool(cursor.rowcount)


def requeue_lost() -> int:
    """Queues open decisions whose job is gone: the queue is a hint, the decision is the truth."""
    overdue = Decision.objects.filter(
        state__in=[State.PENDING, State.APPLIED], apply_after__lt=database_now() - LOST_AFTER
    )
    its_jobs = _live_jobs().annotate(of=KeyTextTransform("decision_id", "args"))
    lost = overdue.exclude(Exists(its_jobs.filter(of=Cast(OuterRef("pk"), TextField()))))
    oldest = lost.order_by("apply_after").values_list("pk", flat=True)[:SWEPT]
    return sum(_requeue(str(pk)) for pk in oldest)


def _live_jobs() -> Any:
    return ProcrastinateJob.objects.filter(task_name=RESUME_TASK, status__in=["todo", "doing"])


def _requeue(decision_id: str) -> bool:
    with transaction.atomic():
        decision = lock_decision(decision_id)
        # Asked again under the lock: every worker sweeps, and one of them was first.
        if not decision.is_open or _live_jobs().filter(args__decision_id=decision_id).exists():
            return False
        enqueue(decision)
        return True


# The capture projects the checkpoints

MOVED = "The agent, or another program, moved the thread on since this page was made."
FORKED = "Another program went on from the same checkpoint as this decision's run."


@dataclass(frozen=True)
class Pause:
    """One pause of a thread as the capture found it; the fields are Review's."""

    checkpoint_ns: str
    checkpoint_id: str
    interrupt_id: str
    shown: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.shown["kind"])

    @property
    def key(self) -> tuple[str, str, str, bool]:
        stalled = self.kind == Review.Kind.STALLED
        return (self.checkpoint_ns, self.checkpoint_id, self.interrupt_id, stalled)


def project(thread_id: str, pauses: list[Pause], gone_because: str) -> None:
    """Inside a transaction that holds the thread: makes its waiting reviews equal to its pauses."""
    known = {
        (r.checkpoint_ns, r.checkpoint_id, r.interrupt_id, r.kind == Review.Kind.STALLED): r
        for r in Review.objects.listed().filter(thread_id=thread_id).select_for_update(no_key=True)
    }
    found = {pause.key: pause for pause in pauses}
    for key, pause in found.items():
        if key not in known:
            _open(thread_id, pause)
        elif known[key].status == Review.Status.SUPERSEDED:
            _reopen(known[key])
        elif known[key].is_open:
            _refresh(known[key], pause)
    for key, review in known.items():
        if review.is_open and key not in found:
            _leave(review, gone_because)
    _supersede_pending(thread_id)
    _note_forks(thread_id)


def _supersede_pending(thread_id: str) -> None:
    """A decision that waits for its undo window to end, on a thread that has moved meanwhile."""
    pending = _with_review().filter(review__thread_id=thread_id, state=State.PENDING)
    for decision in pending.select_for_update(of=["self"], no_key=True):
        if not stands(decision.review):
            supersede(decision)


def _note_forks(thread_id: str) -> None:
    """Another program went on from where a decision's run did, and neither saw the other.

    It takes no lock of ours, so this can be seen, not prevented: which of the two LangGraph goes
    on with is the newest, and people are told that there are two.
    """
    applied = Decision.objects.filter(review__thread_id=thread_id).exclude(checkpoint_applied="")
    for decision_id, theirs, parent in forks(thread_id) if applied.exists() else []:
        decision = lock_decision(decision_id)
        decision.forked_at = theirs
        decision.save(update_fields=["forked_at"])
        audit.record(
            CAPTURE,
            AuditEntry.Action.FORK_SEEN,
            decision=decision,
            checkpoint_before=parent,
            checkpoint_after=theirs,
            note=FORKED,
        )
        nudge(decision.review_id, decision.review.graph)


def _open(thread_id: str, pause: Pause) -> None:
    review = Review.objects.create(
        thread_id=thread_id,
        checkpoint_ns=pause.checkpoint_ns,
        checkpoint_id=pause.checkpoint_id,
        interrupt_id=pause.interrupt_id,
        status=_open_status(pause.kind),
        **pause.shown,
    )
    _record_open(review)
    nudge(review.pk, review.graph)
    if review.follows is not None:  # its page has a link to this one from now on
        nudge(review.follows.review_id, review.graph)


def _open_status(kind: str) -> Review.Status:
    stalled = kind == Review.Kind.STALLED
    return Review.Status.STALLED if stalled else Review.Status.WAITING


def _record_open(review: Review, more: str = "") -> None:
    stalled = review.kind == Review.Kind.STALLED
    action = AuditEntry.Action.STALLED if stalled else AuditEntry.Action.PAUSED
    audit.record(CAPTURE, action, review=review, note=_where(review) + more)


def _where(review: Review) -> str:
    words = {Review.Kind.AFTER: "after", Review.Kind.QUESTION: "with a question in"}
    return f"{words.get(Review.Kind(review.kind), 'before')} {review.node}"


def _refresh(review: Review, pause: Pause) -> None:
    """The same pause, read otherwise: its graph was registered since, or reviews.toml changed."""
    stale = {k: v for k, v in pause.shown.items() if k != "snapshot" and getattr(review, k) != v}
    if not stale or _is_the_same_question(review, pause, set(stale)):
        return
    for name in (*stale, "snapshot"):
        setattr(review, name, pause.shown[name])
    if "digest" in stale:  # not what was put off
        review.snoozed_by = review.snoozed_until = None
    review.save(update_fields=[*stale, "snapshot", *SNOOZE])
    _record_open(review, f", read again: {', '.join(sorted(stale))}")
    nudge(review.pk, review.graph)


def _is_the_same_question(review: Review, pause: Pause, stale: set[str]) -> bool:
    """What another task of the same step did since does not touch what this one asks: a page that
    shows the question stays good."""
    return (
        review.is_question
        and stale == {"digest"}
        and review.pause == pause.shown["snapshot"].get("pause")
    )


def _reopen(review: Review) -> None:
    if review.decisions.exclude(state=State.UNDONE).exists():
        return  # decided here, and the thread moved before it was applied: that stays told
    review.status, review.ended_because = _open_status(review.kind), ""
    review.save(update_fields=["status", "ended_because"])
    _record_open(review)
    nudge(review.pk, review.graph)


def _leave(review: Review, because: str) -> None:
    review.status = Review.Status.SUPERSEDED
    review.ended_because = because
    claims.clear(review)
    review.snoozed_by = review.snoozed_until = None
    review.save(update_fields=["status", "ended_because", *claims.FIELDS, *SNOOZE])
    audit.record(
        CAPTURE,
        AuditEntry.Action.MOVED,
        review=review,
        checkpoint_after=head(review.thread_id) or "",
        note=because,
    )
    nudge(review.pk, review.graph)
