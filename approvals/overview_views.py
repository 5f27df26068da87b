"""The overview for those who lead: figures, and charts that each say what they found."""

from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from approvals import charts
from approvals import overview_words as words
from approvals.overview import DAYS, Decided, Overview, Span, overview
from approvals.policies import Policy

FEWEST = 8  # hours on the axis, however early it is
FIRST = 10  # reviewers, before the rest are folded away
ON_TOP = 8  # columns, up to which each can carry its number
INKS = {
    "unchanged": "pale",
    "edited": "accent",
    "rejected": "high",
    "sent_back": "mid",
    "answered": "grey",
}
OUTCOMES = {
    "unchanged": gettext_lazy("unchanged"),
    "edited": gettext_lazy("edited"),
    "rejected": gettext_lazy("rejected"),
    "sent_back": gettext_lazy("sent back"),
    "answered": gettext_lazy("answered"),
}
SPANS = {"today": gettext_lazy("Today"), "7": gettext_lazy("7 days"), "28": gettext_lazy("28 days")}


@require_safe
def overview_page(request: HttpRequest) -> HttpResponse:
    policy = Policy(request.user)
    if not policy.sees_overview:
        raise Http404
    graph = request.GET.get("graph", "")
    graph = graph if graph in policy.listed_queues else ""
    span = Span.of(request.GET.get("span", ""), timezone.now())
    shown = overview(policy, span, graph)
    context = {
        "policy": policy,
        "section": "overview",
        "shown": shown,
        "graph": graph,
        "graphs": policy.listed_queues,
        "spans": [(key, SPANS[key]) for key in DAYS],
        "key": [(INKS[name], OUTCOMES[name]) for name in OUTCOMES],
        "oldest": _oldest(shown),
        "median": words.parts(shown.total.median),
        "p90": words.parts(shown.total.p90),
        "ages": _ages(shown),
        "findings": {
            "waiting": words.of_waiting(shown),
            "flow": words.of_flow(shown),
            "time": words.of_time(shown),
            "outcomes": words.of_outcomes(shown.total, shown.by_graph),
        },
        **_columns(shown),
        "outcomes": _outcomes(shown.by_graph),
        "reviewers": (reviewers := _outcomes(shown.by_reviewer))[:FIRST],
        "more_reviewers": reviewers[FIRST:],
    }
    return render(request, "overview.html", context)


def _oldest(shown: Overview) -> list[tuple[str, str]]:
    since = shown.waiting.oldest
    return words.parts((shown.span.now - since).total_seconds() if since else None)


def _ages(shown: Overview) -> list[dict[str, Any]]:
    """A row for each age: its bar, in time and past due, and its numbers."""
    most = max(count for count, _due in shown.waiting.ages)
    return [
        {
            "name": name,
            "count": count,
            "due": due,
            "bar": charts.bar(
                [("grey", count - due, _("in time")), ("high", due, _("past due"))], most
            ),
        }
        for name, (count, due) in zip(words.age_names(), shown.waiting.ages, strict=True)
    ]


def _columns(shown: Overview) -> dict[str, Any]:
    first = _first_busy(shown)
    slots = words.slots(shown.span)[first:]
    decided = shown.decisions[first:]
    numbers = len(slots) <= ON_TOP
    flow = [
        charts.Series("open", _("arrived"), shown.arrivals[first:]),
        charts.Series("accent", _("decided"), [each.count for each in decided]),
    ]
    said = [(words.duration(each.median), words.duration(each.p90)) for each in decided]
    return {
        "flow": charts.columns(slots, flow, "flow-finding", numbers=numbers),
        "flow_rows": list(zip(slots, *(each.values for each in flow), strict=True)),
        "time_rows": [
            (slot, each.count, *in_words)
            for slot, each, in_words in zip(slots, decided, said, strict=True)
        ],
        **_times(slots, decided, said, numbers),
    }


def _first_busy(shown: Overview) -> int:
    """A day begins on the page with its first work, not in the dead of night."""
    if shown.span.unit == "day":
        return 0
    busy = [
        place
        for place, (came, went) in enumerate(zip(shown.arrivals, shown.decisions, strict=True))
        if came or went.count
    ]
    latest = max(0, len(shown.arrivals) - FEWEST)
    return min(busy[0] if busy else latest, latest)


def _times(
    slots: Sequence[charts.Slot],
    decided: Sequence[Decided],
    said: Sequence[tuple[str, str]],
    numbers: bool,
) -> dict[str, Any]:
    """The median as a column, and on it what nine in ten took longer."""
    unit, name = words.unit_for(max((each.p90 or 0 for each in decided), default=0))
    median = [(each.median or 0) / unit for each in decided]
    rest = [((each.p90 or 0) - (each.median or 0)) / unit for each in decided]
    series = [
        charts.Series("accent", _("median"), median),
        charts.Series("pale", _("p90"), rest),
    ]
    in_words = list(zip(*said, strict=True))
    drawn = charts.columns(
        slots, series, "time-finding", stacked=True, numbers=numbers, said=in_words
    )
    return {"time": drawn, "unit": name}


def _outcomes(groups: Sequence[Decided]) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "count": number_format(each.count, force_grouping=True),
            "bar": charts.bar(
                [(INKS[name], n, f"{OUTCOMES[name]}: {n}") for name, n in each.outcomes.items()],
                each.count,
            ),
            "shares": [words.percent(number, each.count) for number in each.outcomes.values()],
            "median": words.duration(each.median),
            "p90": words.duration(each.p90),
        }
        for each in groups
    ]
