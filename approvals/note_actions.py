"""What people write to each other about a case. The agent is never given any of it.

A writer, as `actions` is. A note changes nothing of the review: its row is not locked.
"""

import datetime as dt
from typing import Any

from django.db.models.functions import Now

from approvals import audit
from approvals.actions import refusing
from approvals.audit import Actor
from approvals.clock import database_now
from approvals.errors import Invalid
from approvals.events import nudge
from approvals.models import AuditEntry, Mention, Note, Review
from approvals.notes import MOST, people_named
from approvals.plain import clean
from approvals.storable import Refused, one_newline, refuse_broken_text

AGAIN = dt.timedelta(minutes=1)


def add(actor: Actor, review: Review, text: str) -> Note:
    """Leaves a note on a review that the person can see. Raises Invalid.

    The very same again within a minute is the same note: its answer was lost, and it was sent anew.
    """
    with refusing(actor, review_id=review.pk, after={"note": clean(text[:MOST])}):
        text = _checked(text)
        mine = Note.objects.filter(review=review, author=actor.user, text=text)
        if again := mine.filter(at__gt=database_now() - AGAIN).first():
            return again
        note = Note.objects.create(review=review, author=actor.user, text=text)
        named = [one for one in people_named(text, review) if one.pk != actor.user.pk]
        Mention.objects.bulk_create(Mention(note=note, user=one) for one in named)
        told = {"note": text, "mentioned": sorted(one.get_username() for one in named)}
        audit.record(actor, AuditEntry.Action.NOTED, review=review, after=told)
        nudge(review.pk, review.graph)
        return note


def _checked(text: str) -> str:
    text = one_newline(text).strip()
    if not text:
        raise Invalid("The note is empty. Write it, then add it.")
    if len(text) > MOST:
        raise Invalid(f"The note has {len(text):,} characters; at most {MOST:,} are kept.")
    try:
        refuse_broken_text(text)
    except Refused as wrong:
        raise Invalid(str(wrong)) from wrong
    return text


def see(user: Any, review_id: int | None = None) -> int:
    """They have looked: at this review, or at the list of all. Their own affair, not audited."""
    unseen = Mention.objects.filter(user=user, seen_at=None)
    if review_id is not None:
        unseen = unseen.filter(note__review=review_id)
    return unseen.update(seen_at=Now())
