"""What is typed is kept on the server: saved, restored, told apart by tab, and nothing dropped."""

import re
import uuid
from typing import Any

import pytest
from django.utils import timezone

from approvals import draft_actions
from approvals.draft_actions import MOST_REVISIONS
from approvals.models import AuditEntry, Decision, Draft, DraftRevision, Review
from tests.conftest import form_of, waiting
from tests.queries import counted_queries, listed
from tests.test_capture import appears
from tests.test_question_page import CLOSE, REFUND, batch

pytestmark = pytest.mark.django_db
TEXT = "edit.agent_response"
MINE = "Dear Maeve,\n\nhalf a sent"


class Tab:
    """A browser tab that saves as editor.js does."""

    def __init__(self, client: Any, user: Any, review: Review, base: int = 0) -> None:
        self.client, self.user, self.review = client, user, review
        self.id, self.base, self.version = uuid.uuid4(), base, base

    def save(self, text: str = MINE, **fields: str) -> Any:
        self.version += 1
        answer = self.send(base=self.base, version=self.version, **{TEXT: text, **fields})
        if answer.status_code == 200:
            self.base = answer.json()["version"]
            self.version = max(self.version, self.base)
        return answer

    def send(self, **fields: Any) -> Any:
        given = {"owner": self.user.pk, "tab": self.id, "digest": self.review.digest, **fields}
        return self.client.post(f"/reviews/{self.review.pk}/draft", given)


@pytest.fixture
def review(db) -> Review:
    return waiting("scripted")


@pytest.fixture
def tab(as_, cast, review) -> Tab:
    return Tab(as_("rita"), cast.rita, review)


def reply_on(client: Any, review: Review) -> str:
    """The text in the reply, as the page comes without a script."""
    page = client.get(f"/reviews/{review.pk}/").content.decode()
    return re.search(r'<textarea[^>]* id="reply"[^>]*>\n(.*?)</textarea>', page, re.S).group(1)


def fields_of(review: Review) -> Any:
    return Draft.objects.get(review=review).fields


# Saved, and there again


def test_a_draft_is_in_the_page_again_for_its_person_alone(as_, tab, review):
    answer = tab.save(**{"edit.amount": "75.", "text.reject": "She did\r\nnot ask."})
    assert re.fullmatch(r"saved \d\d:\d\d:\d\d", answer.json()["said"])
    assert fields_of(review) == {
        TEXT: MINE,
        "edit.amount": "75.",
        "text.reject": "She did\nnot ask.",
    }
    again = as_("rita")  # another device
    assert reply_on(again, review) == MINE
    page = again.get(f"/reviews/{review.pk}/").content.decode()
    assert 'value="75."' in page
    assert "She did\nnot ask." in page
    assert "your text from before, restored" in page
    assert "data-edited" in page
    assert reply_on(as_("tom"), review) == review.values["agent_response"].strip()


def test_calls_and_choices_of_a_question_are_in_the_page_again(as_, cast):
    asked = appears("asking", question=batch(REFUND, CLOSE))
    rita = as_("rita")
    said = {"call.0.action": "edit", "call.0.args.amount": "20.50", "call.1.action": "reject"}
    untouched = {"call.0.args.order_id": "FH-10412", "call.0.name": "issue_refund"}
    mine = Tab(rita, cast.rita, asked)
    given = {**said, **untouched, "call.1.reject": "No."}
    assert mine.send(base=0, version=1, **given).status_code == 200
    page = rita.get(f"/reviews/{asked.pk}/").content.decode()
    assert re.search(r'name="call.0.action" value="edit" checked', page)
    assert 'value="20.50"' in page
    assert ">\nNo.</textarea>" in page
    assert untouched.keys().isdisjoint(fields_of(asked))


def test_what_is_as_it_was_drafted_is_no_draft_of_anything(tab, review):
    tab.save(review.values["agent_response"].replace("\n", "\r\n"), **{"edit.amount": "60"})
    assert fields_of(review) == {}


def test_a_text_that_could_not_be_sent_is_kept_all_the_same(as_, tab, review):
    assert tab.save(f"NUL \x00 and {'long ' * 400}").status_code == 200
    assert fields_of(review)[TEXT].startswith("NUL � and long long")
    assert "characters over the 500 that can be sent" in as_("rita").get(
        f"/reviews/{review.pk}/"
    ).content.decode().replace(",", "")
    refused = tab.save("x" * 1_000_001)
    assert (refused.status_code, refused.json()["said"]) == (413, "Over 1 MB, too much to be saved")
    assert fields_of(review)[TEXT].startswith("NUL")


@pytest.mark.parametrize(
    "given", [{"tab": "me"}, {"base": "x"}, {"version": ""}, {"version": str(2**40)}]
)
def test_a_save_that_cannot_be_read_says_so(tab, given):
    answer = tab.send(**{"base": 0, "version": 1, TEXT: MINE, **given})
    assert answer.status_code == 400
    assert "reload" in answer.json()["said"]
    assert not Draft.objects.exists()


# Tabs


def test_of_two_tabs_neither_overwrites_what_it_has_not_seen(as_, cast, tab, review):
    tab.save("First.")
    other = Tab(as_("rita"), cast.rita, review, base=tab.base)
    other.save("Second, from another tab.")
    late = tab.save("First, typed on.")
    assert late.status_code == 409
    assert "Second, from another tab." in late.json()["html"]
    assert "First, typed on." in late.json()["html"]
    assert late.json()["fields"] == {
        TEXT: "Second, from another tab.",
        "edit.amount": "60",
    }
    tab.save("First, typed on and on.")  # one revision of it, kept up to date
    assert fields_of(review)[TEXT] == "Second, from another tab."
    kept = [one.fields[TEXT] for one in DraftRevision.objects.order_by("id")]
    assert kept == ["First.", "First, typed on and on."]

    tab.base = late.json()["version"]  # Use this one
    assert tab.save("First, typed on and on.").status_code == 200
    assert fields_of(review)[TEXT] == "First, typed on and on."
    assert "Second, from another tab." in [one.fields[TEXT] for one in DraftRevision.objects.all()]


def test_the_same_text_in_two_tabs_is_no_conflict(as_, cast, tab, review):
    tab.save()
    other = Tab(as_("rita"), cast.rita, review)  # it has not heard of the first save
    assert other.save().status_code == 200


def test_of_two_saves_of_a_tab_the_later_counts_whichever_comes_first(tab, review):
    tab.send(base=0, version=2, **{TEXT: "Later."})
    assert tab.send(base=0, version=1, **{TEXT: "Earl"}).json()["version"] == 2
    assert tab.send(base=0, version=2, **{TEXT: "Later."}).status_code == 200
    assert fields_of(review)[TEXT] == "Later."


# Earlier versions


def test_earlier_versions_are_kept_listed_and_restored(as_, tab, review):
    tab.save("One two three.")
    tab.save("One two three four.")  # at once: the first is kept, as there was none
    tab.save("One two three four five.")  # within ten seconds of it: not kept
    long = "word " * 40
    tab.save(long)
    tab.save("All gone.")  # so much was deleted that it is
    texts = [one.fields[TEXT] for one in DraftRevision.objects.order_by("id")]
    assert texts == ["One two three.", long]

    rita = as_("rita")
    page = rita.get(f"/reviews/{review.pk}/drafts").content.decode()
    assert "+2</span>" in page
    assert "−40</span>" in page
    first = DraftRevision.objects.order_by("id").first()
    restored = rita.post(f"/reviews/{review.pk}/drafts/restore", {"revision": first.pk})
    assert restored.url == f"/reviews/{review.pk}/"
    assert reply_on(rita, review) == "One two three."
    assert "All gone." in [one.fields[TEXT] for one in DraftRevision.objects.all()]
    assert tab.save("An old tab types on.").status_code == 409


def test_fifty_earlier_versions_are_kept(tab, review):
    tab.save("The last before.")
    draft, long_ago = Draft.objects.get(), timezone.now() - timezone.timedelta(seconds=11)
    old = {"draft": draft, "tab": tab.id, "version": 0, "saved_at": long_ago}
    DraftRevision.objects.bulk_create(
        DraftRevision(**old, fields={TEXT: str(number)}) for number in range(MOST_REVISIONS)
    )
    tab.save("Now.")
    texts = [one.fields[TEXT] for one in DraftRevision.objects.all()]
    assert texts == ["The last before.", *map(str, range(MOST_REVISIONS - 1, 0, -1))]


def test_nobody_restores_or_reads_anothers(as_, tab, review):
    tab.save("One.")
    tab.save("Two.")
    revision = DraftRevision.objects.get()
    tom = as_("tom")
    assert b"One." not in tom.get(f"/reviews/{review.pk}/drafts").content
    answer = tom.post(f"/reviews/{review.pk}/drafts/restore", {"revision": revision.pk})
    assert answer.status_code == 404
    assert fields_of(review)[TEXT] == "Two."


# Who may, and who holds it


def test_the_first_save_claims_and_a_later_one_says_who_holds_it(as_, cast, tab, review):
    tab.send(base=0, version=1, going="1", **{TEXT: "Typed as the page goes."})
    review.refresh_from_db()
    assert review.claimed_by is None
    tab.version = 1
    assert tab.save().json()["holder"] == ""
    review.refresh_from_db()
    assert review.claimed_by == cast.rita
    tom = Tab(as_("tom"), cast.tom, review)
    assert tom.save("Tom's.").json()["holder"] == "Rita Osei"
    review.refresh_from_db()
    assert review.claimed_by == cast.rita
    assert Draft.objects.count() == 2
    assert not AuditEntry.objects.filter(action="refused").exists()


@pytest.mark.parametrize("name", ["ada", "mara", "stan"])
def test_who_may_not_decide_saves_nothing(as_, cast, review, name):
    answer = Tab(as_(name), getattr(cast, name), review).save()
    assert answer.status_code == 403
    assert "not yours" in answer.json()["said"]
    assert not Draft.objects.exists()


def test_whoever_signed_in_since_does_not_get_the_others_text(as_, cast, review):
    """The tab is rita's; in another one she signed out, and tom signed in."""
    answer = Tab(as_("tom"), cast.rita, review).save()
    assert answer.status_code == 403
    assert "signed in" in answer.json()["said"]
    assert not Draft.objects.exists()


def test_who_lost_the_queue_is_not_served_their_draft_and_it_is_kept(as_, cast, tab, review):
    tab.save()
    cast.rita.groups.clear()
    rita = as_("rita")
    assert rita.get(f"/reviews/{review.pk}/drafts").status_code == 404
    cast.rita.groups.set([*cast.tom.groups.all(), *cast.ada.groups.all()])  # now an auditor
    assert MINE.encode() not in rita.get(f"/reviews/{review.pk}/").content
    assert MINE.encode() not in rita.get(f"/reviews/{review.pk}/drafts").content
    cast.rita.groups.set(cast.tom.groups.all())
    assert reply_on(rita, review) == MINE


def test_signed_out_saves_nothing_and_is_told_by_no_json(client, cast, review):
    answer = Tab(client, cast.rita, review).save()
    assert answer.status_code == 401
    assert "json" not in answer["Content-Type"]


# Deciding


def test_a_decision_that_is_refused_becomes_the_draft(as_, cast, tab, review):
    rita = as_("rita")
    lacks = form_of(review, text="", **{"text.reject": "Half a reas"})
    assert rita.post(f"/reviews/{review.pk}/decide", lacks).status_code == 422
    assert fields_of(review) == {TEXT: "", "text.reject": "Half a reas"}
    as_("tom").post(f"/reviews/{review.pk}/decide", form_of(review))
    lost = rita.post(f"/reviews/{review.pk}/decide", form_of(review, text="Dear Maeve, mine."))
    assert lost.status_code == 409
    assert fields_of(review)[TEXT] == "Dear Maeve, mine."
    assert DraftRevision.objects.get().fields["text.reject"] == "Half a reas"
    assert "What you wrote here is kept" in rita.get(f"/reviews/{review.pk}/").content.decode()
    assert "Dear Maeve, mine." in rita.get(f"/reviews/{review.pk}/drafts").content.decode()


def test_an_undo_brings_back_the_form_as_it_was_sent(as_, cast):
    review = waiting("support")
    rita = as_("rita")
    tab = Tab(rita, cast.rita, review)
    tab.save("Typed and saved.", **{"text.reject": "Words for another action."})
    form = form_of(review, text="Typed on, then sent.")
    assert rita.post(f"/reviews/{review.pk}/decide", form).status_code == 302
    assert 'id="reply"' not in rita.get(f"/reviews/{review.pk}/").content.decode()
    rita.post(f"/decisions/{Decision.objects.get().pk}/undo")
    assert reply_on(rita, review) == "Typed on, then sent."
    assert fields_of(review) == {TEXT: "Typed on, then sent."}
    tab.base = Draft.objects.get().version  # of the page that came with the undo
    tab.save("Since the undo.")
    assert reply_on(rita, review) == "Since the undo."


def test_drafts_of_decided_cases_are_forgotten_after_a_month(tab, review):
    tab.save()
    waits, decided = tab.review, waiting("scripted")
    tab.review = decided
    tab.send(base=0, version=1, **{TEXT: MINE})
    Review.objects.filter(pk=decided.pk).update(status="decided")
    assert draft_actions.forget_old() == 0
    Draft.objects.update(saved_at=timezone.now() - timezone.timedelta(days=31))
    draft_actions.forget_old()
    assert list(Draft.objects.values_list("review", flat=True)) == [waits.pk]


# What it costs


def test_a_save_takes_few_queries_and_tells_nobody(tab, review):
    tab.save("One.")
    tab.save("Two.")
    with counted_queries() as seen:
        tab.save("Three.")
    assert len(seen) <= 11, listed(seen)
    assert not any("pg_notify" in query for query in seen)


def test_hints_lengths_and_the_language_stand_beside_the_reply(as_, cast):
    """Served with the redline, as one types; the page has them without a script, too."""
    review = waiting("support")
    rita = as_("rita")
    page = rita.get(f"/reviews/{review.pk}/").content.decode()
    assert re.search(r'id="reply"[^>]* lang="en"', page)
    assert 'dir="auto"' in page
    address = f"/reviews/{review.pk}/redline"
    typed = form_of(review, "I guarantee it, {{customer.nme}}.")
    said = rita.post(address, typed, HTTP_HX_REQUEST="true").content.decode()
    assert "This may read as a promise." in said
    assert "The reply has no greeting." in said
    assert "{{customer.nme}} is not filled in" in said
    assert "33 characters" in said
    quiet = rita.post(address, form_of(review, "Dear Maeve, no."), HTTP_HX_REQUEST="true")
    assert "<li>" not in quiet.content.decode()
