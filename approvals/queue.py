"""What a list's address asks for: view, filters, order. Read, turned into queries, written again.

The one search box takes words and typed terms (`risk:high tag:refund due:today is:mine`); every
filter has a parameter of its own as well, so that forms without JavaScript can set it.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, Count, DateTimeField, Exists, F, Max, OuterRef, Q, Value, When
from django.db.models.fields.tuple_lookups import TupleGreaterThan, TupleLessThan
from django.db.models.functions import Coalesce, Lower, Now, Trim
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from approvals.models import Decision, Review, ReviewQuerySet, has_words
from approvals.paging import COUNTED, ROWS, cursor

SORTS = {
    "age": _("Oldest first"),
    "newest": _("Newest first"),
    "deadline": _("Due first"),
    "risk": _("Riskiest first"),
    "title": _("By title"),
}
VIEWS = {
    "waiting": _("Waiting"),
    "mine": _("Mine"),
    "unassigned": _("Unassigned"),
    "team": _("My team"),
    "snoozed": _("Snoozed"),
    "decided": _("Decided by me today"),
}
DUE = {"overdue": _("Overdue"), "hour": _("Within the hour"), "today": _("Today")}
FILTERS = ("graph", "risk", "assignee", "round", "tag", "due")
LONGEST = 500  # characters of the search box that count
MOST = 20  # values of one filter
_TERM = re.compile(r'(?<!\S)(\w+):(?:"([^"]*)"|(\S+))')
_NEVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Term:
    """One filter as it was understood; `without` is the address' query with it taken out."""

    key: str
    value: str
    condition: Q | None
    without: str = ""


@dataclass(frozen=True)
class Asked:
    """What the address asks for. `query` is all of it but the page, in one fixed order."""

    user: Any
    view: str
    sort: str
    line: str
    words: str
    terms: tuple[Term, ...]
    query: str
    given: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether nothing narrows the view."""
        return not self.terms and not self.words

    @property
    def narrowed(self) -> Q:
        found = has_words(self.words)
        for term in self.terms:
            found &= Q() if term.condition is None else term.condition
        return found

    @property
    def condition(self) -> Q:
        return in_view(self.view, self.user) & self.narrowed

    def of(self, reviews: ReviewQuerySet) -> ReviewQuerySet:
        """Those of `reviews` that the list shows, whichever page."""
        if self.view == "decided":
            return reviews.filter(Exists(_my_decisions(self.user)), self.narrowed)
        return reviews.waiting().filter(self.condition)

    def page(self, reviews: ReviewQuerySet, after: str, size: int = ROWS) -> list[Review]:
        """One page, and a row of the next."""
        rows = _sorted(self.of(reviews), self.sort, after).listed()
        people = ("claimed_by", "assigned_to", "assigned_group", "snoozed_by")
        return list(rows.select_related(*people)[: size + 1])


# Reading


def parse(given: Any, user: Any) -> Asked:
    """Whatever the address says: what cannot be understood filters nothing, and is shown so."""
    values = {key: [_clean(v) for v in given.getlist(key)] for key in (*FILTERS, "q")}
    values = {key: [v for v in listed if v][:MOST] for key, listed in values.items()}
    line = " ".join(values["q"])[:LONGEST].strip()
    values["q"] = [line] if line else []
    typed = [match for match in _TERM.finditer(line) if match[1].lower() in _KEYS]
    words = line
    for match in typed:
        words = words.replace(match[0], " ", 1)
    for key, known in (("view", VIEWS), ("sort", SORTS)):
        named = [m[2] or m[3] for m in typed if m[1].lower() == _TYPED_AS[key]]
        chosen = [v.lower() for v in (*named[-1:], given.get(key, "")) if v.lower() in known]
        values[key] = chosen[:1] if chosen[:1] != list(known)[:1] else []
    return Asked(
        user=user,
        view=(values["view"] or ["waiting"])[0],
        sort=(values["sort"] or ["age"])[0],
        line=line,
        words=" ".join(words.split()),
        terms=tuple(_terms(values, typed, user)),
        query=_written(values),
        given=values,
    )


def _clean(text: str) -> str:
    return text.replace("\x00", "")[:LONGEST].strip()


def _terms(values: dict[str, list[str]], typed: list[re.Match[str]], user: Any) -> list[Term]:
    found = []
    for key in FILTERS:
        for value in values[key]:
            rest = {**values, key: [v for v in values[key] if v != value]}
            found.append(Term(key, value, _condition(key, value, user), _written(rest)))
    for match in typed:
        key, value = match[1].lower(), match[2] or match[3] or ""
        left = " ".join(values["q"][0].replace(match[0], " ", 1).split())
        rest = {**values, "q": [left] if left else [], **_without_choice(key)}
        found.append(Term(key, value, _condition(key, value, user), _written(rest)))
    return found


def _without_choice(key: str) -> dict[str, list[str]]:
    """A view or an order that was typed goes with its term."""
    return {name: [] for name, typed in _TYPED_AS.items() if typed == key}


def _written(values: Mapping[str, list[str]]) -> str:
    listed = [(key, v) for key in ("view", *FILTERS, "q", "sort") for v in values.get(key, [])]
    return urlencode(listed)


def _condition(key: str, value: str, user: Any) -> Q | None:
    """None where the value makes no sense."""
    try:
        return _KEYS[key](value, user)
    except (KeyError, ValueError, OverflowError):
        return None


def _assignee(name: str, user: Any) -> Q:
    if name.lower() in {"me", "you"}:
        return Q(assigned_to=user)
    if name.lower() in {"nobody", "none"}:
        return Q(assigned_to=None, assigned_group=None)
    person = Q(assigned_to__username__iexact=name) | Q(assigned_to__last_name__iexact=name)
    return person | Q(assigned_to__first_name__iexact=name) | Q(assigned_group__name__iexact=name)


def _round(text: str, user: Any) -> Q:
    """`2`, or `2+` for that and later ones."""
    number = int(text.removesuffix("+"))
    if not 0 < number < 100_000:
        raise ValueError(text)
    return Q(round__gte=number) if text.endswith("+") else Q(round=number)


def _due(name: str, user: Any) -> Q:
    limits: dict[str, Any] = {
        "overdue": Now(),
        "hour": Now() + Value(_HOUR),
        "today": end_of_day(),
    }
    return Q(deadline__lt=limits[name.lower()])


def end_of_day() -> dt.datetime:
    """Midnight, as the person's clock has it."""
    tomorrow = timezone.localtime().date() + dt.timedelta(days=1)
    return timezone.make_aware(dt.datetime.combine(tomorrow, dt.time()))


def _named(known: Mapping[str, Any], name: str) -> Q:
    if name.lower() not in known:
        raise ValueError(name)
    return Q()


# `is:` and `sort:` choose one of a few; what they choose is read in `parse`.
_TYPED_AS = {"view": "is", "sort": "sort"}
_KEYS: dict[str, Callable[[str, Any], Q]] = {
    "graph": lambda text, user: Q(graph=text),
    "risk": lambda text, user: Q(risk__iexact=text),
    "tag": lambda text, user: Q(tags__contains=[" ".join(text.split()).lower()]),
    "assignee": _assignee,
    "round": _round,
    "due": _due,
    "is": lambda text, user: _named(VIEWS, text),
    "sort": lambda text, user: _named(SORTS, text),
}


# Views


def in_view(view: str, user: Any) -> Q:
    """Which of the waiting reviews a view shows."""
    asleep = Q(snoozed_until__gt=Now())
    if view == "snoozed":
        return asleep
    return (Q(snoozed_until=None) | Q(snoozed_until__lte=Now())) & _whose(view, user)


def _whose(view: str, user: Any) -> Q:
    if view == "mine":
        return Q(assigned_to=user) | Q(claimed_by=user, claimed_until__gt=Now())
    if view == "unassigned":
        return Q(assigned_to=None, assigned_group=None)
    if view == "team":
        return Q(assigned_group__in=user.groups.values("pk"))
    return Q()


def _my_decisions(user: Any) -> Any:
    """As the strip counts them."""
    midnight = end_of_day() - dt.timedelta(days=1)
    mine = Decision.objects.filter(review=OuterRef("pk"), actor=user, decided_at__gte=midnight)
    return mine.exclude(state=Decision.State.UNDONE)


# Orders, each by a key that no two rows share


def _sorted(rows: ReviewQuerySet, sort: str, after: str) -> ReviewQuerySet:
    place = cursor(after) if sort in {"age", "newest"} else None
    if sort == "age":
        return rows.oldest_first(place)
    if sort == "newest":
        newest = rows.order_by("-waiting_since", "-id")
        columns = (F("waiting_since"), F("id"))
        return newest.filter(TupleLessThan(columns, place)) if place else newest
    found = rows.annotate(key=_SORT_KEYS[sort]).order_by("key", "waiting_since", "id")
    return found.filter(_behind(sort, after)) if after else found


_SORT_KEYS: dict[str, Any] = {
    "risk": Case(
        *(
            When(Q(risk__iexact=name), then=Value(place))
            for place, name in enumerate(("high", "medium", "low"))
        ),
        default=Value(3),
    ),
    "deadline": Coalesce("deadline", Value(_NEVER), output_field=DateTimeField()),
    "title": Lower(Trim("title")),
}
_READ_KEY: dict[str, Callable[[str], Any]] = {
    "risk": lambda text: int(text) if text in {"0", "1", "2", "3"} else None,
    "deadline": lambda text: at[0] if (at := cursor(text + "_0")) else None,
    "title": lambda text: text.replace("\x00", ""),
}


def _behind(sort: str, after: str) -> Q:
    """What comes after the row whose key, time and id `after` holds; all, if it holds none."""
    key_text, _, rest = after.partition("~") if sort != "title" else _title_first(after)
    key, place = _READ_KEY[sort](key_text), cursor(rest)
    if key is None or place is None:
        return Q()
    same = Q(TupleGreaterThan((F("waiting_since"), F("id")), place), key=key)
    return Q(key__gt=key) | same


def _title_first(after: str) -> tuple[str, str, str]:
    return after.rpartition("~")


def next_page(rows: list[Review], sort: str, size: int = ROWS) -> str:
    """The `after` of the next page, of size + 1 rows asked for; "" when this is the last."""
    return _after(rows[size - 1], sort) if len(rows) > size else ""


def _after(row: Any, sort: str) -> str:
    place = f"{row.waiting_since.isoformat()}_{row.pk}"
    if sort in {"age", "newest"}:
        return place
    key = row.key.isoformat() if sort == "deadline" else row.key
    return f"{key}~{place}"


def following(rows: ReviewQuerySet, sort: str, found: Review, user: Any) -> Review | None:
    """The row after this one that is free for this person; from the last, the first."""
    others = rows.free_for(user).exclude(pk=found.pk).listed()
    here = _sorted(rows.filter(pk=found.pk), sort, "").listed().first()
    behind = _sorted(others, sort, _after(here, sort)).first() if here else None
    return behind or _sorted(others, sort, "").first()


# Counts: one pass over what waits, whatever the number of views


def counts(reviews: ReviewQuerySet, asked: Asked, saved: Mapping[int, Asked]) -> dict[str, int]:
    """How many each view, each saved view, each due group and this list ("here") have; "newest" is
    the last review that came."""
    user = asked.user
    views = {name: Count("pk", filter=in_view(name, user)) for name in VIEWS if name != "decided"}
    kept = {f"saved_{pk}": one for pk, one in saved.items()}
    lists = {"here": asked, **kept}
    filtered = {
        name: Count("pk", filter=one.condition)
        for name, one in lists.items()
        if one.view != "decided"
    }
    groups = _group_counts(asked) if asked.sort == "deadline" and asked.view != "decided" else {}
    found: dict[str, int] = reviews.waiting().aggregate(
        **views, **filtered, **groups, newest=Coalesce(Max("pk"), Value(0))
    )
    for name, one in lists.items():
        if one.view == "decided":
            found[name] = one.of(reviews).order_by()[: COUNTED + 1].count()
    return found


def _group_counts(asked: Asked) -> dict[str, Count]:
    hour, today = Q(deadline__lt=Now() + Value(_HOUR)), Q(deadline__lt=end_of_day())
    groups = {
        "hour": hour,
        "today": today & ~hour,
        "later": Q(deadline__isnull=False) & ~today & ~hour,
        "none": Q(deadline=None),
    }
    return {f"due_{name}": Count("pk", filter=asked.condition & q) for name, q in groups.items()}


GROUPS = {
    "hour": _("Due within the hour"),
    "today": _("Due today"),
    "later": _("Later"),
    "none": _("No deadline"),
}


def group_of(deadline: dt.datetime | None, now: dt.datetime, midnight: dt.datetime) -> str:
    """Under which heading of a list by deadline a review stands."""
    if deadline is None:
        return "none"
    if deadline < now + _HOUR:
        return "hour"
    return "today" if deadline < midnight else "later"


def said(number: int) -> str:
    """A count as the page says it: exact to COUNTED, then "1,000+"."""
    return f"{COUNTED:,}+" if number > COUNTED else f"{number:,}"
