"""Who is at a case: told within two seconds, forgotten when a tab closes or falls silent."""

import datetime as dt
import re
import uuid
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from approvals import desk_actions, presence
from approvals.models import AuditEntry, Presence, Review
from tests.conftest import eventually, waiting
from tests.queries import counted_queries, listed
from tests.test_claims import does, ends_in, holder, shift
from tests.test_live import heard, settled, silent

pytestmark = pytest.mark.django_db
TAB = str(uuid.UUID(int=1))
READS = {"tab": TAB, "doing": "reading", "active": "0"}


def line(client: Any, review: Review) -> str:
    return client.get(f"/reviews/{review.pk}/people").content.decode()


def test_others_are_shown_by_name_and_who_edits_comes_first(as_):
    review, rita = waiting(), as_("rita")
    for number, name in enumerate(("rita", "ada", "tom", "tom")):
        doing = "editing" if number == 3 else "reading"
        said = {"tab": uuid.UUID(int=number), "doing": doing, "active": 0}
        assert does(as_(name), "here", review, **said).status_code == 204
    shown = line(rita, review)
    assert "Rita" not in shown
    assert shown.index("Tom Achebe is editing") < shown.index("Ada Lindqvist is reading")
    assert not AuditEntry.objects.filter(action="claimed").exists()


def test_rows_of_the_queue_are_marked_with_who_is_there_in_one_query_more(as_):
    review, other = waiting(), waiting()
    does(as_("tom"), "here", review, **READS)
    rita, asked = as_("rita"), f"/marks?ids={review.pk},{other.pk},x"
    with counted_queries() as two:
        shown = rita.get(asked).content.decode()
    assert [f'id="marks-{one.pk}"' in shown for one in (review, other)] == [True, True]
    assert shown.count("Tom Achebe is reading") == 2  # as a title, and for screen readers
    with counted_queries() as one:
        rita.get(f"/marks?ids={review.pk}")
    assert len(one) == len(two), listed(two)
    assert "marks-" not in as_("stan").get(asked).content.decode()


def test_a_page_that_is_worked_in_holds_the_claim_and_one_that_is_not_lets_it_lapse(as_):
    review, ahead, rita = waiting(), waiting(), as_("rita")
    for one in (review, ahead):
        does(rita, "claim", one)
    does(rita, "here", review, **READS, ahead=ahead.pk)
    assert 40 < ends_in(review) <= 45
    assert 40 < ends_in(ahead) <= 45
    for held in (review, ahead):
        shift(held, claimed_until=30)
    does(rita, "here", review, **{**READS, "active": "301"})
    assert ends_in(review) <= 15
    does(as_("tom"), "here", review, **{**READS, "tab": uuid.uuid4()})  # not his to renew
    assert (holder(review), ends_in(review) <= 15) == ("rita", True)
    does(rita, "here", review, **READS)
    assert ends_in(review) > 40
    assert ends_in(ahead) <= 15
    assert AuditEntry.objects.filter(action="claimed").count() == 2


def test_the_last_tab_of_a_case_ends_its_claim_but_for_a_reload(as_):
    review, rita, other = waiting(), as_("rita"), str(uuid.UUID(int=2))
    does(rita, "claim", review)
    for tab in (TAB, other):
        does(rita, "here", review, **{**READS, "tab": tab})
    does(rita, "leave", review, tab=other)
    assert ends_in(review) > 40
    does(rita, "leave", review, tab=TAB)
    assert 0 < ends_in(review) <= 5
    does(rita, "here", review, **{**READS, "tab": other})  # the page is back
    assert ends_in(review) > 40
    does(rita, "leave", review, tab=other)
    shift(review, claimed_until=5)
    assert desk_actions.free_ended() == 1
    assert holder(review) is None
    assert not Presence.objects.exists()


def test_a_tab_that_fell_silent_is_forgotten(as_):
    review = waiting()
    does(as_("tom"), "here", review, **READS)
    Presence.objects.update(seen_at=timezone.now() - dt.timedelta(seconds=46))
    assert "Tom" not in line(as_("rita"), review)
    assert presence.forget_silent() == 1
    assert not Presence.objects.exists()


@pytest.mark.parametrize("wrong", [{"tab": "x"}, {"doing": "sleeping"}, {"tab": ""}])
def test_what_no_page_says_is_refused(as_, wrong):
    assert does(as_("rita"), "here", waiting(), **{**READS, **wrong}).status_code == 422
    assert not Presence.objects.exists()


def test_nobody_takes_over_the_tab_of_another_or_looks_where_they_may_not(as_):
    review = waiting()
    does(as_("rita"), "here", review, **READS)
    assert does(as_("tom"), "here", review, **READS).status_code == 422
    does(as_("tom"), "leave", review, tab=TAB)
    assert Presence.objects.get().user.username == "rita"
    assert does(as_("stan"), "here", review, **READS).status_code == 404
    assert as_("stan").get(f"/reviews/{review.pk}/people").status_code == 404


def test_a_heartbeat_costs_a_handful_of_queries(as_):
    review, rita = waiting(), as_("rita")
    does(rita, "here", review, **READS)
    with counted_queries() as seen:
        does(rita, "here", review, **READS)
    assert len(seen) <= 16, listed(seen)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean")
def test_only_changes_are_told_as_presence_and_a_change_of_case_to_both(webs, as_):
    review, other = waiting(), waiting()
    address, _ = webs(2)
    rita, tom = as_("rita"), as_("tom")
    cookie = {"Cookie": f"sessionid={as_('ada').cookies['sessionid'].value}"}
    with settled(address, cookie) as tab:
        does(tom, "here", review, **READS)
        assert heard(tab) == {"reviews": [], "refresh": False, "presence": [review.pk]}
        does(tom, "here", review, **READS)
        assert silent(tab)
        does(tom, "here", other, **READS)
        assert heard(tab)["presence"] == sorted([review.pk, other.pk])
        does(tom, "leave", review, tab=TAB)  # late: it shows another case by now
        assert silent(tab)
        does(rita, "claim", review)
        assert heard(tab) == {"reviews": [review.pk], "refresh": False}


# Two people, one case, in their browsers


@pytest.mark.django_db(transaction=True)
def test_two_people_on_one_case_see_each_other_and_lose_no_word(site, person):
    review = waiting()
    address = site(worker=False)
    rita, tom = person(address, "rita"), person(address, "tom")
    here = f"/reviews/{review.pk}/"
    rita.goto(here)
    tom.goto(here)
    expect(rita.locator("#people")).to_contain_text("Tom Achebe is reading")
    rita.get_by_role("button", name="Claim").click()
    expect(rita.locator("#claim")).to_contain_text("Your turn")
    expect(tom.locator("#claim")).to_contain_text("Rita Osei has this case")
    expect(tom.locator("#approve")).to_be_disabled()
    rita.locator("#reply").press_sequentially("Words of Rita. ")
    expect(tom.locator("#people")).to_contain_text("Rita Osei is editing")
    expect(tom.locator("#announce")).to_contain_text("Rita Osei is editing")

    tom.get_by_role("button", name="Ask for it").click()
    rita.get_by_role("button", name="Give it").click()
    expect(tom.locator("#claim")).to_contain_text("Your turn")
    expect(rita.locator("#claim")).to_contain_text("stays in the editor, as your draft")
    expect(rita.locator("#approve")).to_be_disabled()
    assert "Words of Rita. " in rita.locator("#reply").input_value()
    rita.reload()
    expect(rita.locator("#reply")).to_have_value(re.compile("Words of Rita. "))

    tom.close(run_before_unload=False)
    expect(rita.locator("#people")).not_to_contain_text("Tom")
    eventually(lambda: ends_in(review) <= 5)  # told after he has gone
    assert holder(review) == "tom"
