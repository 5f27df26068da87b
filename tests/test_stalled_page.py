"""The list of stalled runs, and the pages that ask before an admin acts on one."""

import re
import uuid
from typing import Any

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Review
from tests.conftest import capture_all, direct, pause, resume, waiting
from tests.queries import counted_queries, crowd, listed
from tests.test_review_page import HOSTILE, alive, words
from tests.test_run_actions import open_gate, run, state_of

pytestmark = pytest.mark.usefixtures("clean")
BUTTONS = {"continue": "Continue", "end": "End the run", "delete": "Delete the thread"}
LINK = 'href="/stalled/"'


def stalled(fail: str = "the post office is closed", **state: Any) -> Review:
    """A run of an agent's own program that failed in deliver."""
    thread_id = pause("scripted", script={"fail": fail}, **state)
    run("scripted", thread_id)
    capture_all()
    return Review.objects.get(thread_id=thread_id)


def ask(client: Any, review: Review, act: str) -> Any:
    return client.get(f"/reviews/{review.pk}/{act}")


def form_of(page: Any) -> dict[str, str]:
    """The hidden fields of the page that asks."""
    form = re.search(r'<form method="post" class="acts">.*?</form>', page.content.decode(), re.S)
    assert form, "the page has no form"
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0])
    return dict(found)


def act_by_page(client: Any, review: Review, act: str) -> Any:
    page = ask(client, review, act)
    return client.post(page.wsgi_request.path, form_of(page))


# Who sees it


def test_the_list_shows_the_run_where_it_stands_why_and_how_old_it_is(as_):
    review = stalled()
    for name in ("mara", "ada"):
        page = as_(name).get("/stalled/")
        said = words(page)
        for text in (review.title, "scripted", "deliver", "the post office is closed", "now"):
            assert text in said, (name, text)
        assertContains(page, review.checkpoint_id)
        assertContains(page, f'href="/reviews/{review.pk}/"')
    assertNotContains(as_("mara").get("/"), review.title)


@pytest.mark.parametrize("name", ["rita", "stan"])
def test_reviewers_and_strangers_find_no_such_page(as_, name):
    review = stalled()
    client = as_(name)
    assert client.get("/stalled/").status_code == 404
    assertNotContains(client.get("/"), LINK)
    for address in ("", *BUTTONS):
        assert client.get(f"/reviews/{review.pk}/{address}").status_code == 404
    for act in BUTTONS:
        assert (
            client.post(f"/reviews/{review.pk}/{act}", {"digest": review.digest}).status_code == 404
        )
    refused = AuditEntry.objects.filter(action="refused", actor__username=name, review=review)
    assert refused.count() == len(BUTTONS)
    assert state_of(review).next == ("deliver",)


def test_the_link_is_there_for_those_who_may_follow_it(as_):
    for name in ("mara", "ada"):
        assertContains(as_(name).get("/"), LINK)


def test_an_auditor_looks_and_does_nothing(as_):
    review, ada = stalled(), as_("ada")
    page = ada.get(f"/reviews/{review.pk}/")
    assertContains(page, "the post office is closed")
    for act in BUTTONS:
        assertNotContains(page, f"/reviews/{review.pk}/{act}")
        assert ask(ada, review, act).status_code == 404
        assert ada.post(f"/reviews/{review.pk}/{act}", {"digest": review.digest}).status_code == 404
    assert not Decision.objects.exists()
    assert state_of(review).next == ("deliver",)


def test_an_empty_list_says_what_would_be_there(as_):
    assertContains(as_("mara").get("/stalled/"), "Nothing is stalled")


def test_a_long_list_comes_in_pages_at_the_same_cost(as_):
    mara = as_("mara")
    seen = {}
    for number in (3, 120):
        Review.objects.all().delete()
        crowd(number, status="stalled", kind="stalled")
        with counted_queries() as queries:
            page = mara.get("/stalled/")
        seen[number] = queries
    assert len(seen[3]) == len(seen[120]), listed(seen[120])
    following = re.search(r'rel="next" href="([^"]+)"', page.content.decode())
    assert following
    shown = {*re.findall(r'href="/reviews/(\d+)/"', page.content.decode())}
    after = {*re.findall(r'href="/reviews/(\d+)/"', mara.get(following[1]).content.decode())}
    assert shown
    assert after
    assert not shown & after


# Asking first


@pytest.mark.parametrize("act", BUTTONS)
def test_a_get_asks_and_does_nothing(as_, act):
    review, mara = stalled(), as_("mara")
    assertContains(mara.get(f"/reviews/{review.pk}/"), f'href="/reviews/{review.pk}/{act}"')
    page = ask(mara, review, act)
    assertContains(page, f">{BUTTONS[act]}</button>")
    for text in (review.title, review.thread_id, review.checkpoint_id, "the post office is closed"):
        assertContains(page, text)
    assertContains(page, f'href="/reviews/{review.pk}/">Back to the run</a>')
    assert state_of(review).next == ("deliver",)
    assert not Decision.objects.exists()
    assert not AuditEntry.objects.exclude(action__in=["signed_in", "stalled", "opened"]).exists()


def test_continue_by_the_page_runs_it_on(as_):
    review, mara = stalled(), as_("mara")
    open_gate(review)
    assert act_by_page(mara, review, "continue")["Location"] == f"/reviews/{review.pk}/"
    resume(Decision.objects.get())
    assertContains(mara.get(f"/reviews/{review.pk}/"), "Continued, and the run finished")
    assertNotContains(mara.get("/stalled/"), review.title)
    said = words(as_("ada").get("/audit/"))
    assert "Mara Quist had the run go on" in said
    assert "Run broke off" in said


@pytest.mark.parametrize(
    ("act", "ended", "said"),
    [
        ("end", "Ended by Mara Quist.", "Mara Quist ended the run"),
        ("delete", "Deleted by Mara Quist.", "Mara Quist deleted the thread"),
    ],
)
def test_end_and_delete_by_the_page(as_, act, ended, said):
    review, mara = stalled(), as_("mara")
    assert act_by_page(mara, review, act)["Location"] == "/stalled/"
    assert state_of(review).next == ()
    capture_all()
    assert not Review.objects.filter(status="stalled").exists()
    page = mara.get(f"/reviews/{review.pk}/")
    assertContains(page, ended)
    assertNotContains(page, f"/reviews/{review.pk}/{act}")
    assertNotContains(mara.get("/stalled/"), review.title)
    assert said in words(as_("ada").get("/audit/"))


@pytest.mark.parametrize("act", BUTTONS)
def test_a_double_click_does_no_harm(as_, act):
    review, mara = stalled(), as_("mara")
    page = ask(mara, review, act)
    first, second = (mara.post(page.wsgi_request.path, form_of(page)) for _ in range(2))
    assert first.status_code == 302
    assert second.status_code in {302, 409}
    done = {"continue": "continued", "end": "ended", "delete": "deleted"}[act]
    assert AuditEntry.objects.filter(action=done).count() == 1


@pytest.mark.parametrize("act", BUTTONS)
def test_a_run_that_moved_meanwhile_is_left_alone_and_the_page_says_so(as_, act):
    review, mara = stalled(), as_("mara")
    page = ask(mara, review, act)
    open_gate(review)
    run("scripted", review.thread_id)  # by its own program
    told = mara.post(page.wsgi_request.path, form_of(page))
    assertContains(told, "Nothing was done.", status_code=409)
    assertContains(told, "moved", status_code=409)
    assert state_of(review).values["log"][-1] == "deliver"
    assert not Decision.objects.exists()
    assert AuditEntry.objects.filter(action="refused", actor__username="mara").count() == 1


def test_a_second_admin_is_told_who_was_first(as_):
    review, mara = stalled(), as_("mara")
    page = ask(mara, review, "end")
    assert act_by_page(mara, review, "continue").status_code == 302
    told = mara.post(page.wsgi_request.path, form_of(page))
    assertContains(told, "Nothing was done.", status_code=409)
    assert state_of(review).next == ("deliver",)


def test_a_run_that_waits_for_a_person_is_not_tended(as_):
    review, mara = waiting("scripted"), as_("mara")
    for act in BUTTONS:
        told = mara.post(f"/reviews/{review.pk}/{act}", {"digest": review.digest})
        assertContains(told, "This run waits for a person", status_code=422)
    assert state_of(review).next == ("human_approval",)


@pytest.mark.parametrize("key", ["", "no-key", "\x00"])
def test_a_form_made_by_hand_does_no_harm(as_, key):
    review, mara = stalled(), as_("mara")
    told = mara.post(f"/reviews/{review.pk}/continue", {"digest": "0" * 64, "key": key})
    assertContains(told, "Nothing was done.", status_code=409)


# Run again


def test_run_again_asks_first_and_leads_to_the_case(as_):
    review, mara = waiting("scripted"), as_("mara")
    page = mara.get(f"/reviews/{review.pk}/")
    address = re.search(r'href="(/reviews/\d+/again/[^"]+)">Run again', page.content.decode())
    assert address
    asked = mara.get(address[1])
    assertContains(asked, "Run this thread again from here?")
    assert not AuditEntry.objects.filter(action="forked").exists()
    answer = mara.post(address[1], form_of(asked))
    assert answer.status_code == 302
    assert mara.get(answer["Location"]).status_code == 200
    assert "Mara Quist ran it again from" in words(as_("ada").get("/audit/"))
    again = mara.post(address[1], form_of(asked))
    assert again.status_code in {302, 409}


@pytest.mark.parametrize("name", ["rita", "ada", "stan"])
def test_nobody_else_runs_again(as_, name):
    review = waiting("scripted")
    address = f"/reviews/{review.pk}/again/{review.checkpoint_id}"
    client = as_(name)
    assert client.get(address).status_code == 404
    assert client.post(address, {"key": str(uuid.uuid4())}).status_code == 404
    assert not AuditEntry.objects.filter(action="forked").exists()
    if name != "stan":
        assertNotContains(client.get(f"/reviews/{review.pk}/"), "Run again from here")


def test_a_checkpoint_that_is_not_there_is_said(as_):
    review, mara = waiting("scripted"), as_("mara")
    address = f"/reviews/{review.pk}/again/{uuid.uuid4()}"
    told = mara.post(address, {"key": str(uuid.uuid4())})
    assertContains(told, "no such checkpoint", status_code=422)


# Hostile


def test_no_error_and_no_name_of_a_run_comes_alive(as_):
    review, mara = stalled(HOSTILE, title=HOSTILE, who=HOSTILE), as_("mara")
    pages = [mara.get("/stalled/"), mara.get(f"/reviews/{review.pk}/")]
    pages += [ask(mara, review, act) for act in BUTTONS]
    pages.append(mara.get(f"/reviews/{review.pk}/again/{review.checkpoint_id}"))
    pages += [as_("ada").get("/audit/")]
    direct("DELETE FROM checkpoints WHERE thread_id = %s", review.thread_id)
    pages.append(mara.post(f"/reviews/{review.pk}/end", {"digest": review.digest}))
    assert pages[-1].status_code == 409
    for page in pages:
        assert alive(page) == []
        assertContains(page, "&lt;script&gt;", status_code=page.status_code)
        assert "unsafe" not in page["Content-Security-Policy"]


@pytest.mark.parametrize("checkpoint", ["%00", "a%00b", "<script>", "x" * 3000])
def test_a_strange_checkpoint_in_the_address_breaks_nothing(as_, checkpoint):
    review, mara = waiting("scripted"), as_("mara")
    address = f"/reviews/{review.pk}/again/{checkpoint}"
    for answer in (mara.get(address), mara.post(address, {"key": str(uuid.uuid4())})):
        assert answer.status_code < 500
        assert alive(answer) == []
