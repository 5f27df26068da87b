"""The list as its address asks for it: filters, orders, pages; and counts that equal the lists."""

import datetime as dt
import html
import re

import pytest
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import Decision, Review, SavedView
from approvals.tagging import deadline_of, tags_of
from tests.conftest import form_of, waiting
from tests.queries import counted_queries, crowd, listed
from tests.test_inbox import HOSTILE, next_page, rows

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 3, 29, 10, 0, tzinfo=dt.UTC)
LIST = {"HX-Request": "true"}  # the list alone
FILTERS = [
    ("risk=high", {"high"}),
    ("q=risk:HIGH", {"high"}),
    ("graph=scripted", {"other graph"}),
    ("q=graph:scripted", {"other graph"}),
    ("tag=Refund", {"tagged"}),
    ('q=tag:"Late+fee"', {"tagged"}),
    ("tag=refund&tag=late+fee", {"tagged"}),
    ("tag=refund&risk=high", set()),
    ("round=3", {"round 3"}),
    ("round=2%2B", {"round 3"}),
    ("due=overdue", {"late"}),
    ("due=hour", {"late", "soon"}),
    ("q=due:hour+soon", {"soon"}),
    ("assignee=me", {"mine"}),
    ("q=assignee:tom", {"toms"}),
    ("assignee=Achebe", {"toms"}),
    ("assignee=support-reviewers", {"teams"}),
    ("view=mine", {"mine", "held by me"}),
    ("q=is:mine", {"mine", "held by me"}),
    ("view=team", {"teams"}),
    ("view=snoozed", {"asleep"}),
    ("q=is:snoozed+asleep", {"asleep"}),
    ("view=unassigned&due=overdue", {"late"}),
    ("view=nonsense&sort=nonsense&risk=high", {"high"}),
]


def minutes(number: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=number)


def made(**fields) -> dict[str, int]:
    """One review of each kind that a filter can tell apart, by its title."""
    kinds = {
        "plain": {},
        "high": {"risk": "High"},
        "other graph": {"graph": "scripted"},
        "tagged": {"tags": ["late fee", "refund"]},
        "round 3": {"round": 3},
        "late": {"deadline": minutes(-5)},
        "soon": {"deadline": minutes(40)},
        "next year": {"deadline": minutes(600_000)},
        **fields,
    }
    return {
        name: crowd(1, title=name, thread_id=name, **columns)[0].pk
        for name, columns in kinds.items()
    }


def shown(answer) -> list[str]:
    """The titles of the rows, in order."""
    found = re.findall(r'class="row-t"[^>]*>([^<]+)<', answer.content.decode())
    return [html.unescape(title) for title in found]


def tabs(answer) -> dict[str, str]:
    found = r'data-view="([^"]+)"[^>]*>[^<]*<span class="n">([^<]+)<'
    return dict(re.findall(found, answer.content.decode()))


def hrefs(answer, words: str) -> list[str]:
    found = re.findall(rf'href="([^"]*)"[^>]*aria-label="{words}', answer.content.decode())
    return [html.unescape(one) for one in found]


def test_a_filter_shows_those_alone_and_counts_them(as_, cast):
    team = cast.rita.groups.get(name="support-reviewers")
    made(
        mine={"assigned_to": cast.rita},
        toms={"assigned_to": cast.tom},
        teams={"assigned_group": team},
        asleep={"snoozed_by": cast.tom, "snoozed_until": minutes(60)},
        **{
            "awake again": {"snoozed_by": cast.tom, "snoozed_until": minutes(-1)},
            "held by me": {"claimed_by": cast.rita, "claimed_until": minutes(4)},
            "was mine": {"claimed_by": cast.rita, "claimed_until": minutes(-1)},
        },
    )
    rita = as_("rita")
    for query, titles in FILTERS:
        page = rita.get(f"/?{query}", headers=LIST)
        assert set(shown(page)) == titles, query
        narrowed = not query.startswith("view=") or "&" in query
        assertContains(page, f'<b id="q-count">{len(titles)} found</b>', count=int(narrowed))


def test_the_tabs_count_what_their_lists_show(as_, cast):
    team = cast.rita.groups.get(name="support-reviewers")
    made(
        mine={"assigned_to": cast.rita},
        teams={"assigned_group": team},
        asleep={"snoozed_by": cast.tom, "snoozed_until": minutes(60)},
    )
    rita = as_("rita")
    counts = tabs(rita.get("/?risk=high"))
    assert set(counts) == {"waiting", "mine", "unassigned", "team", "snoozed"}
    for view, number in counts.items():
        assert len(shown(rita.get(f"/?view={view}"))) == int(number), view
    assert counts["waiting"] == "10"
    assert counts["snoozed"] == counts["mine"] == counts["team"] == "1"


def test_a_list_of_what_i_decided_today(as_, cast):
    decided, undone = waiting("scripted", title="decided"), waiting("scripted", title="undone")
    rita = as_("rita")
    for review in (decided, undone):
        rita.post(f"/reviews/{review.pk}/decide", form_of(review))
    Decision.objects.filter(review=undone).update(state="undone")
    assert shown(rita.get("/?view=decided")) == ["decided"]
    assert shown(as_("tom").get("/?view=decided")) == []


# Terms


def test_each_term_is_a_chip_that_can_be_taken_out(as_):
    made()
    rita = as_("rita")
    page = rita.get("/?graph=support&q=risk:high+due:someday+plain")
    assertContains(page, "not understood", count=1)
    (without_risk,) = hrefs(page, "Remove risk high")
    (without_graph,) = hrefs(page, "Remove graph support")
    assert shown(rita.get(without_risk)) == ["plain"]
    assert "graph=support" in without_risk
    assert "due%3Asomeday" in without_risk
    assert "graph=" not in without_graph


def test_a_link_to_a_case_and_its_page_keep_the_filters(as_):
    review = waiting("scripted", title="One")
    rita = as_("rita")
    link = re.search(r'href="(/reviews/[^"]+)"', rita.get("/?sort=title&q=one").content.decode())[1]
    assert html.unescape(link) == f"/reviews/{review.pk}/?q=one&sort=title"
    assert shown(rita.get(html.unescape(link))) == ["One"]


def test_no_filter_however_odd_breaks_the_page(as_):
    crowd(1)
    rita = as_("rita")
    for key in ("risk", "tag", "round", "due", "assignee", "view", "sort"):
        for typed in HOSTILE[::4]:
            assert rita.get("/", {key: typed}, headers=LIST).status_code == 200, key
            assert rita.get("/", {"q": f"{key}:{typed}"}, headers=LIST).status_code == 200


# Orders and their pages


@pytest.mark.parametrize("sort", ["age", "newest", "risk", "deadline", "title"])
def test_every_order_has_pages_without_gaps_that_no_vanished_row_shifts(as_, sort):
    now = timezone.now()
    every = crowd(70)
    for place, review in enumerate(every):
        review.risk = ["low", "high", "", "medium"][place % 4]
        review.deadline = None if place % 3 else now + dt.timedelta(minutes=place // 9)
        review.title = f"{'abc~_'[place % 5]} {place // 10}"
        review.waiting_since = now - dt.timedelta(minutes=place // 6)
    Review.objects.bulk_update(every, ["risk", "deadline", "title", "waiting_since"])
    far = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    ranks = {"high": 0, "medium": 1, "low": 2, "": 3}
    key = {
        "age": lambda r: (r.waiting_since, r.pk),
        "newest": lambda r: (-r.waiting_since.timestamp(), -r.pk),
        "risk": lambda r: (ranks[r.risk], r.waiting_since, r.pk),
        "deadline": lambda r: (r.deadline or far, r.waiting_since, r.pk),
        "title": None,  # as Postgres collates
    }[sort]
    rita = as_("rita")
    first = rita.get(f"/?sort={sort}")
    Review.objects.filter(pk=rows(first)[-1]).update(status="superseded")
    second = rita.get(next_page(first))
    third = rita.get(next_page(second))
    seen = [*rows(first), *rows(second), *rows(third)]
    assert [len(rows(page)) for page in (first, second, third)] == [30, 30, 10]
    assert sorted(seen) == sorted(review.pk for review in every)
    if key is not None:
        assert seen == [review.pk for review in sorted(every, key=key)]
    else:
        titles = [*shown(first), *shown(second), *shown(third)]
        assert [t for t in titles if t[0] == "b"] == sorted(t for t in titles if t[0] == "b")


def test_a_page_address_that_somebody_made_up_shows_something(as_):
    crowd(1)
    rita = as_("rita")
    for sort in ("newest", "risk", "deadline", "title"):
        for after in ("~", "~_", "x~2026-01-01T00:00:00+00:00_1", "9~_9", "\x00~"):
            page = rita.get("/", {"sort": sort, "after": after}, headers=LIST)
            assert page.status_code == 200, (sort, after)


def test_by_deadline_the_rows_stand_under_headings_that_count_all_of_theirs(as_):
    crowd(33, title="many", deadline=minutes(30))
    made()
    page = as_("rita").get("/?sort=deadline").content.decode()
    headings = re.findall(r"<h2>([^<]+) <span class=\"n\">(\d+)<", page)
    assert headings == [("Due within the hour", "35")]
    page = as_("rita").get("/?sort=deadline&risk=low&q=-many").content.decode()
    rest = re.findall(r"<h2>([^<]+) <span class=\"n\">(\d+)<", page)
    assert rest == [("Due within the hour", "33")]
    page = as_("rita").get("/?sort=deadline&graph=support&round=1&q=next").content.decode()
    assert re.findall(r"<h2>([^<]+) <span", page) == ["Later"]


# Rows


def test_a_row_says_who_has_it_for_whom_it_is_and_how_due_it_is(as_, cast):
    pks = made(
        toms={"claimed_by": cast.tom, "claimed_until": minutes(3)},
        mine={"claimed_by": cast.rita, "claimed_until": minutes(3)},
        meant={"assigned_to": cast.tom},
    )
    page = as_("rita").get("/").content.decode()
    row = {name: re.search(rf'id="row-{pk}".*?</li>', page, re.S)[0] for name, pk in pks.items()}
    theirs = f'class="row theirs" id="row-{pks["toms"]}"'
    assert theirs in page
    assert '<span class="row-h">Tom Achebe</span>' in row["toms"]
    assert "Tom Achebe has it" in row["toms"]  # where there is room for initials alone
    assert '<span class="row-h you">You</span>' in row["mine"]
    assert '<span class="row-h">for Tom Achebe</span>' in row["meant"]
    assert 'class="row-a late"' in row["late"]
    assert ">late 5 m<" in row["late"]
    assert re.search(r'class="row-a soon".*?>due (39|40) m<', row["soon"], re.S)
    assert 'class="row-a"' in row["next year"]
    assert '<span class="tag">refund</span>' in row["tagged"]


# Queries


def test_views_and_saved_views_are_counted_in_one_pass(as_, cast):
    crowd(3, risk="high")
    rita = as_("rita")
    with counted_queries() as without:
        rita.get("/")
    for number in range(5):
        SavedView.objects.create(name=f"View {number}", query="risk=high", owner=cast.rita)
    with counted_queries() as seen:
        page = rita.get("/")
    assert [number for view, number in tabs(page).items() if "saved" in view] == ["3"] * 5
    assert len(seen) == len(without), listed(seen)


# Where tags and deadlines come from


def test_the_state_names_tags_and_deadline(as_):
    script = {"tags": ["Refund", " late  FEE ", 7, "refund"], "due": "2031-05-01T12:00:00+02:00"}
    review = waiting("scripted", script=script)
    assert review.tags == ["refund", "late fee"]
    assert review.deadline == dt.datetime(2031, 5, 1, 10, tzinfo=dt.UTC)
    assertNotContains(as_("rita").get("/?tag=refund"), "Nothing here matches")


def test_what_names_none_harms_nothing():
    odd = waiting("scripted", script={"tags": {"a": 1}, "due": ["2031"]})
    assert (odd.tags, odd.deadline) == ([], None)


@pytest.mark.parametrize(
    ("value", "found"),
    [("a, B ,,a", ["a", "b"]), (None, []), (7, []), ("", []), (["x" * 90], ["x" * 40])],
)
def test_tags_are_texts_or_a_text_with_commas(value, found):
    assert tags_of(value) == found


@pytest.mark.parametrize(
    ("value", "within", "due"),
    [
        (None, None, None),
        (None, 90, NOW + dt.timedelta(minutes=90)),
        ("2026-04-01", 90, dt.datetime(2026, 4, 1, 23, 59, 59, tzinfo=dt.UTC)),
        ("2026-04-01T08:00:00", None, dt.datetime(2026, 4, 1, 8, tzinfo=dt.UTC)),
        ("2026-04-31", None, None),
        ("0001-01-01T00:00:00+14:00", None, None),
        ("soon", 90, NOW + dt.timedelta(minutes=90)),
        (17, None, None),
    ],
)
def test_a_deadline_is_the_states_own_or_counted_from_the_pause(value, within, due):
    assert deadline_of(value, NOW, within) == due
