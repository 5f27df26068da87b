"""The overview: its figures against a count by hand, its drawings, and who sees what of it."""

import datetime as dt
import re
import statistics
import uuid
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from approvals.charts import Series, Slot, bar, columns, scale
from approvals.models import Decision, Review
from approvals.overview import AGES, OUTCOMES, Span, overview
from approvals.overview_words import duration, percent, unit_for
from approvals.policies import Policy
from tests.queries import counted_queries, crowd, listed

MOST_QUERIES = 9  # of which five are every page's: session, person, groups, profile, mentions
A = Decision.Action
BERLIN = ZoneInfo("Europe/Berlin")
NOW = dt.datetime(2026, 11, 19, 15, 42, tzinfo=dt.UTC)


def arrived(number: int, at: dt.datetime, **fields: Any) -> list[Review]:
    rows = crowd(number, checkpoint_ns=uuid.uuid4().hex, waiting_since=at, **fields)
    Review.objects.filter(pk__in=[row.pk for row in rows]).update(captured_at=at)
    for row in rows:
        row.captured_at = at
    return rows


def decided(
    review: Review, actor: Any, after: float, action: str = A.APPROVE, state: str = "finished"
) -> Decision:
    """That many seconds after the review arrived."""
    Review.objects.filter(pk=review.pk).update(status="decided")
    at = review.captured_at + dt.timedelta(seconds=after)
    return Decision.objects.create(
        review=review,
        actor=actor,
        action=action,
        state=state,
        idempotency_key=uuid.uuid4(),
        values={},
        decided_at=at,
        apply_after=at,
    )


def a_month(cast: Any) -> list[tuple[Review, Decision]]:
    """Every kind of decision by two people in two queues, at times that share no pattern."""
    made = []
    actions = [A.APPROVE, A.APPROVE, A.EDIT, A.REJECT, A.SEND_BACK, A.RESPOND, A.MIXED]
    for n in range(70):
        at = NOW - dt.timedelta(hours=9.7 * n, minutes=3)
        graph = ["support", "scripted"][n % 2]
        [review] = arrived(1, at, graph=graph)
        actor = [cast.rita, cast.tom, cast.tom][n % 3]
        made.append((review, decided(review, actor, 7 + n * n % 400, actions[n % 7])))
    return made


def took(each: tuple[Review, Decision]) -> float:
    return (each[1].decided_at - each[0].captured_at).total_seconds()


def percentile(values: list[float], share: float) -> float:
    """As Postgres interpolates it."""
    place = share * (len(values) - 1)
    low, rest = int(place), place - int(place)
    ordered = sorted(values)
    return ordered[low] + rest * (ordered[min(low + 1, len(values) - 1)] - ordered[low])


# Against a count by hand


@pytest.mark.parametrize("key", ["today", "7", "28"])
def test_every_figure_is_what_a_count_by_hand_gives(cast, key):
    span = Span.of(key, NOW)
    every = [each for each in a_month(cast) if each[1].decided_at <= NOW]
    inside = [each for each in every if each[1].decided_at >= span.start]
    shown = overview(Policy(cast.ada), span)
    assert shown.total.count == len(inside) > 0
    assert shown.total.median == pytest.approx(statistics.median(map(took, inside)))
    assert shown.total.p90 == pytest.approx(percentile([took(e) for e in inside], 0.9))
    for groups, name_of in (
        (shown.by_graph, lambda each: each[0].graph),
        (shown.by_reviewer, lambda each: each[1].actor),
    ):
        assert {g.name for g in groups} == {name_of(each) for each in inside}
        for group in groups:
            mine = [each for each in inside if name_of(each) == group.name]
            assert group.count == len(mine)
            assert group.p90 == pytest.approx(percentile([took(each) for each in mine], 0.9))
            assert group.outcomes == {
                name: sum(each[1].action in actions for each in mine)
                for name, actions in OUTCOMES.items()
            }
    ends = [*span.slots[1:], NOW + dt.timedelta(seconds=1)]
    for number, (start, end) in enumerate(zip(span.slots, ends, strict=True)):
        here = [each for each in every if start <= each[1].decided_at < end]
        assert shown.decisions[number].count == len(here)
        assert shown.arrivals[number] == sum(start <= e[0].captured_at < end for e in every)


def test_undone_decisions_and_what_admins_do_to_runs_do_not_count(cast):
    first, second, third, fourth = arrived(4, NOW - dt.timedelta(hours=1))
    decided(first, cast.rita, 10)
    decided(second, cast.rita, 10, state=Decision.State.UNDONE)
    decided(third, cast.mara, 10, A.CONTINUE)
    decided(fourth, cast.mara, 10, A.RERUN)
    arrived(1, NOW - dt.timedelta(hours=1), kind="stalled", status="stalled")
    shown = overview(Policy(cast.ada), Span.of("today", NOW))
    assert (shown.total.count, shown.arrived) == (1, 4)
    assert [each.name for each in shown.by_reviewer] == [cast.rita]


def test_what_waits_is_counted_by_age_and_the_past_due_and_put_off_are_told(cast):
    for number, age in enumerate([dt.timedelta(0), *AGES]):
        due = NOW - dt.timedelta(seconds=1) if number > 3 else NOW + dt.timedelta(hours=1)
        arrived(number + 1, NOW - age - dt.timedelta(seconds=1), deadline=due)
    arrived(2, NOW, snoozed_until=NOW + dt.timedelta(hours=1), deadline=NOW - dt.timedelta(days=1))
    arrived(1, NOW - dt.timedelta(days=9), snoozed_until=NOW - dt.timedelta(minutes=1))
    waiting = overview(Policy(cast.ada), Span.of("today", NOW)).waiting
    assert waiting.ages == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 5), (7, 6)]
    assert (waiting.count, waiting.past_due, waiting.put_off) == (22, 11, 2)
    assert waiting.oldest == NOW - dt.timedelta(days=9)


def test_today_and_its_hours_are_those_of_the_place(cast):
    with timezone.override(BERLIN):
        midnight = dt.datetime(2026, 11, 18, 23, tzinfo=dt.UTC)  # there
        [before] = arrived(1, midnight - dt.timedelta(minutes=2))
        [after] = arrived(1, midnight + dt.timedelta(minutes=2))
        decided(before, cast.rita, 60)
        decided(after, cast.rita, 60)
        span = Span.of("today", NOW)
        shown = overview(Policy(cast.ada), span)
    assert [shown.arrivals[0], shown.total.count] == [1, 1]
    assert [slot.hour for slot in span.slots] == list(range(17))


def test_a_night_of_a_time_change_has_its_hour_twice(cast):
    with timezone.override(BERLIN):
        end = dt.datetime(2026, 10, 25, 3, 30, tzinfo=dt.UTC)
        slots = Span.of("today", end).slots
        for hour in (0, 1):  # UTC: 02:00 there, twice
            arrived(1 + hour, dt.datetime(2026, 10, 25, hour, 30, tzinfo=dt.UTC))
        shown = overview(Policy(cast.ada), Span.of("today", end))
    assert [slot.hour for slot in slots] == [0, 1, 2, 2, 3, 4]
    assert shown.arrivals == [0, 0, 1, 2, 0, 0]


def test_one_queue_is_counted_alone(cast):
    a_month(cast)
    everything = overview(Policy(cast.ada), Span.of("28", NOW))
    one = overview(Policy(cast.ada), Span.of("28", NOW), "support")
    assert [each.name for each in one.by_graph] == ["support"]
    assert one.total.count == next(e.count for e in everything.by_graph if e.name == "support")
    assert 0 < one.arrived < everything.arrived


# The page


def test_reviewers_see_their_own_queues_and_of_people_themselves_alone(as_, cast):
    now = timezone.now()
    cast.tom.groups.set([group for group in cast.tom.groups.all() if "scripted" in group.name])
    for graph, actor in (("support", cast.rita), ("scripted", cast.rita), ("scripted", cast.tom)):
        decided(arrived(1, now - dt.timedelta(seconds=9), graph=graph)[0], actor, 5)
    page = as_("tom").get("/overview?graph=support&span=7")
    assertContains(page, "<code>scripted</code>")
    assertNotContains(page, "<code>support</code>")
    assertContains(page, "Tom Achebe")
    assertNotContains(page, "Rita Osei")
    assertContains(as_("ada").get("/overview?span=7"), "Rita Osei")
    assertContains(as_("ada").get("/overview?span=7&graph=support"), "1 decision, 100")


def test_who_has_no_queue_has_no_overview(as_):
    assert as_("stan").get("/overview").status_code == 404
    assert as_("rita").get("/overview?span=%00&graph=%00%27").status_code == 200


def test_an_empty_overview_says_what_will_be_there(as_):
    page = as_("rita").get("/overview")
    for said in ("Nothing waits.", "0 arrived, 0 decided.", "Nothing was decided in this time."):
        assertContains(page, said)
    assertNotContains(page, 'class="columns"')


@pytest.mark.parametrize("key", ["today", "28"])
def test_the_page_takes_four_queries_of_its_own_whatever_it_counts(as_, cast, key):
    ada = as_("ada")
    with counted_queries() as empty:
        ada.get(f"/overview?span={key}")
    a_month(cast)
    Decision.objects.update(decided_at=timezone.now() - dt.timedelta(seconds=1))
    with counted_queries() as seen:
        assertContains(ada.get(f"/overview?span={key}"), "70 decisions")
    assert len(empty) <= len(seen) <= MOST_QUERIES, listed(seen)
    assert not [query for query in seen if '"snapshot"' in query]


def test_its_drawings_carry_no_style_and_no_script_and_each_has_words_and_a_table(as_, cast):
    [review] = arrived(1, timezone.now())
    decided(review, cast.rita, 0, A.EDIT)
    arrived(3, timezone.now(), title="<b>")
    html = as_("ada").get("/overview").content.decode()
    main = html[html.index("<main") : html.index("</main>")]
    assert " style=" not in main
    assert "<style" not in main
    assert "<script" not in main
    figures = re.findall(r"<figure.*?</figure>", main, re.S)
    assert len(figures) == 5
    for figure in figures:
        assert re.search(r"<figcaption>.*<p[^>]*>.{12,}</p>", figure, re.S)
        assert "<table" in figure
    for drawing in re.findall(r"<svg class=\"columns\".*?</svg>", main, re.S):
        svg = ElementTree.fromstring(drawing)  # noqa: S314 - our own drawing
        assert svg.get("role") == "img"
        assert f'id="{svg.get("aria-labelledby")}"' in main
        assert {each.tag for each in svg.iter()} <= {"svg", "line", "rect", "text", "title"}


# Drawings


def test_columns_are_as_high_as_their_values_and_say_them():
    slots = [Slot("07", "07:00"), Slot("08", "08:00"), Slot("09", "09:00")]
    pair = [Series("open", "arrived", [5, 10, 0]), Series("accent", "<decided>", [0, 2.5, 1])]
    svg = ElementTree.fromstring(columns(slots, pair, "x").svg)  # noqa: S314 - our own drawing
    boxes = {rect.find("title").text: rect for rect in svg.iter("rect")}
    assert set(boxes) == {
        *("07:00, arrived: 5", "08:00, arrived: 10"),
        *("08:00, <decided>: 2.5", "09:00, <decided>: 1"),
    }
    heights = {name: float(box.get("height")) for name, box in boxes.items()}
    tall = heights["08:00, arrived: 10"]
    assert heights["07:00, arrived: 5"] == pytest.approx(tall / 2, abs=0.01)
    assert heights["08:00, <decided>: 2.5"] == pytest.approx(tall / 4, abs=0.01)
    foot = {float(box.get("y")) + float(box.get("height")) for box in boxes.values()}
    assert foot == {180.0}
    edges = [(float(b.get("x")[:-1]), float(b.get("width")[:-1])) for b in boxes.values()]
    assert all(x >= 0 and x + width <= 100 for x, width in edges)
    ordered = sorted(edges)
    assert all(a[0] + a[1] <= b[0] for a, b in pairwise(ordered))


def test_stacked_columns_stand_on_one_another():
    series = [Series("accent", "median", [4]), Series("pale", "p90", [6])]
    drawn = columns([Slot("", "Mon")], series, "x", stacked=True, numbers=True, said=[["4"], ["T"]])
    low, high = ElementTree.fromstring(drawn.svg).iter("rect")  # noqa: S314 - our own drawing
    assert float(high.get("y")) + float(high.get("height")) == pytest.approx(float(low.get("y")))
    assert drawn.svg.count("<text") == 1  # the upper one's alone, which is the whole
    assert ">T</text>" in drawn.svg


@pytest.mark.parametrize(
    ("tallest", "top", "ticks"),
    [(0, 1, 2), (1, 1, 2), (3, 3, 4), (7, 8, 5), (21, 25, 6), (100, 100, 6), (160, 200, 5)],
)
def test_an_axis_ends_at_a_round_number_that_everything_fits_under(tallest, top, ticks):
    assert scale(tallest)[0] == top >= tallest
    assert len(scale(tallest)[1]) == ticks


def test_a_bar_is_made_of_its_parts():
    svg = ElementTree.fromstring(bar([("a", 1, "one"), ("b", 0, ""), ("c", 3, "<c>")], 8))  # noqa: S314 - our own
    assert [(r.get("class"), r.get("x"), r.get("width")) for r in svg] == [
        ("a", "0.00%", "12.50%"),
        ("c", "12.50%", "37.50%"),
    ]


def test_durations_and_shares_are_told_in_few_figures():
    told = [duration(each).replace("\xa0", " ") for each in (0, 59.6, 250, 10_920, 200_000)]
    assert told == ["0 s", "1 m 00 s", "4 m 10 s", "3 h 02 m", "2 d 07 h"]
    assert duration(None) == "–"
    assert [percent(*each) for each in ((1, 3), (1, 900), (899, 900), (0, 9), (9, 9))] == [
        *("33 %", "<1 %", ">99 %", "0 %", "100 %"),
    ]
    assert [unit_for(each)[0] for each in (119, 7_200, 20_000, 400_000)] == [1, 60, 3600, 86_400]
