"""What must not happen however a page is used: a double click, an old tab, a copied case."""

import datetime as dt
import threading
import time
import uuid

import psycopg
import pytest
from django.db import connection, transaction
from django.http import QueryDict
from django.utils import timezone, translation
from playwright.sync_api import expect

from approvals import desk_actions, presence, queue, queue_actions
from approvals.audit import Actor
from approvals.errors import Held
from approvals.models import AuditEntry, Decision, Draft, Review
from approvals.sentences import told
from approvals.tagging import deadline_of
from tests.conftest import direct, eventually, form_of, test_url
from tests.test_next_case import aged, fetched_ahead

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]


def test_an_old_tab_decides_nothing_for_whoever_signed_in_since(as_, cast):
    (only,) = aged(1)
    old = {"HTTP_X_PERSON": str(cast.tom.pk)}
    assert as_("rita").post(f"/reviews/{only.pk}/decide", form_of(only), **old).status_code == 401
    assert as_("rita").post("/next", {"ahead": 1}, **old).status_code == 401
    assert not Decision.objects.exists()
    assert not Review.objects.exclude(claimed_by=None).exists()


def test_a_case_is_fetched_anew_unseen_by_who_has_it_alone(as_):
    (only,) = aged(1)
    address = f"{only.get_absolute_url()}?part=work&ahead=1"
    as_("rita").post("/next", {"ahead": 1})
    as_("rita").get(address)
    as_("tom").get(address)
    opened = AuditEntry.objects.filter(action="opened")
    assert [entry.actor.username for entry in opened] == ["tom"]


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
    return bool(
        direct(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )


def test_a_reason_for_many_that_cannot_be_stored_is_refused(as_):
    (only,) = aged(1)
    row = f"{only.pk}:{only.digest}:{only.checkpoint_id}"
    sent = {"act": "reject", "row": row, "sure": 1, "key": uuid.uuid4(), "text": "No\x00"}
    assert as_("rita").post("/many", sent).status_code == 422
    assert not Decision.objects.exists()


def test_a_draft_is_not_counted_up_to_where_no_number_comes_after(as_, cast):
    (only,) = aged(1)
    sent = {"owner": cast.rita.pk, "tab": uuid.uuid4(), "base": 0, "version": 2**31 - 1}
    assert as_("rita").post(f"/reviews/{only.pk}/draft", sent).status_code == 400


def test_two_tabs_that_change_places_do_not_wait_for_each_other(cast):
    first, second = aged(2)
    tabs = [uuid.uuid4(), uuid.uuid4()]
    presence.here(cast.rita, first, tabs[0], "reading")
    presence.here(cast.tom, second, tabs[1], "reading")
    done = threading.Event()

    def tom_goes():
        presence.here(cast.tom, first, tabs[1], "reading")
        connection.close()
        done.set()

    with transaction.atomic():
        presence.here(cast.rita, second, tabs[0], "reading")
        threading.Thread(target=tom_goes).start()
        assert done.wait(10)


@pytest.mark.parametrize("said", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_a_deadline_at_the_end_of_the_calendar_is_none(said):
    assert deadline_of(said, timezone.now(), None) is None


def test_an_address_of_a_thousand_filters_is_cut_short():
    many = QueryDict("&".join(f"tag={number}" for number in range(990)))
    assert len(queue.parse(many, None).terms) == queue.MOST


def test_an_error_that_an_agent_made_of_our_sentences_is_shown_as_it_is():
    with translation.override("de"):
        assert told("before approve") == "vor approve"
        assert "before before" in told("before " * 2000)
        assert told("It holds a x. " * 300).endswith("It holds a x. ")


# In a browser


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


def test_a_case_that_was_fetched_before_its_text_was_saved_shows_the_text(site, person):
    first, second = aged(2)
    rita = person(site(undo=9, worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    late, saves = {}, []
    rita.route(f"**/reviews/{first.pk}/draft", lambda route: saves.append(route))
    rita.route(
        f"**/reviews/{first.pk}/?part=work*",
        lambda route: late.update(page=route, answer=route.fetch()),
    )
    rita.fill("#reply", "Dear Maeve, all of it.")
    rita.click(f"#row-{second.pk}")
    expect(rita.locator("h1")).to_have_text(second.title)
    rita.click(f"#row-{first.pk}")
    while "answer" not in late:
        rita.wait_for_timeout(20)
    with rita.expect_response("**/draft"):
        for save in saves:
            save.continue_()
    rita.wait_for_timeout(100)
    late["page"].fulfill(response=late["answer"])
    expect(rita.locator("h1")).to_have_text(first.title)
    expect(rita.locator("#reply")).to_have_value("Dear Maeve, all of it.")
    rita.unroute_all(behavior="ignoreErrors")  # one may be waiting for its answer


def test_a_reload_that_the_server_answered_before_the_text_was_saved_shows_the_text(site, person):
    (only,) = aged(1)
    rita = person(site(undo=9, worker=False), "rita", stays=False)
    rita.goto(only.get_absolute_url())
    saves = []
    rita.route("**/draft", lambda route: route.continue_() if saves else saves.append(route))
    with psycopg.connect(test_url()) as other:
        other.execute("LOCK TABLE approvals_profile")  # which the page reads after the draft
        rita.fill("#reply", "Dear Maeve, all of it.")
        rita.evaluate("() => { location.reload() }")
        eventually(waits_for_a_lock)
        while not saves:
            rita.wait_for_timeout(20)
        with rita.expect_response("**/draft"):
            saves[0].continue_()
        time.sleep(0.2)
    expect(rita.locator("#kept")).to_contain_text("restored")
    expect(rita.locator("#reply")).to_have_value("Dear Maeve, all of it.")
    with rita.expect_response("**/draft"):
        rita.fill("#reply", "Dear Maeve, all of it, and more.")
    assert list(Draft.objects.get().fields.values()) == ["Dear Maeve, all of it, and more."]


def test_what_is_typed_while_the_page_is_coming_joins_what_was_not_saved_before(site, person):
    (only,) = aged(1)
    rita = person(site(undo=9, worker=False), "rita", expected=["net::ERR_FAILED"])
    rita.goto(only.get_absolute_url())
    drafted = rita.input_value("#reply")
    scripts = []
    rita.route("**/draft", lambda route: route.abort())
    rita.route("**/editor.js", lambda route: scripts.append(route))
    for words, text in [("Hello. ", f"Hello. {drafted}"), ("Oh. ", f"Oh. Hello. {drafted}")]:
        rita.reload(wait_until="commit")
        while not scripts:
            rita.wait_for_timeout(20)
        rita.locator("#reply").evaluate("(reply) => reply.setSelectionRange(0, 0)")
        rita.locator("#reply").press_sequentially(words)
        scripts.pop().continue_()
        expect(rita.locator("#reply")).to_have_value(text)
        expect(rita.locator("#kept")).to_contain_text("Not saved")
    rita.unroute("**/draft")
    eventually(lambda: rita.wait_for_timeout(50) or Draft.objects.exists())
    eventually(lambda: list(Draft.objects.get().fields.values()) == [f"Oh. Hello. {drafted}"])


def test_a_decision_that_waited_too_long_to_be_sent_is_kept_as_a_draft(site, person):
    (only,) = aged(1)
    rita = person(site(undo=9, worker=False), "rita", stays=False)
    rita.goto("/profile/")
    rita.evaluate(
        """([review, form]) => {
          const user = document.body.dataset.user;
          const record = { key: form.key, address: `/reviews/${review}/decide`, title: "Case 0",
            fields: Object.entries(form), at: Date.now() - 11 * 60 * 1000 };
          localStorage.setItem(`unsent:${user}:${form.key}`, JSON.stringify(record));
        }""",
        [only.pk, {k: str(v) for k, v in form_of(only, "Dear Maeve, from yesterday.").items()}],
    )
    rita.goto(only.get_absolute_url())
    expect(rita.locator(".told")).to_contain_text("Not recorded")
    eventually(Draft.objects.exists)
    assert "Dear Maeve, from yesterday." in Draft.objects.get().fields.values()
    assert not Decision.objects.exists()
    unsent = "Object.keys(localStorage).filter((key) => key.startsWith('unsent')).length"
    eventually(lambda: rita.evaluate(unsent) == 0)


def test_a_case_that_comes_late_takes_nobody_from_the_one_they_went_to(site, person):
    first, second, third = aged(3)
    rita = person(site(undo=9, worker=False), "rita", stays=False)
    late = []
    rita.route("**/next*", lambda route: late.append(route))
    rita.goto(first.get_absolute_url())
    while not late:
        rita.wait_for_timeout(20)
    rita.get_by_role("button", name="Next").click()
    rita.click(f"#row-{third.pk}")
    expect(rita.locator("h1")).to_have_text(third.title)
    late[0].continue_()
    fetched_ahead(rita, second)
    expect(rita.locator("h1")).to_have_text(third.title)
