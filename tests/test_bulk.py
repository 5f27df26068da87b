"""Many at once: each on what was shown, each by itself, and the same form twice gives the same."""

import re

import psycopg
import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Draft, Review
from tests.conftest import form_of, test_url, waiting
from tests.queries import crowd

pytestmark = pytest.mark.django_db


def value(review: Review) -> str:
    return f"{review.pk}:{review.digest}:{review.checkpoint_id}"


def form(act: str, *reviews: Review, **fields) -> dict:
    return {"act": act, "row": [value(review) for review in reviews], **fields}


def sure(client, act: str, *reviews: Review, **fields) -> dict:
    """The form of the page that asks first, as a browser would send it on."""
    page = client.post("/many", form(act, *reviews)).content.decode()
    key = re.search(r'name="key" value="([^"]+)"', page)[1]
    chosen = re.findall(r'name="row" value="([^"]+)" checked', page)
    return {"act": act, "row": chosen, "key": key, "sure": "1", **fields}


def test_the_list_selects_what_it_shows(as_):
    review = waiting("scripted")
    assertContains(as_("rita").get("/"), f'name="row" value="{value(review)}"')
    assertNotContains(as_("ada").get("/"), 'name="row"')  # auditors decide nothing


def test_nothing_happens_before_it_is_confirmed_and_the_page_says_what_would(as_, cast):
    ok, other, question = (
        waiting("scripted"),
        waiting("scripted"),
        waiting("asking", question="Which?"),
    )
    held = waiting("scripted")
    as_("tom").post(f"/reviews/{held.pk}/claim")
    Review.objects.filter(pk=other.pk).update(digest="1" * 64)
    page = as_("rita").post("/many", form("approve", ok, other, question, held))
    assertContains(page, "Approve 1 case as drafted?")
    assertContains(page, "It has changed since the list was shown")
    assertContains(page, "A question is answered one by one")
    assertContains(page, "Tom Achebe has this case.")
    assert re.findall(r'value="([^"]+)" checked', page.content.decode()) == [value(ok)]
    assert not Decision.objects.exists()


def test_each_row_is_decided_or_says_why_not(as_, cast):
    ok, changed, decided = (waiting("scripted") for _ in range(3))
    question = waiting("asking", question="Which?")
    rita = as_("rita")
    sent = form("approve", ok, changed, decided, question, sure="1")
    sent["key"] = "7f0c1d06-6a3b-4a39-9a0c-0d6a4b9a0001"
    as_("tom").post(f"/reviews/{decided.pk}/decide", form_of(decided))
    Review.objects.filter(pk=changed.pk).update(digest="1" * 64)
    page = rita.post("/many", sent)
    assertContains(page, "1 case approved")
    assertContains(page, "3 refused")
    assertContains(page, "This page shows an older state of the review.")
    assertContains(page, "Somebody else decided this review first.")
    assertContains(page, "A question is answered one by one")
    mine = Decision.objects.get(actor=cast.rita)
    assert (mine.review_id, mine.action, mine.edits) == (ok.pk, "approve", {})
    assert AuditEntry.objects.filter(action="decided", actor=cast.rita).count() == 1
    assert AuditEntry.objects.filter(action="refused", actor=cast.rita).count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_row_that_another_transaction_holds_for_long_stops_no_other(clean, as_):
    held, free = waiting("scripted"), waiting("scripted")
    rita = as_("rita")
    sent = sure(rita, "approve", held, free)
    with psycopg.connect(test_url()) as other:
        other.execute("SELECT 1 FROM approvals_review WHERE id = %s FOR UPDATE", [held.pk])
        page = rita.post("/many", sent)
    assertContains(page, "Something else is at work on this case.")
    assert Decision.objects.get().review_id == free.pk
    rita.post("/many", sent)
    assert Decision.objects.count() == 2


def test_the_same_form_sent_twice_decides_once_and_says_the_same(as_):
    pair = [waiting("scripted"), waiting("scripted")]
    rita = as_("rita")
    sent = sure(rita, "reject", *pair, text="Both are duplicates.")
    first, second = rita.post("/many", sent), rita.post("/many", sent)
    for page in (first, second):
        assertContains(page, "2 cases rejected")
        assertNotContains(page, "Refused")
    assert Decision.objects.count() == 2
    assert {d.said["text"] for d in Decision.objects.all()} == {"Both are duplicates."}
    assert {d.values["status"] for d in Decision.objects.all()} == {"rejected"}


def test_a_rejection_needs_its_reason_and_keeps_the_selection(as_):
    review = waiting("scripted")
    rita = as_("rita")
    page = rita.post("/many", sure(rita, "reject", review, text="  "))
    assertContains(page, "Say why you reject it", status_code=422)
    assert value(review) in page.content.decode()
    assert not Decision.objects.exists()


def test_what_one_has_written_oneself_is_told_before_the_draft_goes_out(as_, cast):
    review = waiting("scripted")
    Draft.objects.create(
        user=cast.rita,
        review=review,
        fields={"edit.agent_response": "Mine"},
        digest=review.digest,
        tab="7f0c1d06-6a3b-4a39-9a0c-0d6a4b9a0001",
        saved_at=review.waiting_since,
    )
    assertContains(as_("rita").post("/many", form("approve", review)), "You have written in this")
    assertNotContains(as_("tom").post("/many", form("approve", review)), "You have written in this")


def test_another_queues_rows_are_refused_like_rows_that_do_not_exist(as_):
    review, rita = waiting("scripted"), as_("rita")
    sent = sure(rita, "approve", review)
    sent["row"] += ["999999:aa:bb", "no row", "1:2", ""]
    page = as_("stan").post("/many", sent)
    assertContains(page, "0 cases approved")
    assertContains(page, "There is no such case for you.", count=2)
    assert not Decision.objects.exists()


def test_a_hundred_at_most_and_then_none_is_done(as_, cast):
    many = crowd(101, graph="scripted")
    sent = form("assign", *many, sure="1", to=f"person-{cast.tom.pk}")
    assertContains(as_("rita").post("/many", sent), "At most 100", status_code=422)
    assert not Review.objects.filter(assigned_to=cast.tom).exists()
    sent["row"] = sent["row"][:100]
    assertContains(as_("rita").post("/many", sent), "100 cases assigned")
    assert Review.objects.filter(assigned_to=cast.tom).count() == 100


def test_selected_cases_are_snoozed_together(as_):
    pair = crowd(2, graph="scripted")
    rita = as_("rita")
    page = rita.post("/many", sure(rita, "snooze", *pair, until="tomorrow", zone="Europe/Berlin"))
    assertContains(page, "2 cases snoozed")
    assert Review.objects.awake().count() == 0


def test_a_get_asks_and_does_nothing(as_):
    review = waiting("scripted")
    answer = as_("rita").get("/many", form("approve", review, sure="1"))
    assert answer.status_code == 302
    assert not Decision.objects.exists()
    assert as_("rita").post("/many", {"act": "approve"}).status_code == 422
    assert as_("rita").post("/many", form("delete", review)).status_code == 422


def test_what_was_decided_at_once_is_taken_back_at_once(as_, cast):
    reviews = [waiting() for _ in range(3)]
    rita = as_("rita")
    done = rita.post("/many", sure(rita, "approve", *reviews))
    assertContains(done, "Undo all 3")
    ids = re.findall(r'name="decision" value="([^"]+)"', done.content.decode())
    assert len(ids) == 3
    assert as_("tom").post("/many/undo", {"decision": ids}).status_code == 200  # of each, why not
    late = Decision.objects.get(review=reviews[0])
    Decision.objects.filter(pk=late.pk).update(apply_after=late.decided_at)
    page = rita.post("/many/undo", {"decision": [*ids, "nonsense"]})
    assertContains(page, "2 cases taken back")
    assertContains(page, "Too late to undo")
    assert Decision.objects.filter(state="undone").count() == 2
    assert list(Review.objects.waiting().order_by("pk")) == reviews[1:]
    assert rita.post("/many/undo", {"decision": ["nonsense"]}).status_code == 422
    assert as_("stan").post("/many/undo", {"decision": ids}).status_code == 422
    assert rita.get("/many/undo").status_code == 302


def test_many_can_be_taken_back_for_longer_than_one_and_till_about_the_same_moment(as_):
    rita, reviews = as_("rita"), [waiting() for _ in range(4)]
    alone = reviews.pop()
    rita.post("/many", sure(rita, "approve", *reviews))
    rita.post("/many", sure(rita, "approve", alone))
    windows = {
        one.review_id: (one.apply_after - one.decided_at).total_seconds()
        for one in Decision.objects.all()
    }
    assert windows.pop(alone.pk) == 8
    assert all(20 <= seconds < 21 for seconds in windows.values())
    ends = sorted(Decision.objects.exclude(review=alone).values_list("apply_after", flat=True))
    assert (ends[-1] - ends[0]).total_seconds() < 2
