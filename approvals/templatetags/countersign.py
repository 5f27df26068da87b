"""What the templates need to say times, risks and machine-written text."""

import datetime as dt
from typing import Any

from django import template
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from approvals import wording
from approvals.money import of_pairs
from approvals.paths import ns_path
from approvals.plain import as_text
from approvals.redline import Redline
from approvals.redline import redline as _redline
from approvals.richtext import rich as _rich
from approvals.sentences import told
from approvals.state_tree import unfolded

register = template.Library()
RISKS = {"low": 1, "medium": 2, "high": 3}


@register.filter
def age(since: dt.datetime | None) -> str:
    """How long: "now", "58 m", "2 h 14", "3 d"."""
    if since is None:
        return ""
    minutes = max(0, int((timezone.now() - since).total_seconds() // 60))
    if minutes < 1:
        return _("now")
    if minutes < 60:
        return _("%(minutes)s m") % {"minutes": minutes}
    if minutes < 24 * 60:
        return _("%(hours)s h %(minutes)s") % {
            "hours": minutes // 60,
            "minutes": f"{minutes % 60:02}",
        }
    days = minutes // (24 * 60)
    return ngettext("%(days)s d", "%(days)s d", days) % {"days": days}


@register.filter
def ago(since: dt.datetime) -> str:
    """ "12 s ago" for what has just happened, else as `age` says it."""
    seconds = max(0, int((timezone.now() - since).total_seconds()))
    if seconds < 1:
        return _("just now")
    if seconds < 60:
        return _("%(seconds)s s ago") % {"seconds": seconds}
    return _("%(age)s ago") % {"age": age(since)}


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
def as_number(number: int) -> str:
    """With the separators of the language: 1,204."""
    return number_format(number, force_grouping=True)


register.filter("money_of", of_pairs)
register.filter("unfolded", unfolded)


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
def word(text: str) -> str:
    return wording.word(str(text))


@register.filter
def risk_words(risk: str) -> str:
    return wording.risk(str(risk))


@register.filter
def risk_value(risk: str) -> str:
    return wording.risk_value(str(risk))


register.filter("told", told)


@register.filter
def initials(user: Any) -> str:
    parts = (user.get_full_name() or user.get_username()).split()
    return "".join(part[0] for part in parts[:2]).upper()


@register.filter
def person(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())
