"""What people do with a list: assign, put off, wake, decide many at once, save a view.

A writer, as `actions` is, by the same rule. What touches a review locks its row alone; decisions go
through `actions.decide`, one transaction each.
"""

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from approvals import actions, audit, claims, desk_actions
from approvals.actions import SNOOZE, refusing
from approvals.answers import Order
from approvals.audit import WORKER, Actor
from approvals.clock import database_now
from approvals.errors import ApprovalError, Held, Invalid, Moved, NotAllowed, is_locked
from approvals.events import nudge
from approvals.models import AuditEntry, Decision, Review, SavedView
from approvals.policies import Policy

Action = AuditEntry.Action
ASSIGNED = ["assigned_to", "assigned_group"]
LONGEST_SNOOZE = dt.timedelta(days=90)
READ, EACH = dt.timedelta(seconds=12), dt.timedelta(milliseconds=100)
LOCKED = "Something else is at work on this case. Try it again in a moment."
PAST = "That time has passed. Choose a later one."
TOO_FAR = "A case can be put off for 90 days at most. Choose an earlier time."
NOT_OF_QUEUE = "Nobody of that name may decide this queue. Choose somebody else."
MOST_AT_ONCE = 100
WOKEN_AT_ONCE = 200


# One review


def snooze(actor: Actor, review_id: int, until: dt.datetime) -> Review:
    """Puts it off for everybody until then. What this person holds of it they hand back.

    Raises Invalid, Held when somebody else has it, Moved, NotAllowed.
    """
    with refusing(actor, review_id=review_id):
        review = _arranged(actor, review_id)
        now = database_now()
        if until <= now:
            raise Invalid(PAST)
        if until > now + LONGEST_SNOOZE:
            raise Invalid(TOO_FAR)
        _free_for_others(actor, review, now)
        if (review.snoozed_by, review.snoozed_until) == (actor.user, until):
            return review
        review.snoozed_by, review.snoozed_until = actor.user, until
        note = f"until {until.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
        return _arrange(actor, review, SNOOZE, Action.SNOOZED, note)


def wake(actor: Actor, review_id: int) -> Review:
    """Brings it back to the queue now."""
    with refusing(actor, review_id=review_id):
        review = _arranged(actor, review_id)
        if review.snoozed_until is None:
            return review
        review.snoozed_by = review.snoozed_until = None
        return _arrange(actor, review, SNOOZE, Action.WOKEN, "")


def assign(actor: Actor, review_id: int, to: Any = None, group: Group | None = None) -> Review:
    """Means it for a person, a group, both, or again for anybody.

    Raises Invalid when they could not decide it, Moved, NotAllowed.
    """
    with refusing(actor, review_id=review_id):
        review = _arranged(actor, review_id)
        if not _can_be_meant(review, to, group):
            raise Invalid(NOT_OF_QUEUE)
        ids = (to.pk if to else None, group.pk if group else None)
        if (review.assigned_to_id, review.assigned_group_id) == ids:
            return review
        if to is not None and to != actor.user and review.claimed_by_id == actor.user.pk:
            desk_actions.let_go(actor, review)
        review.assigned_to, review.assigned_group = to, group
        names = [claims.name_of(to)] if to else []
        names += [group.name] if group else []
        note = f"to {' and '.join(names)}" if names else "to nobody"
        return _arrange(actor, review, ASSIGNED, Action.ASSIGNED, note)


def _can_be_meant(review: Review, to: Any, group: Group | None) -> bool:
    if to is not None and not (to.is_active and Policy(to).may_decide(review)):
        return False
    members = group.user_set.filter(is_active=True) if group else []
    return group is None or any(Policy(one).may_decide(review) for one in members)


def _arranged(actor: Actor, review_id: int) -> Review:
    """Inside a transaction: the review for this transaction alone, if it still waits."""
    # No select_related: after a wait for the lock the row is new, what is joined to it is not.
    review = Review.objects.select_for_update(no_key=True).listed().get(pk=review_id)
    if not Policy(actor.user).may_arrange(review):
        raise NotAllowed
    if review.status != Review.Status.WAITING:
        raise Moved(review.ended_because or "This case does not wait any more.")
    return review


def _free_for_others(actor: Actor, review: Review, now: dt.datetime) -> None:
    holder = claims.holder(review, now)
    if holder is not None and holder.pk != actor.user.pk:
        raise Held(f"{claims.name_of(holder)} has this case.")
    if holder is not None:
        desk_actions.let_go(actor, review)


def _arrange(
    actor: Actor, review: Review, columns: list[str], action: AuditEntry.Action, note: str
) -> Review:
    review.save(update_fields=columns)
    audit.record(actor, action, review=review, note=note)
    nudge(review.pk, review.graph)
    return review


# The sweeper


def wake_due() -> int:
    """Tells the pages, and the trail, of reviews that time has brought back. Returns how many."""
    with transaction.atomic():
        due = Review.objects.listed().filter(snoozed_until__lte=Now(), status=Review.Status.WAITING)
        # Whoever holds a row is at it: the next round looks again.
        rows = list(due.select_for_update(no_key=True, skip_locked=True)[:WOKEN_AT_ONCE])
        for review in rows:
            review.snoozed_by = review.snoozed_until = None
            _arrange(WORKER, review, SNOOZE, Action.WOKEN, "")
        return len(rows)


# Many at once


@dataclass(frozen=True)
class Shown:
    """One selected row: the review, and the state of it that the list showed."""

    pk: int
    digest: str
    checkpoint_id: str


@dataclass(frozen=True)
class Result:
    """What became of one selected row."""

    pk: int
    why_not: str = ""
    decision: Decision | None = None

    @property
    def is_done(self) -> bool:
        return not self.why_not


ALONE = "A question is answered one by one: open it."


def decide_each(
    actor: Actor, key: uuid.UUID, rows: Iterable[Shown], action: str, text: str = ""
) -> list[Result]:
    """Approves or rejects each as it was shown. The same form sent again gives the same answers.

    Their windows to take them back end together, and later than that of one alone: there is a page
    to come, and to be read.
    """
    chosen = list(rows)
    extra = [READ + EACH * (len(chosen) - place) for place in range(len(chosen))]
    return [
        _decide_one(actor, key, row, action, text, more if len(chosen) > 1 else dt.timedelta())
        for row, more in zip(chosen, extra, strict=True)
    ]


def _decide_one(
    actor: Actor, key: uuid.UUID, row: Shown, action: str, text: str, more: dt.timedelta
) -> Result:
    own_key = uuid.uuid5(key, f"{row.pk} {action}")
    order = Order(row.digest, row.checkpoint_id, own_key, action, text=text, more_time=more)
    try:
        review = _known(actor, row.pk)
        if review.is_question:
            raise Invalid(ALONE)
        return Result(row.pk, decision=actions.decide(actor, review.pk, order))
    except (ApprovalError, OperationalError) as error:
        return Result(row.pk, _why(error))


def undo_each(actor: Actor, decisions: Iterable[Decision]) -> list[Result]:
    """Takes back each that can still be; of the others, why not."""
    results = []
    for one in decisions:
        try:
            results.append(Result(one.review_id, decision=actions.undo(actor, one.pk)))
        except (ApprovalError, OperationalError) as error:
            results.append(Result(one.review_id, _why(error)))
    return results


def arrange_each(actor: Actor, rows: Iterable[Shown], how: Any) -> list[Result]:
    """`how(actor, review_id)` on each; what is refused says why, and the others go on."""
    results = []
    for row in rows:
        try:
            how(actor, _known(actor, row.pk).pk)
            results.append(Result(row.pk))
        except (ApprovalError, OperationalError) as error:
            results.append(Result(row.pk, _why(error)))
    return results


def _why(error: Exception) -> str:
    """Why one row was not done. A database that is away stops them all: the error goes on."""
    if isinstance(error, ApprovalError):
        return str(error)
    if is_locked(error):
        return LOCKED
    raise error


def _known(actor: Actor, pk: int) -> Review:
    """A number in a form that names a review of another queue, or none, is refused alike."""
    review = Policy(actor.user).reviews().listed().filter(pk=pk).first()
    if review is None:
        raise NotAllowed("There is no such case for you.")
    return review


# Saved views

MOST_VIEWS = 30


def save_view(actor: Actor, name: str, query: str, shared: bool = False) -> SavedView:
    """Keeps what a list's address asks for under a name: this person's own, or everybody's.

    Raises Invalid, NotAllowed.
    """
    with refusing(actor):
        if SavedView.objects.filter(owner=actor.user).count() >= MOST_VIEWS:
            raise Invalid("You have 30 views. Delete one of them first.")
        _guard_sharing(actor, shared)
        view = SavedView.objects.create(
            name=_view_name(name), query=query, owner=actor.user, shared=shared
        )
        if shared:
            _record_view(actor, view, "the shared views, with a new one:")
        return view


def rename_view(actor: Actor, view_id: int, name: str, shared: bool) -> None:
    """Raises Invalid, NotAllowed."""
    with refusing(actor):
        view = _own_view(actor, view_id)
        was_shared = view.shared
        if shared != was_shared:
            _guard_sharing(actor, shared=True)
        view.name, view.shared = _view_name(name), shared
        view.save(update_fields=["name", "shared"])
        if shared or was_shared:
            _record_view(actor, view, "the shared view")


def delete_view(actor: Actor, view_id: int) -> None:
    with refusing(actor):
        view = _own_view(actor, view_id)
        if view.shared:
            _record_view(actor, view, "the shared views, without")
        view.delete()


def _own_view(actor: Actor, view_id: int) -> SavedView:
    """One's own; of the shared ones, for admins, anybody's."""
    view = SavedView.objects.select_for_update().filter(pk=view_id).first()
    admin = Policy(actor.user).tends_runs
    if view is None or not (view.owner_id == actor.user.pk or (admin and view.shared)):
        raise NotAllowed("There is no such view of yours.")
    return view


def _guard_sharing(actor: Actor, shared: bool) -> None:
    if shared and not Policy(actor.user).tends_runs:
        raise NotAllowed("Only admins share views with everybody.")


def _view_name(name: str) -> str:
    name = " ".join(name.replace("\x00", "").split())
    if not name:
        raise Invalid("A view needs a name.")
    if len(name) > 40:
        raise Invalid("The name of a view has 40 characters at most.")
    return name


def _record_view(actor: Actor, view: SavedView, note: str) -> None:
    audit.record(actor, Action.SETTINGS, note=f"{note} “{view.name}”", after={"query": view.query})
