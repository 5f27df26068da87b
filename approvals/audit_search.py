"""The audit page's one typed line: `actor:rita action:decided after:2026-11-01`."""

import datetime as dt
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone

from approvals.models import AuditEntry

_TERM = re.compile(r'(?:(\w+):)?(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class Term:
    """One term as it was understood; `without` is the line with it taken out."""

    key: str
    value: str
    condition: Q | None
    without: str = ""


def parse(line: str) -> list[Term]:
    """The terms of a line, in order. What was not understood has no condition."""
    found = [(match.group(0), _term(match)) for match in _TERM.finditer(line)]
    return [
        Term(term.key, term.value, term.condition, line.replace(text, "", 1).strip())
        for text, term in found
    ]


def apply(entries: Any, terms: list[Term]) -> Any:
    """The entries that every understood term lets through."""
    for term in terms:
        if term.condition is not None:
            entries = entries.filter(term.condition)
    return entries


def _term(match: re.Match[str]) -> Term:
    key, value = (match.group(1) or "").lower(), match.group(2) or match.group(3) or ""
    value = value.replace("\x00", "")
    try:
        return Term(key, value, _CONDITIONS[key](value))
    except (KeyError, ValueError):
        return Term(key, value, None)


def _actor(name: str) -> Q:
    return Q(actor__username__iexact=name) | Q(actor_name__icontains=name)


def _action(name: str) -> Q:
    if name not in AuditEntry.Action.values:
        raise ValueError(name)
    return Q(action=name)


def _day(text: str) -> dt.datetime:
    day = dt.date.fromisoformat(text)
    return timezone.make_aware(dt.datetime.combine(day, dt.time()))


_CONDITIONS: dict[str, Callable[[str], Q]] = {
    "actor": _actor,
    "action": _action,
    "thread": lambda text: Q(thread_id=text),
    "review": lambda text: Q(review_id=int(text)),
    "decision": lambda text: Q(decision_id=uuid.UUID(text)),
    "after": lambda text: Q(at__gte=_day(text)),
    "before": lambda text: Q(at__lt=_day(text)),
}
