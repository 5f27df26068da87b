"""What must not happen however a page is used: a double click, an old tab, a copied case."""

import datetime as dt
import threading

import pytest
from django.db import connection, transaction
from django.utils import timezone
from playwright.sync_api import expect

from approvals import desk_actions, queue_actions
from approvals.audit import Actor
from approvals.errors import Held
from approvals.models import Decision, Review
from tests.conftest import eventually, form_of, waiting
from tests.test_next_case import IN_PAGE, aged, fetched_ahead

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]


def test_a_double_click_decides_one_case_and_not_the_one_that_came_under_it(site, person):
    first, second, third = aged(3)
    rita = person(site(undo=9, worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    rita.dblclick("#approve", delay=30)
    expect(rita.locator("h1")).to_have_text(second.title)
    fetched_ahead(rita, third)
    expect(rita.locator("#undo")).to_contain_text("Applied in")
    assert [one.review for one in Decision.objects.all()] == [first]


def test_an_old_tab_decides_nothing_for_whoever_signed_in_since(as_, cast):
    (only,) = aged(1)
    old = {"HTTP_X_FLOW": str(cast.tom.pk)}
    assert as_("rita").post(f"/reviews/{only.pk}/decide", form_of(only), **old).status_code == 401
    assert as_("rita").post("/next", {"ahead": 1}, **old).status_code == 401
    assert not Decision.objects.exists()
    assert not Review.objects.exclude(claimed_by=None).exists()


def test_what_somebody_claims_this_moment_is_not_put_off(cast):
    (only,) = aged(1)
    said = []

    def put_off():
        try:
            queue_actions.snooze(Actor(cast.tom), only.pk, timezone.now() + dt.timedelta(hours=1))
        except Held as error:
            said.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        desk_actions.claim(Actor(cast.rita), only.pk)
        other = threading.Thread(target=put_off)
        other.start()
        eventually(waits_for_a_lock)
    other.join()
    assert len(said) == 1
    assert Review.objects.get().snoozed_until is None


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])
