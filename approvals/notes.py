"""Words among colleagues about a case, and who is named in them. Reads; `note_actions` writes."""

import re
from typing import Any

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat, Lower

from approvals.models import Mention, Note, Review
from approvals.policies import Policy, people_who_see

MOST = 4_000
SHOWN = 200
OFFERED = 8
# As Django allows usernames; what ends a sentence is not of the name.
_NAMED = re.compile(r"(?<![\w@])@([\w.@+-]{1,150})")


def notes_of(review: Review) -> list[Note]:
    """The newest, oldest first."""
    newest = Note.objects.filter(review=review).select_related("author").order_by("-id")
    return list(newest[:SHOWN])[::-1]


def named_in(text: str) -> set[str]:
    """The usernames that the text may mean, in small letters: with and without its full stop."""
    found = {name.lower() for name in _NAMED.findall(text)}
    return found | {name.rstrip(".+-@_") for name in found}


def people_named(text: str, review: Review) -> list[Any]:
    """Those of them who can see the case; naming others tells them nothing."""
    names = named_in(text)
    people = people_who_see(review).annotate(small=Lower("username")).filter(small__in=names)
    return list(people.order_by("pk")) if names else []


def offered(review: Review, typed: str) -> list[Any]:
    """Who could be meant by what was typed after the @: a name's or username's beginnings."""
    people = people_who_see(review).annotate(full=Concat("first_name", Value(" "), "last_name"))
    begins = Q(username__istartswith=typed) | Q(full__istartswith=typed)
    begins |= Q(last_name__istartswith=typed)
    return list(people.filter(begins).order_by("full", "username")[:OFFERED])


def mentions_of(policy: Policy) -> QuerySet[Mention]:
    """Where this person was named, in cases that they may still see; the newest first."""
    mine = Mention.objects.filter(user=policy.user, note__review__in=policy.reviews())
    return (
        mine.select_related("note__author", "note__review")
        .defer("note__review__snapshot", "note__review__search")
        .order_by("-id")
    )


def unseen(policy: Policy) -> int:
    return mentions_of(policy).filter(seen_at=None).count()
