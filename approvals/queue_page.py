"""The list beside a case and on the inbox: what the address asks for, as the template wants it."""

import datetime as dt
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.http import urlencode

from approvals import presence, queue, wording
from approvals.models import Review, ReviewQuerySet, SavedView
from approvals.paging import MOST_ROWS, ROWS, as_int
from approvals.policies import Policy
from approvals.queue import Asked

SOON = dt.timedelta(hours=1)
RISKS = ("high", "medium", "low")


def asked_of(request: HttpRequest) -> Asked:
    """What this request's address asks of the list; read once a request."""
    known: Asked | None = getattr(request, "_asked", None)
    if known is None:
        known = queue.parse(request.GET, request.user)
        request._asked = known  # type: ignore[attr-defined]
    return known


def among(request: HttpRequest, policy: Policy) -> ReviewQuerySet:
    """The reviews of the list that this address shows; what waits, where it shows what does not."""
    asked = asked_of(request)
    if asked.view in {"decided", "snoozed"}:
        return policy.reviews().waiting()
    return asked.of(policy.reviews())


def row_query(request: HttpRequest) -> str:
    """What an address to another case of the same list carries on."""
    return asked_of(request).query


def saved_views(user: Any) -> list[SavedView]:
    """This person's own, and those that are shared."""
    return list(SavedView.objects.filter(owner=user) | SavedView.objects.filter(shared=True))


def queue_context(
    request: HttpRequest, policy: Policy, current: int | None = None
) -> dict[str, Any]:
    """One keyset page of the list, and the counts of every view."""
    asked, reviews = asked_of(request), policy.reviews()
    after = request.GET.get("after", "").replace("\x00", "")
    rows, size = _page(request, asked, reviews, after)
    presence.mark(rows[:size], request.user)
    saved = saved_views(request.user)
    lists = {one.pk: queue.parse(QueryDict(one.query), request.user) for one in saved}
    counts = queue.counts(reviews, asked, lists)
    shown = current or as_int(request.GET.get("current", ""))
    place = {k: v for k, v in (("after", after), ("current", shown)) if v}
    return {
        "policy": policy,
        "section": "queue",
        "asked": asked,
        "rows": _placed(rows[:size], asked, counts),
        "older": queue.next_page(rows, asked.sort, size),
        "paged": bool(after),
        "count": queue.said(counts["here"]),
        "nav_count": queue.said(counts["waiting"]),
        "newest": counts["newest"],
        "tabs": _tabs(asked, counts, saved, lists),
        "row_query": asked.query,
        "list_query": "&".join(filter(None, [asked.query, urlencode(place)])),
        "current": shown,
        "choices": _choices(policy),
        "has_saved": bool(saved),
        "can_be_saved": bool(asked.query)
        and asked.query not in {one.query for one in lists.values()},
        "may_select": asked.view != "decided" and (bool(policy.queues) or policy.tends_runs),
    }


def _page(
    request: HttpRequest, asked: Asked, reviews: ReviewQuerySet, after: str
) -> tuple[list[Review], int]:
    """The rows, and how many of them are this page's: a list that is refreshed, and tells what is
    `shown`, keeps all of it, whatever came before it."""
    given = request.GET.get("shown", "").split(",")[:MOST_ROWS]
    shown = set(filter(None, map(as_int, given)))
    rows = asked.page(reviews, after, MOST_ROWS if shown else ROWS)
    still = [place for place, row in enumerate(rows[:MOST_ROWS], 1) if row.pk in shown]
    return rows, max([ROWS, *still])


def _choices(policy: Policy) -> dict[str, Any]:
    """What the filters' form offers."""
    return {
        "graphs": policy.listed_queues,
        "risks": [(name, wording.risk(name)) for name in RISKS],
        "due": queue.DUE,
        "sorts": queue.SORTS,
    }


def _placed(rows: list[Review], asked: Asked, counts: dict[str, int]) -> list[Review]:
    """The rows with what only the list knows of them: how due they are, and their heading."""
    now, midnight = timezone.now(), queue.end_of_day()
    before = ""
    for row in rows:
        row.due = "" if asked.view == "decided" else _due(row.deadline, now)  # type: ignore[attr-defined]
        if row.due == "soon":  # type: ignore[attr-defined]
            row.minutes = _minutes(row.deadline, now)  # type: ignore[attr-defined]
        row.heading = ""  # type: ignore[attr-defined]
        if asked.sort == "deadline" and asked.view != "decided":
            group = queue.group_of(row.deadline, now, midnight)
            if group != before:
                row.heading = queue.GROUPS[group]  # type: ignore[attr-defined]
                row.group, row.of_group = group, queue.said(counts[f"due_{group}"])  # type: ignore[attr-defined]
            before = group
    return rows


def _due(deadline: dt.datetime | None, now: dt.datetime) -> str:
    """ "late", "soon", or "" for what has time."""
    if deadline is None or deadline >= now + SOON:
        return ""
    return "late" if deadline < now else "soon"


def _minutes(deadline: Any, now: dt.datetime) -> int:
    return max(1, int((deadline - now).total_seconds() // 60))


def _tabs(
    asked: Asked, counts: dict[str, int], saved: list[SavedView], lists: dict[int, Asked]
) -> list[dict[str, Any]]:
    """The views and the saved views, each with its count; the one that is shown is `here`."""
    kept = [
        {
            "key": f"saved-{one.pk}",
            "name": one.name,
            "query": one.query,
            "count": queue.said(counts[f"saved_{one.pk}"]),
            "is_empty": not counts[f"saved_{one.pk}"],
            "here": lists[one.pk].query == asked.query,
        }
        for one in saved
    ]
    is_saved: Any = False
    for tab in kept:  # of two that are alike, the first
        tab["here"] = tab["here"] and not is_saved
        is_saved = is_saved or tab["here"]
    return [
        {
            "key": name,
            "name": label,
            "query": "" if name == "waiting" else f"view={name}",
            "count": queue.said(counts[name]),
            "is_empty": not counts[name],
            "here": asked.view == name and not is_saved,
        }
        for name, label in queue.VIEWS.items()
        if name in counts
    ] + kept
