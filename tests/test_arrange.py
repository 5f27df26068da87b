"""Snooze and assign: who, until when, for whom; and what brings a case back."""

import datetime as dt

import pytest
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from approvals import later, queue_actions
from approvals.actions import SNOOZE
from approvals.errors import Invalid
from approvals.models import AuditEntry, Review
from approvals.threads import note_all_threads
from tests.conftest import capture_all, form_of, waiting
from tests.queries import crowd
from tests.test_inbox import next_page, rows

pytestmark = pytest.mark.django_db
BERLIN = later.zone_of("Europe/Berlin")
FRIDAY = dt.datetime(2026, 3, 27, 23, 30, tzinfo=dt.UTC)  # Saturday in Berlin; summer time begins


@pytest.mark.parametrize(
    ("choice", "own", "until"),
    [
        ("hour", "", "2026-03-28T00:30:00+00:00"),
        ("afternoon", "", "2026-03-28T14:00:00+00:00"),
        ("tomorrow", "", "2026-03-29T07:00:00+00:00"),
        ("monday", "", "2026-03-30T07:00:00+00:00"),
        ("own", "2026-04-01T08:05", "2026-04-01T06:05:00+00:00"),
    ],
)
def test_times_are_by_the_persons_own_clock(choice, own, until):
    found = later.moment(choice, own, BERLIN, FRIDAY)
    assert found.astimezone(dt.UTC).isoformat() == until


@pytest.mark.parametrize("own", ["", "tomorrow", "2026-02-30T10:00", "0000", "9999-12-31T23:59"])
def test_a_time_that_is_none_is_refused(own):
    with pytest.raises(Invalid):
        later.moment("own", own, BERLIN, FRIDAY)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "\x00", "x" * 999]
)
def test_a_zone_that_is_none_is_the_servers(name):
    assert later.zone_of(name) is timezone.get_current_timezone()


def snooze(client, review: Review, **fields):
    return client.post(f"/reviews/{review.pk}/snooze", {"until": "tomorrow", **fields})


def test_a_snoozed_case_leaves_everybodys_lists_and_one_goes_on_with_the_next(as_, cast):
    first, second, held = crowd(3, graph="scripted")
    Review.objects.filter(pk=held.pk).update(
        claimed_by=cast.tom, claimed_until=timezone.now() + dt.timedelta(minutes=4)
    )
    answer = snooze(as_("rita"), second)
    assert answer["Location"] == f"/reviews/{first.pk}/"  # not the one that Tom has
    for name in ("rita", "tom", "mara"):
        assert second.pk not in rows(as_(name).get("/"))
        assert rows(as_(name).get("/?view=snoozed")) == [second.pk]
    assertContains(as_("tom").get("/?view=snoozed"), "Snoozed by Rita Osei")
    entry = AuditEntry.objects.get(action="snoozed")
    assert (entry.review_id, entry.note[:6]) == (second.pk, "until ")


@pytest.mark.parametrize("sort", ["age", "newest", "risk", "deadline", "title"])
def test_one_goes_on_with_what_comes_next_in_the_list_however_long_and_in_whatever_order(
    as_, cast, sort
):
    made = crowd(40, graph="scripted")
    for place, each in enumerate(made):
        risk, due = (
            ["high", "medium", "low"][place % 3],
            timezone.now() + dt.timedelta(days=place % 7),
        )
        Review.objects.filter(pk=each.pk).update(
            risk=risk, deadline=due, title=f"Case {place % 11}"
        )
    listed = rows(as_("rita").get(f"/?sort={sort}"))
    shown = [*listed, *rows(as_("rita").get(next_page(as_("rita").get(f"/?sort={sort}"))))]
    assert len(shown) == 40
    at, theirs, after = shown[33:36]
    Review.objects.filter(pk=theirs).update(assigned_to=cast.tom)
    answer = as_("rita").post(f"/reviews/{at}/snooze?sort={sort}", {"until": "tomorrow"})
    assert answer["Location"].partition("?")[0] == f"/reviews/{after}/"
    answer = as_("rita").post(f"/reviews/{shown[-1]}/snooze?sort={sort}", {"until": "tomorrow"})
    assert (
        answer["Location"].partition("?")[0] == f"/reviews/{shown[0]}/"
    )  # from the last, the first


def test_time_alone_brings_it_back_and_the_sweeper_says_so_once():
    one, _ = crowd(2, graph="scripted")
    past = timezone.now() - dt.timedelta(seconds=1)
    Review.objects.filter(pk=one.pk).update(snoozed_until=past)
    assert Review.objects.awake().count() == 2
    assert (queue_actions.wake_due(), queue_actions.wake_due()) == (1, 0)
    entry = AuditEntry.objects.get(action="woken")
    assert (entry.review_id, entry.actor_name) == (one.pk, "worker")


def test_it_can_be_woken_by_hand(as_):
    review = waiting("scripted")
    snooze(as_("rita"), review)
    page = as_("tom").get(f"/reviews/{review.pk}/")
    assertContains(page, "Wake now")
    assert as_("tom").get(f"/reviews/{review.pk}/wake").status_code == 302
    assert not Review.objects.awake().exists()
    as_("tom").post(f"/reviews/{review.pk}/wake")
    assert Review.objects.awake().get() == review


def test_a_decision_and_a_new_state_end_it(as_):
    decided, moved = waiting("scripted"), waiting("scripted")
    for review in (decided, moved):
        snooze(as_("rita"), review)
    as_("rita").post(f"/reviews/{decided.pk}/decide", form_of(decided))
    Review.objects.filter(pk=moved.pk).update(digest="0" * 64)  # as if it had been read otherwise
    note_all_threads()
    capture_all()
    assert set(Review.objects.values_list(*SNOOZE)) == {(None, None)}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"until": ""}, 422),
        ({"until": "own", "own": "2020-01-01T10:00"}, 422),
        ({"until": "own", "own": "2999-01-01T10:00"}, 422),
    ],
)
def test_a_wrong_time_is_said_and_nothing_done(as_, fields, status):
    review = waiting("scripted")
    answer = snooze(as_("rita"), review, **fields)
    assertContains(answer, 'role="alert"', status_code=status)
    assert Review.objects.awake().exists()


def test_what_somebody_else_has_is_not_snoozed_under_their_hands(as_):
    review = waiting("scripted")
    as_("tom").post(f"/reviews/{review.pk}/claim")
    assertContains(snooze(as_("rita"), review), "Tom Achebe has this case.", status_code=409)
    snooze(as_("tom"), review)
    review.refresh_from_db()
    assert (review.claimed_by, review.snoozed_by.username) == (None, "tom")


def test_a_get_shows_the_form_and_who_may_not_is_told(as_):
    review = waiting("scripted")
    for act in ("snooze", "assign"):
        address = f"/reviews/{review.pk}/{act}"
        assertContains(as_("rita").get(address), "asked-form")
        assertContains(as_("mara").get(address), "asked-form")
        assert as_("ada").get(address).status_code == 403
        assert as_("ada").post(address, {"until": "hour", "to": "nobody"}).status_code == 403
        assert as_("stan").get(address).status_code == 404
    review.refresh_from_db()
    assert (review.snoozed_until, review.assigned_to) == (None, None)


def test_assigned_to_a_person_or_a_group_and_back(as_, cast):
    review, tom, team = waiting("scripted"), cast.tom, cast.rita.groups.get(name__startswith="scr")
    rita, address = as_("rita"), f"/reviews/{review.pk}/assign"
    assert rita.post(address, {"to": f"person-{tom.pk}"})["Location"] == "/"
    assert rows(as_("tom").get("/?view=mine")) == [review.pk]
    assert rows(rita.get("/?view=unassigned")) == []
    assert Review.objects.free_for(cast.rita).count() == 0  # Next leaves it to him
    rita.post(address, {"to": f"group-{team.pk}"})
    assert rows(rita.get("/?view=team")) == [review.pk]
    answer = rita.post(address, {"to": "nobody", "stay": "1"})
    assert answer["Location"] == f"/reviews/{review.pk}/"
    notes = (
        AuditEntry.objects.filter(action="assigned").order_by("id").values_list("note", flat=True)
    )
    assert list(notes) == ["to Tom Achebe", f"to {team.name}", "to nobody"]


@pytest.mark.parametrize("to", ["stan", "ada", "others", "", "person-999999", "person-x", "all"])
def test_nobody_gets_what_they_could_not_decide(as_, cast, to):
    review = waiting("scripted")
    known = {name: f"person-{getattr(cast, name).pk}" for name in ("stan", "ada")}
    known["others"] = f"group-{cast.stan.groups.get().pk}"
    page = as_("rita").post(f"/reviews/{review.pk}/assign", {"to": known.get(to, to)})
    assertContains(page, 'role="alert"', status_code=422)
    offered = as_("rita").get(f"/reviews/{review.pk}/assign")
    assertContains(offered, "Tom Achebe")
    assertNotContains(offered, "Stan Moor")
    assertNotContains(offered, "Ada Lindqvist")
    assert not Review.objects.exclude(assigned_to=None, assigned_group=None).exists()
