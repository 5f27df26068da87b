"""The inbox: what waits, oldest first, found by its words, at any number of threads."""

import asyncio
import datetime as dt
import re
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import _input, capture_all, waiting
from tests.queries import copies_of, counted_queries, crowd, listed

pytestmark = pytest.mark.django_db
MOST_QUERIES = 13
HOSTILE = [
    '"',
    "'",
    "\x00",
    ":*",
    "a:*",
    "& | ! ( )",
    "'; DROP TABLE approvals_review; --",
    "\\",
    "😀",
    "%",
    "ª º ² ½ ﬁ",
    "x" * 10_000,
    "ü" * 10_000,
    "x " * 5_000,
]


def rows(answer) -> list[int]:
    assert answer.status_code == 200, answer.content.decode()[:2000]
    return [int(pk) for pk in re.findall(r'id="row-(\d+)"', answer.content.decode())]


def next_page(answer) -> str:
    """Where the page's link to the next page leads; "" without one."""
    found = re.search(r'rel="next" href="([^"]+)"', answer.content.decode())
    return found[1].replace("&amp;", "&") if found else ""


def wait_since(review: Review, **ago: float) -> Review:
    review.waiting_since = timezone.now() - dt.timedelta(**ago)
    review.save(update_fields=["waiting_since"])
    return review


def of_a_graph_that_nobody_registered() -> Review:
    graph = registry().graphs["scripted"]
    config = {"configurable": {"thread_id": "elsewhere-1"}, "metadata": {"graph_id": "elsewhere"}}
    asyncio.run(joined(graph).ainvoke(_input("scripted", "elsewhere-1"), config))
    capture_all()
    return Review.objects.get(thread_id="elsewhere-1")


# What is shown


def test_the_oldest_comes_first(as_):
    young = wait_since(waiting(), minutes=1)
    old = wait_since(waiting(), hours=3)
    middle = wait_since(waiting("scripted"), hours=1)
    assert rows(as_("rita").get("/")) == [old.pk, middle.pk, young.pk]


def test_a_row_says_title_person_graph_risk_age_and_the_drafts_beginning(as_):
    review = wait_since(waiting(), hours=2, minutes=14)
    page = as_("rita").get("/")
    assertContains(page, '<span class="row-t" dir="auto">Missed payment and credit file</span>')
    assertContains(page, '<span class="row-c" dir="auto">Maeve Kilbride</span>')
    assertContains(page, '<span class="row-h mono">support</span>')
    assertContains(page, f'aria-label="{review.risk.capitalize()} risk"')
    assertContains(page, ">2 h 14</time>")
    assert review.excerpt[:20] == " ".join(review.values["agent_response"].split())[:20]
    assertContains(page, f'<span class="row-x" dir="auto">{review.excerpt[:20]}')


def test_an_empty_inbox_says_so(as_):
    assertContains(as_("rita").get("/"), "Nothing waits")


def test_what_was_decided_or_has_moved_is_not_listed(as_):
    waits, decided, moved = (review.pk for review in crowd(3))
    Review.objects.filter(pk=decided).update(status="decided")
    Review.objects.filter(pk=moved).update(status="superseded")
    assert rows(as_("rita").get("/")) == [waits]


# Filter and search


def test_the_graph_filter_leaves_the_other_queue_out(as_):
    support, scripted = waiting(), waiting("scripted")
    assert rows(as_("rita").get("/?graph=scripted")) == [scripted.pk]
    assert rows(as_("rita").get("/?graph=support")) == [support.pk]
    page = as_("rita").get("/?graph=no-such-graph")
    assert rows(page) == []
    assertContains(page, "Nothing here matches")


@pytest.mark.parametrize(
    ("typed", "is_found"),
    [
        ("kilbride", True),
        ("MAEVE", True),
        ("kil", True),
        ("missed pay", True),
        ("pay kil", True),
        ("noted", True),  # of the draft
        ("ilbride", False),  # not a word's beginning
        ("maeve nobody", False),  # every word must be there
        ('"kilbride"', True),
        ("   ", True),
    ],
)
def test_search_finds_beginnings_of_words_of_name_title_and_draft(as_, typed, is_found):
    review = waiting("scripted", title="Missed payment")
    crowd(1)
    found = rows(as_("rita").get(f"/?{urlencode({'q': typed})}"))
    assert (review.pk in found) is is_found


@pytest.mark.parametrize(
    ("who", "typed"),
    [
        ("Siobhán O'Brien", "o'brien"),
        ("Siobhán O’Brien", "o’br"),
        ("Anna Smith-Jones", "smith-jones"),
        ("Anna Smith-Jones", "jones"),
        ("Dr. J. Müller", "j. mül"),
        ("Anna Smith-Jones", "smith-jon"),
        ("maeve@example.com", "maeve@example.com"),
        ("Ana Lee", "lee \\"),
    ],
)
def test_a_name_is_found_as_it_is_written(as_, who, typed):
    review = waiting("scripted", who=who)
    crowd(1)
    assert rows(as_("rita").get("/", {"q": typed})) == [review.pk]


def test_a_thread_is_found_by_its_id(as_):
    review = waiting("scripted")
    crowd(1)
    assert rows(as_("rita").get("/", {"q": review.thread_id})) == [review.pk]


@pytest.mark.parametrize("typed", HOSTILE, ids=lambda text: repr(text[:12]) + str(len(text)))
@pytest.mark.parametrize("field", ["q", "graph", "after", "current"])
def test_no_search_however_odd_breaks_the_page(as_, field, typed):
    crowd(1)
    answer = as_("rita").get(f"/?{urlencode({field: typed})}")
    assert answer.status_code == 200
    assertNotContains(answer, "<script>alert")


@pytest.mark.parametrize(
    "place",
    [
        "2026-01-01_5",
        "0001-01-01T00:00:00+00:00_1",
        "9999-12-31T23:59:59+00:00_1",
        "2026-01-01T00:00:00+00:00_99999999999999999999999",
        "2026-01-01T00:00:00+00:00_-1",
    ],
)
def test_a_page_address_that_somebody_made_up_breaks_nothing(as_, place):
    crowd(1)
    assert as_("rita").get(f"/?{urlencode({'after': place})}").status_code == 200


def test_what_was_searched_for_is_shown_again_as_text(as_):
    page = as_("rita").get("/", {"q": '"><script>alert(1)</script>'})
    assertNotContains(page, "<script>alert")
    assertContains(page, "&lt;script&gt;alert(1)&lt;/script&gt;")


# Pages


def test_thirty_to_a_page_and_none_twice(as_):
    made = crowd(35)
    # Of one age: the id alone can tell these apart.
    Review.objects.filter(pk__in=[review.pk for review in made[25:]]).update(
        waiting_since=made[25].waiting_since
    )
    rita = as_("rita")
    first = rita.get("/")
    second = rita.get(next_page(first))
    assert (len(rows(first)), len(rows(second))) == (30, 5)
    assert rows(first) + rows(second) == [review.pk for review in made]
    assert next_page(second) == ""


def test_the_next_page_is_the_same_when_an_older_review_vanishes(as_):
    made = crowd(35)
    rita = as_("rita")
    link = next_page(rita.get("/"))
    Review.objects.filter(pk__in=[made[0].pk, made[29].pk]).update(status="superseded")
    assert rows(rita.get(link)) == [review.pk for review in made[30:]]


def test_the_next_page_keeps_filter_and_search(as_):
    crowd(35, title="Refund")
    crowd(5, graph="scripted", title="Refund", checkpoint_ns="other")
    first = as_("rita").get("/?graph=support&q=refund")
    second = as_("rita").get(next_page(first))
    assert len(rows(first)) + len(rows(second)) == 35


@pytest.mark.parametrize(("number", "said"), [(5, "5"), (1000, "1,000"), (1005, "1,000+")])
def test_the_count_stops_at_a_thousand(as_, number, said):
    crowd(number)
    assertContains(as_("rita").get("/"), f'<span class="n">{said}</span>')


# Queries


@pytest.mark.parametrize("address", ["/", "/?graph=support&q=miss"])
def test_the_inbox_takes_thirteen_queries_at_most_with_five_threads_and_with_five_hundred(
    as_, address
):
    rita = as_("rita")
    one = waiting()
    copies_of(one.thread_id, 4)
    capture_all()
    with counted_queries() as with_five:
        assert len(rows(rita.get(address))) == 5
    copies_of(one.thread_id + "-copy-1", 495)
    crowd(495, title=one.title)
    with counted_queries() as with_500:
        assertContains(rita.get(address), '<span class="n">500</span>')
    assert len(with_five) == len(with_500) <= MOST_QUERIES, listed(with_500)


def test_the_inbox_reads_no_checkpoint_and_no_snapshot(as_):
    waiting()
    with counted_queries() as seen:
        assert len(rows(as_("rita").get("/"))) == 1
    assert seen
    touched = [query for query in seen if re.search(r"\bcheckpoint(s|_blobs|_writes)\b", query)]
    assert touched == []
    assert not [query for query in seen if '"snapshot"' in query]  # which may be megabytes


# Who sees what


def test_reviewers_see_the_queues_of_their_groups_alone(as_, cast):
    support, scripted = waiting(), waiting("scripted")
    cast.tom.groups.set([group for group in cast.tom.groups.all() if "scripted" in group.name])
    assert rows(as_("tom").get("/")) == [scripted.pk]
    assert rows(as_("tom").get("/?graph=support")) == []
    assertNotContains(as_("tom").get("/"), support.title)
    assert rows(as_("rita").get("/")) == [support.pk, scripted.pk]
    assert rows(as_("stan").get("/")) == []


@pytest.mark.parametrize("name", ["ada", "mara"])
def test_auditors_and_admins_see_every_queue(as_, name):
    both = [waiting().pk, waiting("scripted").pk]
    assert rows(as_(name).get("/")) == both


def test_a_run_of_an_unknown_graph_is_shown_to_admins_and_auditors_alone(as_):
    review = of_a_graph_that_nobody_registered()
    assert rows(as_("rita").get("/")) == []
    for name in ("mara", "ada"):
        page = as_(name).get("/")
        assert rows(page) == [review.pk]
        assertContains(page, "unknown graph")


def test_htmx_is_given_the_list_alone(as_):
    review = waiting()
    part = as_("rita").get("/", headers={"HX-Request": "true"})
    assert rows(part) == [review.pk]
    assertContains(part, 'id="q-pane"')
    assertNotContains(part, "<html")
    assertNotContains(part, "<script")


def test_nobody_sees_it_without_signing_in(db):
    crowd(1)
    answer = Client().get("/")
    assert answer.status_code == 302
    assert answer["Location"] == "/sign-in?next=/"


@pytest.mark.parametrize("path", ["", "{}", "{}?part=state"])
def test_a_page_whose_session_ended_does_not_get_the_sign_in_page_into_its_list(db, path):
    """htmx follows a redirect and puts what it finds, a whole page, where the list was."""
    review = waiting()
    address = "/" + path.format(f"reviews/{review.pk}/")
    answer = Client().get(address, headers={"HX-Request": "true"}, follow=True)
    leads_away = {"HX-Redirect", "HX-Refresh"} & set(answer.headers)
    assert leads_away or answer.status_code == 401
