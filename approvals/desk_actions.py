"""What people do with a review before it is decided: claim it, hand it back, take the next one.

A writer, as `actions` is, by the same rule: one action = one transaction + its audit entry + a
nudge on commit. These lock the review's row alone, and never its thread after it.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models.functions import Least, Now

from approvals import audit
from approvals.actions import refusing
from approvals.audit import WORKER, Actor
from approvals.claims import (
    BEAT,
    FIELDS,
    GOODBYE,
    KEPT,
    LEASE,
    clear,
    holder,
    is_asked_by_another,
    may_take,
    name_of,
)
from approvals.clock import database_now
from approvals.errors import Held, Moved, NotAllowed
from approvals.events import nudge
from approvals.models import AuditEntry, Review, ReviewQuerySet
from approvals.policies import Policy

# For a case that was fetched ahead, or given, and is not looked at yet.
AHEAD = dt.timedelta(seconds=60)
Action = AuditEntry.Action


def claim(actor: Actor, review_id: int) -> Review:
    """Takes a waiting review for five minutes, or renews the lease. Audited when it is new.

    Raises Held when somebody else has it, Moved, NotAllowed.
    """
    with refusing(actor, review_id=review_id):
        review = _locked(actor, review_id)
        now = database_now()
        if (held := holder(review, now)) not in {None, actor.user}:
            raise Held(_has_it(held))
        return _give(actor, review, now, LEASE)


def release(actor: Actor, review_id: int) -> None:
    """Hands a review back that this person holds; of any other it is nothing."""
    with refusing(actor, review_id=review_id):
        review = _row(review_id)
        if review.claimed_by_id == actor.user.pk:
            let_go(actor, review)


def ask(actor: Actor, review_id: int) -> Review:
    """Asks who has it to give it. What nobody has is claimed at once.

    Raises Held while somebody else's asking waits for its answer.
    """
    with refusing(actor, review_id=review_id):
        review = _locked(actor, review_id)
        now = database_now()
        if holder(review, now) in {None, actor.user}:
            return _give(actor, review, now, LEASE)
        if is_asked_by_another(review, actor.user, now):
            raise Held(f"{name_of(review.claim_asked_by)} has asked for this case already.")
        if review.claim_asked_by_id != actor.user.pk:
            review.claim_asked_by, review.claim_asked_at = actor.user, now
            _record(actor, review, Action.ASKED_FOR)
        return review


def keep(actor: Actor, review_id: int) -> None:
    """The holder's no to whoever asked."""
    with refusing(actor, review_id=review_id):
        review = _row(review_id)
        if review.claimed_by_id != actor.user.pk or review.claim_asked_by is None:
            return
        note = f"{KEPT}{name_of(review.claim_asked_by)} had asked for it"
        review.claim_asked_by = review.claim_asked_at = None
        _record(actor, review, Action.CLAIMED, note=note)


def give(actor: Actor, review_id: int) -> None:
    """The holder's yes: whoever asked has it, for as long as it takes them to look."""
    with refusing(actor, review_id=review_id):
        review = _locked(actor, review_id)
        asker = review.claim_asked_by
        if review.claimed_by_id != actor.user.pk or asker is None:
            return
        if not asker.is_active or not Policy(asker).may_decide(review):
            let_go(actor, review)
            return
        clear(review)
        review.claimed_by, review.claimed_until = asker, database_now() + AHEAD
        _record(actor, review, Action.RELEASED, note=f"given to {name_of(asker)}")


def take(actor: Actor, review_id: int) -> Review:
    """Takes it from whoever has it. An admin outside the queue only frees it so.

    Raises Held for others who have not asked, or not waited for the answer.
    """
    with refusing(actor, review_id=review_id):
        frees = Policy(actor.user).tends_runs
        review = _row(review_id) if frees else _locked(actor, review_id)
        now = database_now()
        held = holder(review, now)
        if held is None or held == actor.user:
            return _give(actor, _workable(actor, review), now, LEASE)
        if not may_take(review, actor.user, now):
            raise Held(_has_it(held))
        clear(review)
        if Policy(actor.user).may_decide(review):
            review.claimed_by, review.claimed_until = actor.user, now + LEASE
        was = {"holder": name_of(held), "holder_id": held.pk}
        _record(actor, review, Action.TAKEN_OVER, before=was)
        return review


def next_review(
    actor: Actor,
    among: ReviewQuerySet,
    *,
    besides: list[int] | None = None,
    lease: dt.timedelta = LEASE,
) -> Review | None:
    """The oldest waiting review of `among` that nobody holds, claimed; None when there is none.

    `besides` are passed over: the one on the screen, and those that the person skipped. However
    many ask at once, each gets another one: what one transaction has locked the others skip, and
    what it has claimed they see claimed when they lock it. None is left out either: what was
    locked may come free, so it is waited for before there is said to be none.
    """
    policy = Policy(actor.user)
    if policy.is_auditor:
        return None
    mine = among.awake().free_for(actor.user).filter(graph__in=policy.queues)
    rows = mine.exclude(pk__in=besides or []).order_by("waiting_since", "id")
    unheld = rows.exclude(claimed_by=actor.user, claimed_until__gt=Now())
    with refusing(actor):
        if found := _locked_first(unheld, skip_locked=True):
            return _give(actor, found, database_now(), lease)
    # Last, one's own.
    return _waited_for(actor, unheld, lease) or _waited_for(actor, rows, lease)


def _waited_for(actor: Actor, rows: ReviewQuerySet, lease: dt.timedelta) -> Review | None:
    """The first that can be had, once whoever has it locked is done with it.

    A transaction for each try. A row that no longer fits when it is locked stays locked, and who
    waits for a second one then stands in the way of whoever has locked the two crosswise.
    """
    while True:
        with refusing(actor):
            pk = rows.values_list("pk", flat=True).first()
            if pk is None:
                return None
            if found := _locked_first(rows.filter(pk=pk)):
                return _give(actor, found, database_now(), lease)


def _locked_first(rows: ReviewQuerySet, *, skip_locked: bool = False) -> Review | None:
    locked = rows.select_for_update(no_key=True, skip_locked=skip_locked, of=("self",))
    return locked.listed().first()


def _locked(actor: Actor, review_id: int) -> Review:
    """Inside a transaction: the review for this transaction alone, if it can be worked on."""
    return _workable(actor, _row(review_id))


def _workable(actor: Actor, review: Review) -> Review:
    if not Policy(actor.user).may_decide(review):
        raise NotAllowed
    if review.status != Review.Status.WAITING:
        raise Moved(review.ended_because or "This case does not wait any more.")
    return review


def _row(review_id: int) -> Review:
    # No select_related: after a wait for the lock the row is new, what is joined to it is not.
    return Review.objects.select_for_update(no_key=True).listed().get(pk=review_id)


def _has_it(held: Any) -> str:
    return f"{name_of(held)} has this case."


def _give(actor: Actor, review: Review, now: dt.datetime, lease: dt.timedelta) -> Review:
    is_new = review.holder_at(now) != actor.user
    if is_new:
        clear(review)
    review.claimed_by, review.claimed_until = actor.user, now + lease
    review.save(update_fields=FIELDS)
    if is_new:
        audit.record(actor, Action.CLAIMED, review=review)
        nudge(review.pk, review.graph)
    return review


def _record(actor: Actor, review: Review, action: AuditEntry.Action, **details: Any) -> None:
    review.save(update_fields=FIELDS)
    audit.record(actor, action, review=review, **details)
    nudge(review.pk, review.graph)


def let_go(actor: Actor, review: Review, note: str = "") -> None:
    """Inside a transaction that holds the review: nobody has it any more."""
    clear(review)
    _record(actor, review, Action.RELEASED, note=note)


# The lease, which is nobody's act: neither audited nor told


def renew(user: Any, review_ids: Iterable[int]) -> None:
    """Their page is open and worked in. What ran out meanwhile, and nobody took, goes on."""
    for pk in review_ids:  # one statement each: two rows of one might be locked crosswise
        held = Review.objects.waiting().filter(pk=pk, claimed_by=user)
        held.filter(claimed_until__isnull=False).update(claimed_until=Now() + BEAT)


def say_goodbye(user: Any, review_ids: Iterable[int]) -> None:
    """Their last tab on it was left. Should it be a reload, the page is back before the end."""
    for pk in review_ids:
        held = Review.objects.filter(pk=pk, claimed_by=user, claimed_until__isnull=False)
        held.update(claimed_until=Least("claimed_until", Now() + GOODBYE))


# The sweeper


def free_ended() -> int:
    """Hands back the claims that count no more, and says why. Returns how many."""
    claimed = Review.objects.listed().filter(claimed_until__isnull=False)
    now, policies, freed = database_now(), dict[int | None, Policy](), 0
    for review in claimed.select_related("claimed_by"):
        policy = policies.setdefault(review.claimed_by_id, Policy(review.claimed_by))
        if review.claimed_by is None or holder(review, now, policy) is None:
            freed += _free(review.pk)
    return freed


def _free(review_id: int) -> bool:
    with transaction.atomic():
        # Whoever holds the row is at it: the next round looks again.
        rows = Review.objects.select_for_update(no_key=True, skip_locked=True)
        review = rows.listed().filter(pk=review_id).first()
        if review is None or review.claimed_until is None:
            return False
        now = database_now()
        if holder(review, now) is not None:
            return False
        lapsed = review.holder_at(now) is None
        let_go(WORKER, review, note="the lease ran out" if lapsed else "no longer a reviewer of it")
        return True
