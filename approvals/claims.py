"""Who has a case just now, and what the page says of it. Reads; `desk_actions` writes."""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from approvals.clock import database_now
from approvals.models import AuditEntry, Draft, Review
from approvals.policies import Policy

LEASE = dt.timedelta(minutes=5)
# How far a page that is open and worked in pushes the lease's end, every BEAT_EVERY of its own.
BEAT = dt.timedelta(seconds=45)
# After a tab has said goodbye: long enough for the same page to come back, as a reload does.
GOODBYE = dt.timedelta(seconds=5)
# Input older than this is no work any more.
AT_WORK = dt.timedelta(minutes=5)
# What the holder has to answer who asks; and how long an asking keeps others from asking.
TO_ANSWER = dt.timedelta(seconds=30)
ASKING = dt.timedelta(minutes=2)
KEPT = "kept; "  # so begins the note of an entry that changed nobody's having it

FIELDS = ["claimed_by", "claimed_until", "claim_asked_by", "claim_asked_at"]
_CAME = [
    *(AuditEntry.Action.CLAIMED, AuditEntry.Action.TAKEN_OVER),
    *(AuditEntry.Action.RELEASED, AuditEntry.Action.UNDONE),  # given; given back with the case
]


def clear(review: Review) -> None:
    """Nobody has it any more, once `FIELDS` are saved."""
    for name in FIELDS:
        setattr(review, name, None)


def holder(review: Review, now: dt.datetime, policy: Policy | None = None) -> Any:
    """Whose claim counts at `now`; None when nobody's does.

    Not that of somebody whose account was closed, or who has left the queue since.
    """
    held = review.holder_at(now)
    if held is None or not held.is_active:
        return None
    return held if (policy or Policy(held)).may_decide(review) else None


def name_of(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())


def may_take(review: Review, user: Any, now: dt.datetime) -> bool:
    """Whether they may have it though somebody else does: an admin, or who asked and waited."""
    if Policy(user).tends_runs:
        return True
    if review.claim_asked_at is None or review.claim_asked_by_id != user.pk:
        return False
    return review.claim_asked_at + TO_ANSWER <= now


def is_asked_by_another(review: Review, user: Any, now: dt.datetime) -> bool:
    if review.claim_asked_at is None or review.claim_asked_by_id in {None, user.pk}:
        return False
    return review.claim_asked_at + ASKING > now


@dataclass(frozen=True)
class Claim:
    """What a page says to one person of a case's claim, and lets them do."""

    holder: Any = None
    mine: bool = False
    since: dt.datetime | None = None
    may_claim: bool = False
    may_ask: bool = False
    may_take: bool = False
    frees: bool = False  # taking it over leaves it to nobody: an admin outside the queue
    asked_by: Any = None
    asked_at: dt.datetime | None = None
    asked_by_me: bool = False
    waits: int = 0  # seconds until it may be taken over
    lost: bool = False  # taken over from this person
    has_draft: bool = False

    @property
    def held(self) -> bool:
        """By somebody else: what this person decides would be refused."""
        return self.holder is not None and not self.mine


NOBODY = Claim()


def claim_of(review: Review, policy: Policy) -> Claim:
    if review.status != Review.Status.WAITING:
        return NOBODY
    user, may_decide = policy.user, policy.may_decide(review)
    if review.claimed_until is None:
        return Claim(may_claim=may_decide)
    now = database_now()
    held = holder(review, now)
    if held is None:
        return Claim(may_claim=may_decide)
    if held.pk == user.pk:
        asker = review.claim_asked_by
        return Claim(held, mine=True, asked_by=asker, asked_at=review.claim_asked_at)
    return _of_another(review, policy, held, now)


def _of_another(review: Review, policy: Policy, held: Any, now: dt.datetime) -> Claim:
    user, may_decide = policy.user, policy.may_decide(review)
    told = _last_told(review)
    asked_at = review.claim_asked_at if review.claim_asked_by_id == user.pk else None
    takes = may_take(review, user, now) and (may_decide or policy.tends_runs)
    answers_in = (asked_at + TO_ANSWER - now).total_seconds() if asked_at else 0
    return Claim(
        held,
        since=told.at if told else None,
        may_ask=may_decide and not takes and asked_at is None,
        may_take=takes,
        frees=takes and not may_decide,
        asked_by=review.claim_asked_by,
        asked_at=review.claim_asked_at,
        asked_by_me=asked_at is not None,
        waits=max(0, math.ceil(answers_in)),
        lost=bool(told and (told.before or {}).get("holder_id") == user.pk),
        has_draft=may_decide and Draft.objects.filter(user=user, review=review).exists(),
    )


def _last_told(review: Review) -> AuditEntry | None:
    """How the one who has it came to have it."""
    entries = AuditEntry.objects.filter(review=review, action__in=_CAME)
    return entries.exclude(note__startswith=KEPT).order_by("-id").first()
