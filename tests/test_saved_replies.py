"""Saved replies and reasons: whose they are, and how they come into a text."""

import html
import re
from typing import Any

import pytest

from approvals.models import AuditEntry, SavedReply
from tests.conftest import form_of, waiting
from tests.queries import counted_queries, listed

pytestmark = pytest.mark.django_db
LATE = "Dear {{customer.name}},\n\nYour {{ customer.nickname }} is late."


def saved(title: str, text: str = "Text.", owner: Any = None, graph: str = "") -> SavedReply:
    return SavedReply.objects.create(title=title, text=text, owner=owner, graph=graph)


def posted(client: Any, place: str, address: str = "/replies", **given: str) -> Any:
    return client.post(address, {"title": "Late", "text": LATE, "place": place, **given})


def options(client: Any, review: Any, text: str = "") -> dict[str, str]:
    page = client.get(f"/reviews/{review.pk}/replies", {"q": text}).content.decode()
    found = re.findall(r'data-text="([^"]*)"><b>([^<]*)', page)
    return {html.unescape(title): html.unescape(text) for text, title in found}


def test_one_is_written_changed_and_deleted_and_the_others_are_told_of_a_shared_one(as_, cast):
    rita = as_("rita")
    assert posted(rita, "mine:").url == "/replies"
    assert not AuditEntry.objects.filter(action="settings").exists()
    shared = posted(rita, "shared:support", title="To all", text="Dear all.")
    assert shared.status_code == 302
    reply = SavedReply.objects.get(owner=None)
    tom = as_("tom")
    page = tom.get("/replies").content.decode()
    assert "Dear all." in page
    assert "is late" not in page
    assert (
        posted(tom, "shared:support", f"/replies/{reply.pk}", text="Dear you.").status_code == 302
    )
    assert tom.post(f"/replies/{reply.pk}/delete").status_code == 302
    trail = AuditEntry.objects.filter(action="settings").order_by("id")
    assert [(one.actor_name, one.note) for one in trail] == [
        ("Rita Osei", "Saved reply: To all"),
        ("Tom Achebe", "Saved reply: Late"),
        ("Tom Achebe", "Saved reply: Late"),
    ]
    assert [(one.before or {}).get("text") for one in trail] == [None, "Dear all.", "Dear you."]
    assert SavedReply.objects.get().owner == cast.rita


@pytest.mark.parametrize(
    ("name", "place"),
    [("rita", "shared:refunds-of-others"), ("rita", "shared:"), ("stan", "shared:support")],
)
def test_nobody_shares_with_a_queue_that_is_not_theirs(as_, name, place):
    answer = posted(as_(name), place)
    assert answer.status_code == 422
    assert "is late" in answer.content.decode()  # nothing typed is lost
    assert not SavedReply.objects.exists()


def test_anothers_is_neither_shown_nor_changed_nor_deleted(as_, cast):
    theirs = saved("Tom's", owner=cast.tom)
    elsewhere = saved("Elsewhere", graph="unknown")
    rita = as_("rita")
    page = rita.get("/replies").content.decode()
    for one in (theirs, elsewhere):
        assert one.title not in html.unescape(page)
        assert rita.get(f"/replies/{one.pk}").status_code == 404
        assert posted(rita, "mine:", f"/replies/{one.pk}").status_code == 404
        assert rita.post(f"/replies/{one.pk}/delete").status_code == 403
    assert SavedReply.objects.count() == 2
    assert rita.get(f"/replies/{theirs.pk}/delete").status_code == 405


def test_an_auditor_has_none(as_):
    ada = as_("ada")
    assert '<form class="sheet' not in ada.get("/replies").content.decode()
    assert posted(ada, "mine:").status_code == 403


def test_a_search_finds_ones_own_and_the_queues_filled_from_the_state(as_, cast):
    review = waiting("support")
    saved("Late", LATE, cast.rita)
    saved("Lately", graph="support")
    saved("Late refunds", graph="refunds")
    saved("Late, Tom's", owner=cast.tom)
    rita = as_("rita")
    found = options(rita, review, "late")
    assert found == {
        "Late": "Dear Maeve Kilbride,\n\nYour {{ customer.nickname }} is late.",
        "Lately": "Text.",
    }
    page = rita.get(f"/reviews/{review.pk}/replies").content.decode()
    assert "{{ customer.nickname }} has to be filled in" in page
    assert list(options(rita, review, "dear late")) == ["Late"]
    assert options(rita, review, "nothing of the kind") == {}


def test_reasons_are_ones_own_last_ones_and_those_of_the_settings(as_, cast):
    rita = as_("rita")
    for text in ("Too long.", "Too long.", "Wrong name.", "x" * 400):
        review = waiting("scripted")
        form = form_of(review, action="send_back", **{"text.send_back": text})
        assert rita.post(f"/reviews/{review.pk}/decide", form).status_code == 302
    review = waiting("scripted")
    page = rita.get(f"/reviews/{review.pk}/reasons?action=send_back").content.decode()
    assert re.findall(r">([^<]+)</button>", page) == ["Wrong name.", "Too long.", "Shorter."]
    page = as_("tom").get(f"/reviews/{review.pk}/reasons?action=send_back").content.decode()
    assert re.findall(r">([^<]+)</button>", page) == ["Shorter."]
    assert b"button" not in rita.get(f"/reviews/{review.pk}/reasons?action=reject").content


def test_the_page_takes_as_many_queries_for_fifty_as_for_one(as_, cast):
    rita = as_("rita")
    counts = []
    for number in (1, 49):
        for each in range(number):
            saved(f"{number} {each}", owner=cast.rita if each % 2 else None)
        with counted_queries() as seen:
            rita.get("/replies")
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 7, listed(seen)
