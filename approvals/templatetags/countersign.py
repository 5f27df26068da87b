"""What the templates need to say times, risks and machine-written text."""

import datetime as dt
from typing import Any

from django import template
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from approvals import wording
from approvals.paths import ns_path
from approvals.plain import as_text
from approvals.redline import Redline
from approvals.redline import redline as _redline
from approvals.richtext import rich as _rich

register = template.Library()
RISKS = {"low": 1, "medium": 2, "high": 3}


@register.filter
def age(since: dt.datetime | None) -> str:
    """How long ago: "now", "58 m", "2 h 14", "3 d"."""
    if since is None:
        return ""
    minutes = max(0, int((timezone.now() - since).total_seconds() // 60))
    if minutes < 1:
        return "now"
    if minutes < 60:
        return f"{minutes} m"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02}"
    return f"{minutes // (24 * 60)} d"


@register.filter
def ago(since: dt.datetime) -> str:
    """ "12 s ago" for what has just happened, else as `age` says it."""
    seconds = max(0, int((timezone.now() - since).total_seconds()))
    if seconds < 1:
        return "just now"
    return f"{seconds} s ago" if seconds < 60 else f"{age(since)} ago"


@register.filter
def moment(text: str | None) -> dt.datetime | None:
    """LangGraph's created_at, as a time."""
    try:
        return parse_datetime(text or "")
    except ValueError:
        return None


@register.filter
def risk_level(risk: str) -> int:
    """1 to 3 for the words that mean a level; 0 for any other."""
    return RISKS.get(str(risk).strip().lower(), 0)


@register.filter
def rich(text: Any) -> str:
    return _rich("" if text is None else str(text))


@register.filter
def redlined(before: Any, after: Any) -> Redline:
    """The word diff of two texts; what is no text is compared as JSON."""
    return _redline(as_text(before), as_text(after))


register.filter("as_text", as_text)
register.filter("ns_path", ns_path)


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def get(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, dict) else None


@register.filter
def short_id(text: str) -> str:
    """Enough of an id to tell it from its neighbours: uuid6 ids begin alike and end alike."""
    return text if len(text) <= 18 else f"{text[:8]}…{text[-8:]}"


@register.filter
def done(action: str) -> str:
    return wording.done(action)


@register.filter
def initials(user: Any) -> str:
    parts = (user.get_full_name() or user.get_username()).split()
    return "".join(part[0] for part in parts[:2]).upper()


@register.filter
def person(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())
