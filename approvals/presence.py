"""Who looks at a case just now. Tabs say so themselves, and are forgotten when they fall silent.

A writer, of what is a person's own: it is not audited. Only changes are told to others.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from approvals.clock import database_now
from approvals.errors import Invalid
from approvals.events import nudge_presence
from approvals.models import Presence, Review

SILENT = dt.timedelta(seconds=45)
Doing = Presence.Doing


@dataclass(frozen=True)
class Person:
    """Somebody who has a case open, in however many tabs."""

    user: Any
    edits: bool


def here(user: Any, review: Review, tab: UUID, doing: str) -> bool:
    """A tab says what it has open. Whether that is news to others."""
    with transaction.atomic():
        # Its own row alone: two tabs that change places would lock each other's reviews crosswise.
        rows = Presence.objects.select_for_update(of=("self",)).select_related("review")
        known = rows.filter(pk=tab).first()
        if known is not None and known.user_id != user.pk:
            raise Invalid("This tab is somebody else's.")
        now = database_now()
        said = {"user": user, "review": review, "doing": doing, "seen_at": now}
        Presence.objects.update_or_create(pk=tab, defaults=said)
        if known is not None and _is_the_same(known, review, doing, now):
            return False
        if known is not None and known.review_id != review.pk:
            nudge_presence(known.review_id, known.review.graph)
        nudge_presence(review.pk, review.graph)
        return True


def _is_the_same(known: Presence, review: Review, doing: str, now: dt.datetime) -> bool:
    same = (known.review_id, known.doing) == (review.pk, doing)
    return same and known.seen_at > now - SILENT


def gone(user: Any, review: Review, tab: UUID) -> None:
    """A tab was closed, or shows something else, which it may have said already."""
    with transaction.atomic():
        deleted, _ = Presence.objects.filter(pk=tab, user=user, review=review).delete()
        if deleted:
            nudge_presence(review.pk, review.graph)


def is_here(user: Any, review_id: int) -> bool:
    return bool(_lively().filter(user=user, review=review_id).exists())


def people_at(review: Review, besides: Any) -> list[Person]:
    """Who else has it open; who edits it comes first."""
    return grouped(_lively().filter(review=review), besides)


def people_at_each(review_ids: Iterable[int], besides: Any) -> dict[int, list[Person]]:
    """The same for the rows of a list, in one query."""
    found: dict[int, list[Presence]] = {}
    for one in _lively().filter(review__in=list(review_ids)):
        found.setdefault(one.review_id, []).append(one)
    return {pk: grouped(some, besides) for pk, some in found.items()}


def mark(rows: Sequence[Any], besides: Any) -> None:
    """Gives each row of a list its `people`, for _marks.html."""
    found = people_at_each([row.pk for row in rows], besides)
    for row in rows:
        row.people = found.get(row.pk, [])


def grouped(presences: Iterable[Presence], besides: Any) -> list[Person]:
    edits: dict[Any, bool] = {}
    for one in presences:
        if one.user_id != besides.pk:
            edits[one.user] = edits.get(one.user, False) or one.doing == Doing.EDITING
    people = [Person(user, each) for user, each in edits.items()]
    return sorted(people, key=lambda p: (not p.edits, p.user.get_full_name(), p.user.pk))


def _lively() -> Any:
    lately = Presence.objects.filter(seen_at__gt=Now() - SILENT, user__is_active=True)
    return lately.select_related("user")


def forget_silent() -> int:
    """The sweeper's: tabs that crashed, or lost their network."""
    with transaction.atomic():
        silent = Presence.objects.filter(seen_at__lte=Now() - SILENT)
        rows = silent.select_for_update(of=("self",), skip_locked=True)
        lost = list(rows.annotate(graph=F("review__graph")))
        for one in lost:
            nudge_presence(one.review_id, one.graph)
        Presence.objects.filter(pk__in=[one.pk for one in lost]).delete()
        return len(lost)
