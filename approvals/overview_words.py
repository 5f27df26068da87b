"""The overview's figures in words: durations, and the sentence that each chart comes down to."""

import datetime as dt
from collections.abc import Sequence

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from approvals.charts import Slot
from approvals.overview import Decided, Overview, Span

ENOUGH = 5  # decisions, before a share of them is worth a sentence


# Durations

_STEPS = ((86_400, 3_600), (3_600, 60), (60, 1))


def parts(seconds: float | None) -> list[tuple[str, str]]:
    """In its two largest units: ("3", "h"), ("02", "m"). Nothing for None."""
    if seconds is None:
        return []
    whole = max(0, round(seconds))
    units = {86_400: _("d"), 3_600: _("h"), 60: _("m"), 1: _("s")}
    for large, small in _STEPS:
        if whole >= large:
            rest = whole % large // small
            return [(str(whole // large), units[large]), (f"{rest:02}", units[small])]
    return [(str(whole), units[1])]


def duration(seconds: float | None) -> str:
    """ "4 m 10 s", with spaces that do not break; "–" for none."""
    return "\u00a0".join(f"{number}\u00a0{unit}" for number, unit in parts(seconds)) or "–"


def unit_for(seconds: float) -> tuple[int, str]:
    """The unit of an axis on which this is the longest, in seconds and by name."""
    if seconds < 120:
        return 1, _("seconds")
    if seconds < 3 * 3_600:
        return 60, _("minutes")
    return (3_600, _("hours")) if seconds < 3 * 86_400 else (86_400, _("days"))


# Slots


def slots(span: Span) -> list[Slot]:
    """Under the axis: each hour, each of seven days, of four weeks each Monday."""
    return [Slot(_label(span, slot), _slot_name(span, slot)) for slot in span.slots]


def _label(span: Span, slot: dt.datetime) -> str:
    if span.unit == "hour":
        return date_format(slot, "H")
    if span.key == "7":
        return date_format(slot, _("D j"))
    return date_format(slot, "MONTH_DAY_FORMAT") if slot.weekday() == 0 else ""


def _slot_name(span: Span, slot: dt.datetime) -> str:
    return date_format(slot, "H:i" if span.unit == "hour" else _("l j F"))


def age_names() -> list[str]:
    """Of overview.AGES, each up to its limit; the last above all."""
    return [
        _("under 15 m"),
        _("15 m to 1 h"),
        _("1 to 4 h"),
        _("4 to 24 h"),
        _("1 to 3 d"),
        _("over 3 d"),
    ]


# Findings


def of_waiting(shown: Overview) -> str:
    waiting = shown.waiting
    if not waiting.count:
        said = _("Nothing waits.")
    else:
        age = duration((shown.span.now - waiting.oldest).total_seconds() if waiting.oldest else 0)
        said = ngettext(
            "%(n)s case waits, for %(age)s.",
            "%(n)s cases wait, the oldest for %(age)s.",
            waiting.count,
        ) % {"n": number_format(waiting.count, force_grouping=True), "age": age}
    if waiting.past_due:
        said += " " + ngettext(
            "%(n)s is past its deadline.", "%(n)s are past their deadline.", waiting.past_due
        ) % {"n": number_format(waiting.past_due, force_grouping=True)}
    if waiting.put_off:
        said += " " + ngettext(
            "%(n)s more is put off to later.", "%(n)s more are put off to later.", waiting.put_off
        ) % {"n": number_format(waiting.put_off, force_grouping=True)}
    return said


def of_flow(shown: Overview) -> str:
    arrived, decided = shown.arrived, shown.total.count
    said = _("%(arrived)s arrived, %(decided)s decided.") % {
        "arrived": number_format(arrived, force_grouping=True),
        "decided": number_format(decided, force_grouping=True),
    }
    more = number_format(abs(arrived - decided), force_grouping=True)
    if arrived > decided:
        return said + " " + _("%(n)s more came than were decided.") % {"n": more}
    if decided > arrived:
        return said + " " + _("%(n)s more were decided than came.") % {"n": more}
    return said


def of_time(shown: Overview) -> str:
    if shown.total.median is None:
        return _("Nothing was decided in this time.")
    said = _("Half were decided within %(median)s of arriving, nine in ten within %(p90)s.") % {
        "median": duration(shown.total.median),
        "p90": duration(shown.total.p90),
    }
    slowest = max(shown.decisions, key=lambda each: each.p90 or 0)
    busy = sum(each.count > 0 for each in shown.decisions)
    if busy < 2 or slowest.p90 is None:
        return said
    when = _slot_name(shown.span, timezone.localtime(slowest.name))
    return f"{said} " + _("Slowest: %(when)s.") % {"when": when}


def of_outcomes(total: Decided, by_graph: Sequence[Decided]) -> str:
    if not total.count:
        return _("Nothing was decided in this time.")
    said = ngettext(
        "%(n)s decision, %(share)s of them unchanged.",
        "%(n)s decisions, %(share)s of them unchanged.",
        total.count,
    ) % {
        "n": number_format(total.count, force_grouping=True),
        "share": percent(total.outcomes["unchanged"], total.count),
    }
    known = [each for each in by_graph if each.count >= ENOUGH]
    if len(known) < 2:
        return said
    most = max(known, key=lambda each: each.outcomes["edited"] / each.count)
    share = percent(most.outcomes["edited"], most.count)
    return f"{said} " + _("Most often edited: %(graph)s, %(share)s.") % {
        "graph": most.name,
        "share": share,
    }


def percent(part: int, whole: int) -> str:
    """Rounded, but never to none or all where it is neither."""
    if not whole:
        return "–"
    share = round(100 * part / whole)
    if share == 0 and part:
        return _("<%(n)s %%") % {"n": 1}
    if share == 100 and part < whole:
        return _(">%(n)s %%") % {"n": 99}
    return _("%(n)s %%") % {"n": share}
