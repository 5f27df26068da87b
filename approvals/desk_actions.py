"""What people do with a review before it is decided: claim it, hand it back, take the next one.

A writer, as `actions` is, by the same rule: one action = one transaction + its audit entry + a
nudge on commit. These lock the review's row alone, and never its thread after it.
"""

import datetime as dt

from approvals import audit
from approvals.actions import refusing
from approvals.audit import Actor
from approvals.clock import database_now
from approvals.errors import Held, Moved, NotAllowed
from approvals.events import nudge
from approvals.models import AuditEntry, Review, ReviewQuerySet
from approvals.policies import Policy

LEASE = dt.timedelta(minutes=5)
# For a case that was fetched ahead and is not looked at yet.
AHEAD = dt.timedelta(seconds=60)


def claim(actor: Actor, review_id: int) -> Review:
    """Takes a waiting review for five minutes, or renews the lease. Audited when it is new.

    Raises Held when somebody else has it, Moved, NotAllowed.
    """
    with refusing(actor, review_id=review_id):
        review = _locked(actor, review_id)
        now = database_now()
        holder = review.holder_at(now)
        if holder is not None and holder.pk != actor.user.pk:
            raise Held(f"{holder.get_full_name() or holder.get_username()} has this case.")
        return _give(actor, review, now, LEASE)


def release(actor: Actor, review_id: int) -> None:
    """Hands a review back that this person holds; of any other it is nothing."""
    with refusing(actor, review_id=review_id):
        review = _row(review_id)
        if review.claimed_by_id == actor.user.pk:
            let_go(actor, review)


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
    what it has claimed they see claimed when they lock it.
    """
    policy = Policy(actor.user)
    if policy.is_auditor:
        return None
    mine = among.awake().free_for(actor.user).filter(graph__in=policy.queues)
    rows = mine.exclude(pk__in=besides or []).order_by("waiting_since", "id")
    with refusing(actor):
        now = database_now()
        unheld = rows.exclude(claimed_by=actor.user, claimed_until__gt=now)
        # Last, what another transaction has locked just now, should it come free; and one's own.
        for found in (_first(unheld, skip_locked=True), _first(unheld), _first(rows)):
            if found is not None:
                return _give(actor, found, now, lease)
        return None


def _first(rows: ReviewQuerySet, *, skip_locked: bool = False) -> Review | None:
    locked = rows.select_for_update(no_key=True, skip_locked=skip_locked, of=("self",))
    return locked.listed().first()


def _locked(actor: Actor, review_id: int) -> Review:
    """Inside a transaction: the review for this transaction alone, if it can be worked on."""
    review = _row(review_id)
    if not Policy(actor.user).may_decide(review):
        raise NotAllowed
    if review.status != Review.Status.WAITING:
        raise Moved(review.ended_because or "This case does not wait any more.")
    return review


def _row(review_id: int) -> Review:
    rows = Review.objects.select_for_update(no_key=True, of=("self",)).listed()
    return rows.select_related("claimed_by").get(pk=review_id)


def _give(actor: Actor, review: Review, now: dt.datetime, lease: dt.timedelta) -> Review:
    is_new = review.holder_at(now) is None
    review.claimed_by, review.claimed_until = actor.user, now + lease
    review.claim_asked_by = review.claim_asked_at = None
    review.save(update_fields=CLAIM)
    if is_new:
        audit.record(actor, AuditEntry.Action.CLAIMED, review=review)
        nudge(review.pk, review.graph)
    return review


CLAIM = ["claimed_by", "claimed_until", "claim_asked_by", "claim_asked_at"]


def let_go(actor: Actor, review: Review, note: str = "") -> None:
    """Inside a transaction that holds the review: nobody has it any more."""
    review.claimed_by = review.claimed_until = None
    review.claim_asked_by = review.claim_asked_at = None
    review.save(update_fields=CLAIM)
    audit.record(actor, AuditEntry.Action.RELEASED, review=review, note=note)
    nudge(review.pk, review.graph)
