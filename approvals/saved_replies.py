"""Texts that people put into replies, and their fields filled from a review's state."""

import re
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from approvals.models import Review, SavedReply
from approvals.paths import pick
from approvals.plain import as_text
from approvals.policies import Policy

FIELD = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")
SHOWN = 8  # options of one search


@dataclass(frozen=True)
class Filled:
    """A saved reply as it would go into a text; `missing` are fields that the state has not got."""

    reply: SavedReply
    text: str
    missing: list[str]


def placeholders(text: str) -> list[str]:
    """The fields that a text still names, as they stand in it, each once."""
    return list(dict.fromkeys(match[0] for match in FIELD.finditer(text)))


def fill(reply: SavedReply, values: Any) -> Filled:
    """What is not there, or is no plain value, stays as it is written: nobody should send it, and
    everybody should see it."""
    text = FIELD.sub(lambda match: _value(values, match[1]) or match[0], reply.text)
    missing = [name for name in placeholders(reply.text) if not _value(values, name.strip("{} "))]
    return Filled(reply, text, missing)


def _value(values: Any, path: str) -> str:
    found = pick(values, path)
    is_plain = isinstance(found, str | int | float) and not isinstance(found, bool)
    return as_text(found) if is_plain else ""


def shown_to(policy: Policy) -> QuerySet[SavedReply]:
    """A person's own, and those shared with their queues or with everybody."""
    if policy.is_auditor:
        return SavedReply.objects.none()
    shared = Q(owner=None, graph__in=["", *policy.queues])
    return SavedReply.objects.filter(shared | Q(owner=policy.user))


def found_for(policy: Policy, review: Review, text: str) -> list[Filled]:
    """The saved replies for this review that have every word of `text`, filled."""
    rows = shown_to(policy).filter(graph__in=["", review.graph])
    for word in text.replace("\x00", "").split()[:8]:
        rows = rows.filter(Q(title__icontains=word) | Q(text__icontains=word))
    values = {**(review.snapshot.get("around") or {}), **review.values}
    return [fill(reply, values) for reply in rows[:SHOWN]]


def may_change(policy: Policy, reply: SavedReply) -> bool:
    """One's own; of a queue's, its members; of everybody's, admins."""
    if policy.is_auditor:
        return False
    if reply.owner_id is not None:
        return bool(reply.owner_id == policy.user.pk)
    return policy.tends_runs or (reply.graph in policy.queues)
