"""What a lead asks of the queues: what waits and how old it is, what came, what became of it.

Four queries, whatever the number of reviews; the decisions' are one pass over their index.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.contrib.postgres.fields import ArrayField
from django.db import connection
from django.db.models import (
    Case,
    Count,
    DateTimeField,
    Func,
    IntegerField,
    Min,
    Q,
    QuerySet,
    Value,
    When,
)
from django.utils import timezone

from approvals.models import Decision, Review
from approvals.policies import Policy

_A = Decision.Action
# How a decision treated the agent's draft. What admins do to runs is no decision of a review.
OUTCOMES: dict[str, tuple[str, ...]] = {
    "unchanged": (_A.APPROVE,),
    "edited": (_A.EDIT,),
    "rejected": (_A.REJECT,),
    "sent_back": (_A.SEND_BACK,),
    "answered": (_A.RESPOND, _A.MIXED),
}
AGES = [dt.timedelta(minutes=15), *(dt.timedelta(hours=hours) for hours in (1, 4, 24, 72))]
DAYS = {"today": 1, "7": 7, "28": 28}


@dataclass(frozen=True)
class Span:
    """The time that is looked at, in the local zone, from its start until `now`."""

    key: str
    start: dt.datetime
    now: dt.datetime
    unit: Literal["hour", "day"]

    @classmethod
    def of(cls, key: str, now: dt.datetime) -> "Span":
        """`key` is one of DAYS; whatever else stands for today."""
        key = key if key in DAYS else "today"
        today = timezone.localtime(now).date()
        first = today - dt.timedelta(days=DAYS[key] - 1)
        start = dt.datetime.combine(first, dt.time(), timezone.get_current_timezone())
        return cls(key, start, now, "hour" if key == "today" else "day")

    @property
    def slots(self) -> list[dt.datetime]:
        """The beginning of each hour or day. A day of a time change has 23 hours or 25."""
        if self.unit == "day":
            first = self.start.date()
            days = [first + dt.timedelta(days=n) for n in range(DAYS[self.key])]
            return [dt.datetime.combine(day, dt.time(), self.start.tzinfo) for day in days]
        hours = int((self.now - self.start.astimezone(dt.UTC)).total_seconds() // 3600)
        begin = self.start.astimezone(dt.UTC)
        utc = [begin + dt.timedelta(hours=n) for n in range(hours + 1)]
        return [hour.astimezone(self.start.tzinfo) for hour in utc]


@dataclass(frozen=True)
class Waiting:
    """What waits now; `ages` counts by AGES, and of each those past their deadline."""

    count: int = 0
    past_due: int = 0
    put_off: int = 0  # not counted elsewhere: it is in nobody's queue for now
    oldest: dt.datetime | None = None
    ages: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)] * (len(AGES) + 1))


@dataclass(frozen=True)
class Decided:
    """Decisions of a group: how many, how long they took in seconds, what became of the drafts."""

    name: Any = None
    count: int = 0
    median: float | None = None
    p90: float | None = None
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))


@dataclass(frozen=True)
class Overview:
    span: Span
    waiting: Waiting
    waiting_by_graph: dict[str, int]
    arrivals: list[int]  # by slot, as the two below
    decisions: list[Decided]
    total: Decided
    by_graph: list[Decided]
    by_reviewer: list[Decided]

    @property
    def arrived(self) -> int:
        return sum(self.arrivals)


def overview(policy: Policy, span: Span, graph: str = "") -> Overview:
    """Of the queues that this person sees, or of one of them."""
    reviews = policy.reviews().exclude(kind=Review.Kind.STALLED)
    if graph:
        reviews = reviews.filter(graph=graph)
    waiting, by_graph = _waiting(reviews, span.now)
    decided = _decided(span, _queues(policy, graph))
    by_slot = {each.name: each for each in decided["slot"]}
    slots = list(enumerate(span.slots, 1))
    return Overview(
        span,
        waiting,
        by_graph,
        _arrivals(reviews, span),
        [replace(by_slot.get(number, Decided()), name=slot) for number, slot in slots],
        decided["total"][0],
        sorted(decided["graph"], key=lambda each: (-each.count, each.name)),
        _named(policy, decided["actor"], decided["total"][0].count),
    )


def _queues(policy: Policy, graph: str) -> list[str] | None:
    """Those to count; None is every one, the graphs that nobody registers any more included."""
    if policy.sees_all:
        return [graph] if graph else None
    return [each for each in policy.queues if graph in ("", each)]


# What waits


def _waiting(reviews: Any, now: dt.datetime) -> tuple[Waiting, dict[str, int]]:
    limits = [
        When(waiting_since__gt=now - age, then=Value(place)) for place, age in enumerate(AGES)
    ]
    awake = Q(snoozed_until=None) | Q(snoozed_until__lte=now)
    rows = list(
        reviews.waiting()
        .order_by()
        .annotate(age=Case(*limits, default=Value(len(AGES))))
        .values("graph", "age")
        .annotate(
            awake=Count("id", filter=awake),
            due=Count("id", filter=awake & Q(deadline__lt=now)),
            put_off=Count("id", filter=~awake),
            oldest=Min("waiting_since", filter=awake),
        )
    )
    return _summed(rows), _by_graph(rows)


def _summed(rows: list[dict[str, Any]]) -> Waiting:
    ages = [
        (_sum(of_age, "awake"), _sum(of_age, "due"))
        for place in range(len(AGES) + 1)
        for of_age in [[row for row in rows if row["age"] == place]]
    ]
    oldest = min((row["oldest"] for row in rows if row["oldest"]), default=None)
    return Waiting(_sum(rows, "awake"), _sum(rows, "due"), _sum(rows, "put_off"), oldest, ages)


def _by_graph(rows: list[dict[str, Any]]) -> dict[str, int]:
    graphs = sorted({row["graph"] for row in rows})
    return {name: _sum([r for r in rows if r["graph"] == name], "awake") for name in graphs}


def _sum(rows: Iterable[dict[str, Any]], key: str) -> int:
    return sum(row[key] for row in rows)


# What came


def _arrivals(reviews: QuerySet[Review], span: Span) -> list[int]:
    slots = Value(span.slots, output_field=ArrayField(DateTimeField()))
    place = Func("captured_at", slots, function="width_bucket", output_field=IntegerField())
    rows = dict(
        reviews.filter(captured_at__gte=span.start, captured_at__lte=span.now)
        .order_by()
        .values_list(place)
        .annotate(number=Count("id"))
    )
    return [rows.get(number + 1, 0) for number in range(len(span.slots))]


# What was decided

_NUMBERS = {action: place for place, actions in enumerate(OUTCOMES.values()) for action in actions}
_OUTCOME = " ".join(f"WHEN '{action}' THEN {place}" for action, place in _NUMBERS.items())
_COUNTS = ", ".join(f"count(*) FILTER (WHERE outcome = {place})" for place in range(len(OUTCOMES)))
# Every grouping in one pass; of the reviews, an index alone is read.
_SQL = f"""
SELECT GROUPING(slot, graph, actor_id), slot, graph, actor_id, count(*),
       percentile_cont(ARRAY[.5, .9]) WITHIN GROUP (ORDER BY took), {_COUNTS}
FROM (
    SELECT width_bucket(d.decided_at, %(slots)s) AS slot, r.graph COLLATE "C" AS graph, d.actor_id,
           CASE d.action {_OUTCOME} END AS outcome,
           extract(epoch FROM d.decided_at - r.captured_at)::float8 AS took
    FROM approvals_decision d JOIN approvals_review r ON r.id = d.review_id
    WHERE d.decided_at >= %(start)s AND d.decided_at <= %(now)s AND d.state <> 'undone'
      AND (%(graphs)s::text[] IS NULL OR r.graph = ANY(%(graphs)s))
) AS decided
WHERE outcome IS NOT NULL
GROUP BY GROUPING SETS ((), (slot), (graph), (actor_id))
"""  # noqa: S608 - put together from constants
_GROUPINGS = {0b111: "total", 0b011: "slot", 0b101: "graph", 0b110: "actor"}


def _decided(span: Span, graphs: list[str] | None) -> dict[str, list[Decided]]:
    """By slot, graph and actor, and in all. `graphs` None means every one."""
    given: dict[str, Any] = {
        "slots": span.slots,
        "start": span.start,
        "now": span.now,
        "graphs": graphs,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SQL, given)
        rows = cursor.fetchall()
    found: dict[str, list[Decided]] = {kind: [] for kind in _GROUPINGS.values()}
    for grouping, slot, graph, actor, count, took, *outcomes in rows:
        median, p90 = took or (None, None)
        name = next((each for each in (slot, graph, actor) if each is not None), None)
        treated = dict(zip(OUTCOMES, outcomes, strict=True))
        found[_GROUPINGS[grouping]].append(Decided(name, count, median, p90, treated))
    return found


def _named(policy: Policy, actors: list[Decided], total: int) -> list[Decided]:
    """By person, for those who oversee all queues; a reviewer sees their own line alone."""
    if not policy.sees_all:
        return [replace(each, name=policy.user) for each in actors if each.name == policy.user.pk]
    people = get_user_model().objects.in_bulk([each.name for each in actors])
    named = [replace(each, name=people[each.name]) for each in actors]
    return sorted(named, key=lambda each: (-each.count, each.name.get_username()))
