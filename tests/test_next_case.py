"""From one case to the next: who gets which, and what a person sees of the last one."""

import datetime as dt

import pytest
from django.utils import timezone
from playwright.sync_api import Route, expect

from approvals.events import nudge
from approvals.models import AuditEntry, Decision, Review
from tests.conftest import eventually, form_of, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]
IN_PAGE = {"HTTP_X_FLOW": "1"}


def aged(number: int) -> list[Review]:
    """Cases that wait, oldest first."""
    made = [waiting("support", subject=f"Case {place}") for place in range(number)]
    for place, review in enumerate(made):
        Review.objects.filter(pk=review.pk).update(
            waiting_since=timezone.now() - dt.timedelta(hours=number - place)
        )
    return made


def test_next_opens_the_oldest_case_that_nobody_has(as_):
    first, second, third = aged(3)
    assert as_("rita").post("/next").url == first.get_absolute_url()
    assert as_("tom").post("/next").url == second.get_absolute_url()
    assert as_("rita").post("/next", {"besides": first.pk}).url == third.get_absolute_url()
    holders = Review.objects.order_by("waiting_since").values_list(
        "claimed_by__username", flat=True
    )
    assert list(holders) == ["rita", "tom", "rita"]
    assert AuditEntry.objects.filter(action="claimed").count() == 3


def test_a_lease_that_ran_out_is_served_again(as_):
    (only,) = aged(1)
    as_("rita").post("/next")
    assert as_("tom").post("/next").url == "/"
    Review.objects.update(claimed_until=timezone.now() - dt.timedelta(seconds=1))
    assert as_("tom").post("/next").url == only.get_absolute_url()


def test_next_passes_over_what_is_put_off_or_meant_for_somebody_else(as_, cast):
    off, theirs, free = aged(3)
    Review.objects.filter(pk=off.pk).update(snoozed_until=timezone.now() + dt.timedelta(hours=1))
    Review.objects.filter(pk=theirs.pk).update(assigned_to=cast.tom)
    assert as_("rita").post("/next").url == free.get_absolute_url()
    assert as_("tom").post("/next").url == theirs.get_absolute_url()


def test_next_keeps_to_the_list_that_is_shown(as_):
    _, wanted = waiting("support", subject="Fees"), waiting("support", subject="Zinsen")
    assert as_("rita").post("/next?q=zinsen").url == f"{wanted.get_absolute_url()}?q=zinsen"


@pytest.mark.parametrize("name", ["ada", "mara", "stan"])
def test_nobody_is_served_what_they_may_not_decide(as_, name):
    aged(1)
    assert as_(name).post("/next").url == "/"
    assert not Review.objects.exclude(claimed_by=None).exists()


def test_a_get_serves_nothing(as_):
    aged(1)
    assert as_("rita").get("/next").status_code == 405
    assert not Review.objects.exclude(claimed_by=None).exists()


def test_what_is_fetched_ahead_counts_as_looked_at_only_when_it_is_shown(as_):
    (only,) = aged(1)
    answer = as_("rita").post("/next", {"ahead": 1}, **IN_PAGE)
    assert answer["X-Case"] == str(only.pk)
    assert 'id="decide"' in answer.text
    assert "<html" not in answer.text
    assert not AuditEntry.objects.filter(action="opened").exists()
    assert as_("rita").post("/next", {"besides": only.pk}, **IN_PAGE).status_code == 204


def test_the_strip_counts_the_day_and_closes_before_the_window_does(as_):
    first, _ = aged(2)
    answer = as_("rita").post(f"/reviews/{first.pk}/decide", form_of(first), **IN_PAGE)
    assert answer.status_code == 200
    assert answer.context["decided_today"] == 1
    assert answer.context["left_in_queue"] == "1"
    assert answer.context["undo_left"] == 6  # of 8
    decision = Decision.objects.get()
    Decision.objects.update(apply_after=decision.apply_after - dt.timedelta(seconds=6.6))
    assert b'data-act="undo"' not in as_("rita").get("/strip").content
    assert as_("rita").post(f"/decisions/{decision.pk}/undo", **IN_PAGE).status_code == 200
    assert as_("rita").get("/strip").context["decided_today"] == 0


def test_too_late_is_said_in_the_strip(as_):
    (only,) = aged(1)
    as_("rita").post(f"/reviews/{only.pk}/decide", form_of(only))
    decision = Decision.objects.get()
    Decision.objects.update(apply_after=timezone.now())
    answer = as_("rita").post(f"/decisions/{decision.pk}/undo", **IN_PAGE)
    assert answer.status_code == 409
    assert "Too late to undo" in answer.text


def test_a_run_that_failed_is_told_however_many_decisions_came_after_it(as_):
    first, second, third = aged(3)
    for each in (first, second, third):
        as_("rita").post(f"/reviews/{each.pk}/decide", form_of(each))
    long_ago = timezone.now() - dt.timedelta(minutes=20)
    Decision.objects.filter(review=first).update(state="failed", ended_at=long_ago)
    Decision.objects.filter(review=second).update(state="finished", ended_at=long_ago)
    answer = as_("rita").get("/strip")
    assert answer.context["last"].review == third
    assert [one.review for one in answer.context["bad"]] == [first]
    assert f'data-own="{third.pk}"' in answer.text
    assert first.get_absolute_url() in answer.text
    assert not as_("tom").get("/strip").context["bad"]


# In a browser


def fetched_ahead(page, review: Review) -> None:
    expect(page.locator("body")).to_have_attribute("data-ahead", str(review.pk))


def test_deciding_paints_the_next_case_at_once_and_undo_brings_the_last_one_back(site, person):
    first, second, third = aged(3)
    rita = person(site(undo=9), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    rita.evaluate("window.sameDocument = true")
    rita.fill("#reply", "Dear Maeve,\n\nit is mended.")
    rita.click("#approve")
    expect(rita.locator("h1")).to_have_text(second.title)
    expect(rita).to_have_url(f"{rita.url.split('/reviews')[0]}{second.get_absolute_url()}")
    expect(rita.locator("h1")).to_be_focused()
    expect(rita.locator(".row[aria-current]")).to_contain_text(second.title)
    undo = rita.locator("#undo")
    expect(undo).to_contain_text("Applied in")
    undo.get_by_role("button").click()
    expect(rita.locator("h1")).to_have_text(first.title)
    assert rita.input_value("#reply") == "Dear Maeve,\n\nit is mended."
    fetched_ahead(rita, second)
    rita.click("#approve")
    expect(rita.locator("h1")).to_have_text(second.title)
    fetched_ahead(rita, third)
    assert rita.evaluate("window.sameDocument")
    eventually(Decision.objects.filter(state="finished").exists, 20)
    expect(rita.locator("#undo")).to_contain_text("finished")


def test_a_case_whose_decision_is_on_its_way_is_not_served_again(site, person):
    first, second, third = aged(3)
    rita = person(site(worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    on_its_way: list[Route] = []
    rita.route("**/decide", lambda route: on_its_way.append(route))
    rita.click("#approve")
    expect(rita.locator("h1")).to_have_text(second.title)
    fetched_ahead(rita, third)
    on_its_way[0].continue_()
    eventually(Decision.objects.exists)


def test_decisions_that_were_refused_are_each_told_beside_the_next_case(site, person):
    first, second, third = aged(3)
    rita = person(site(worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    Review.objects.filter(pk__in=[first.pk, second.pk]).update(digest="0" * 64)
    rita.evaluate("document.getElementById('q-pane').dataset.same = ''")
    for this, after in ((first, second), (second, third)):
        fetched_ahead(rita, after)
        rita.fill("#reply", f"Dear Maeve, mine of {this.title}.")
        rita.evaluate("document.querySelector('[name=digest]').value = 'f'.repeat(64)")
        rita.click("#approve")
        expect(rita.locator("h1")).to_have_text(after.title)
        expect(rita.locator(".told")).to_contain_text([this.title])
    expect(rita.locator(".told")).to_have_count(2)
    rita.locator(".told", has_text=first.title).get_by_role("button").click()
    expect(rita.locator("#mine")).to_have_value(f"Dear Maeve, mine of {first.title}.")
    expect(rita.locator(".told")).to_have_count(1)
    assert rita.url.endswith(first.get_absolute_url())
    # A refresh under way when its queue is replaced would be lost.
    expect(rita.locator("#q-pane[data-same] .row[aria-current]")).to_have_id(f"row-{first.pk}")
    rita.go_back()
    expect(rita.locator("h1")).to_have_text(third.title)


def test_undo_of_a_decision_on_its_way_is_not_of_the_one_before(site, person):
    first, second, third = aged(3)
    rita = person(site(undo=60, worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    rita.click("#approve")
    expect(rita.locator("#undo")).to_contain_text(first.who)
    fetched_ahead(rita, third)
    sent: list[Route] = []
    rita.route(f"**/reviews/{second.pk}/decide*", lambda route: sent.append(route))
    rita.click("#approve")
    expect(rita.locator("#strip .undo")).to_contain_text("Sending")
    expect(rita.locator("#undo")).to_have_count(0)
    rita.keyboard.press("Control+z")
    expect(rita.locator("#strip .undo")).to_contain_text("as soon as it has arrived")
    expect(rita.locator("h1")).to_have_text(third.title)
    sent[0].continue_()
    expect(rita.locator("h1")).to_have_text(second.title)
    states = Decision.objects.order_by("decided_at").values_list("review_id", "state")
    assert list(states) == [(first.pk, "pending"), (second.pk, "undone")]


def test_a_run_that_fails_while_others_are_decided_is_told_until_it_was_looked_at(site, person):
    first, second, third = aged(3)
    rita = person(site(undo=60, worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    for after in (second, third):
        fetched_ahead(rita, after)
        rita.click("#approve")
        expect(rita.locator("h1")).to_have_text(after.title)
    expect(rita.locator("#undo-form")).to_be_visible()
    Decision.objects.filter(review=first).update(state="failed", ended_at=timezone.now())
    nudge(first.pk, "support")
    bad = rita.locator(f'.undo.bad[data-decided="{first.pk}"]')
    expect(bad).to_contain_text("The run failed")
    bad.get_by_role("link").click()
    expect(rita.locator("h1")).to_have_text(first.title)
    expect(bad).to_have_count(0)
    rita.goto("/")
    expect(rita.locator("#undo-form")).to_be_visible()
    expect(bad).to_have_count(0)


def test_who_would_take_back_too_late_is_told(site, person):
    first, second = aged(2)
    rita = person(site(undo=60, worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    rita.click("#approve")
    rita.locator("#undo-form").evaluate("(form) => form.remove()")  # as when its time is over
    rita.keyboard.press("z")
    expect(rita.locator(".told")).to_contain_text("Too late to undo")
    assert Decision.objects.get().state == Decision.State.PENDING


def test_when_all_were_passed_by_next_goes_round_again(site, person):
    first, second = aged(2)
    rita = person(site(worker=False), "rita", stays=False)
    rita.goto(first.get_absolute_url())
    for after in (second, first, second):
        rita.get_by_role("button", name="Next").click()
        expect(rita.locator("h1")).to_have_text(after.title)
    Review.objects.filter(pk=first.pk).update(status="superseded")
    rita.get_by_role("button", name="Next").click()
    expect(rita.locator(".told")).to_contain_text("Nothing else waits")


def test_a_refresh_waits_for_a_press_to_end(site, person):
    (only,) = aged(1)
    rita = person(site(worker=False), "rita")
    rita.goto(only.get_absolute_url())
    rita.wait_for_load_state("networkidle")
    rita.locator("#approve").hover()
    rita.mouse.down()
    with rita.expect_response(lambda answer: "part=state" in answer.url):
        rita.evaluate("htmx.trigger(document.body, 'nudge:review')")
    rita.evaluate("new Promise((done) => setTimeout(done, 100))")
    rita.mouse.up()
    eventually(Decision.objects.exists)


def test_a_page_from_before_a_sign_in_goes_on_working(site, person):
    """In another tab: what a page was given to prove itself with is then no longer right."""
    (only,) = aged(1)
    rita = person(site(worker=False), "rita")
    rita.goto(only.get_absolute_url())
    home = rita.evaluate("location.origin") + "/"
    rita.context.add_cookies([{"name": "csrftoken", "value": "a" * 32, "url": home}])
    rita.get_by_role("button", name="Claim").click()
    expect(rita.locator("#claim")).to_contain_text("Your turn")


def test_a_decision_sent_into_a_dead_connection_arrives_when_it_is_back(site, person):
    first, second = aged(2)
    rita = person(site(undo=9, worker=False), "rita", stays=False, expected=["net::ERR_", "htmx:"])
    rita.goto(first.get_absolute_url())
    fetched_ahead(rita, second)
    rita.context.set_offline(True)
    rita.click("#approve")
    expect(rita.locator("h1")).to_have_text(second.title)
    expect(rita.locator(".told")).to_contain_text("Not sent yet")
    assert not Decision.objects.exists()
    rita.context.set_offline(False)
    eventually(Decision.objects.exists)
    expect(rita.locator("#undo")).to_contain_text("Applied in")
