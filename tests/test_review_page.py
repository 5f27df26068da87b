"""The review page: all that one needs to decide, and nothing of it alive."""

import asyncio
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import MESSAGE, capture_all, form_of, pause, waiting
from tests.queries import copies_of, counted_queries, crowd, listed

pytestmark = pytest.mark.django_db
MOST_QUERIES = 20  # of which five are every page's: session, person, groups, profile, mentions
HTMX = {"HX-Request": "true"}
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>"
    "[x](javascript:alert(3))![y](https://example.com/y.png)\"'></textarea>"
)


class Alive(HTMLParser):
    """Collects what would run, or call home, if a browser showed the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        own_script = tag == "script" and (given.get("src") or "").startswith("/static/")
        if (tag in {"script", "img", "iframe", "object", "base", "style"}) and not own_script:
            self.found.append(self.get_starttag_text())
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.found.append(self.get_starttag_text())


def alive(answer) -> list[str]:
    return Alive(answer.content.decode()).found


def words(answer) -> str:
    """The page as it is read: without tags, one space between words."""
    html = answer.content.decode()
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def steps(answer) -> list[int]:
    found = re.findall(r'<span class="st">(-?\d+)</span>', answer.content.decode())
    return [int(step) for step in found]


def update(review_or_thread, graph_id, **values) -> None:
    """What an agent's own program does to its thread, with no word to us."""
    thread_id = getattr(review_or_thread, "thread_id", review_or_thread)
    config = {"configurable": {"thread_id": thread_id}}
    asyncio.run(joined(registry().graphs[graph_id]).aupdate_state(config, values))


# What is shown


def test_it_shows_the_conversation_the_draft_and_why_it_waits(as_):
    review = waiting()
    page = as_("rita").get(f"/reviews/{review.pk}/")
    said = words(page)
    assert MESSAGE in said
    assert " ".join(review.values["agent_response"].split()) in said
    assert "paused before human_approval" in said
    assert review.values["compliance_findings"]
    for finding in review.values["compliance_findings"]:
        assert finding["text"] in said
    assertContains(page, '<h1 dir="auto">Missed payment and credit file</h1>')


def test_the_editor_holds_the_draft_as_it_is(as_):
    review = waiting("scripted", agent_response="\n\nDear Maeve,\n  two spaces & <b>\n")
    html = as_("rita").get(f"/reviews/{review.pk}/").content.decode()
    # A browser drops the newline that follows <textarea …>, and no other.
    editor = re.search(r'<textarea class="letter" id="reply"[^>]*>\n(.*?)</textarea>', html, re.S)
    assert unescape(editor[1]) == review.values["agent_response"]


def test_the_whole_state_is_there_as_a_tree(as_):
    review = waiting()
    said = words(as_("rita").get(f"/reviews/{review.pk}/"))
    for key in review.values:
        assert f" {key} " in said
    assert "maeve@example.com" in said
    assert f"{len(review.values['customer'])} keys" in said


def test_the_facts_of_the_snapshot_are_there(as_):
    review = waiting()
    page = as_("rita").get(f"/reviews/{review.pk}/")
    for fact in (
        review.thread_id,
        review.checkpoint_id,
        review.digest,
        review.snapshot["created_at"],
    ):
        assertContains(page, fact)
    said = words(page)
    assert "next human_approval" in said
    for key, value in review.snapshot["metadata"].items():
        assert key in said, (key, value)


def test_the_graph_is_drawn_with_the_node_it_waits_before(as_):
    page = as_("rita").get(f"/reviews/{waiting().pk}/")
    assertContains(page, "Waits: human_approval.")
    assertContains(page, '<circle class="here"', count=1)
    assertContains(page, "compliance_check")


def test_the_history_is_newest_first_with_sources_writers_and_changes(as_):
    review = waiting("scripted")
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assert steps(page) == [1, 0, -1]
    sources = re.findall(r'<span class="src[^"]*">(\w+)</span>', page.content.decode())
    assert sources == ["loop", "loop", "input"]
    assert '<span class="wr">draft</span>' in page.content.decode()
    assert "is_compliant added" in words(page)


def test_an_update_by_another_program_is_in_the_history_as_one(as_):
    review = waiting("scripted")
    update(review, "scripted", agent_response="Dear Maeve,\n\nWe changed your plan.")
    capture_all()
    now = Review.objects.waiting().get(thread_id=review.thread_id)
    page = as_("rita").get(f"/reviews/{now.pk}/")
    row = r'<span class="src[^"]*">(\w+)</span><span class="wr">([\w ]+)</span>'
    made = re.findall(row, page.content.decode())
    assert made[0][0] == "update"
    assert made[0][1] not in {"start", "approval"}  # it began nothing, and no person approved it
    assert "agent_response changed" in words(page)


def test_a_long_history_comes_twenty_at_a_time(as_):
    thread_id = pause("scripted")
    for number in range(24):
        update(thread_id, "scripted", amount=number)
    capture_all()
    review = Review.objects.waiting().get(thread_id=thread_id)
    rita = as_("rita")
    page = rita.get(f"/reviews/{review.pk}/")
    link = re.search(r'class="btn older" href="([^"#]+)', page.content.decode())[1]
    older = rita.get(link)
    part = rita.get(link.replace("?", "?part=history&"), headers=HTMX)
    assert (len(steps(page)), len(steps(older))) == (20, 7)
    assert steps(page) + steps(older) == list(range(25, -2, -1))
    assert steps(part) == steps(older)
    assertNotContains(part, "<html")
    assertNotContains(older, 'class="btn older"')
    # The oldest step of a page is compared with one that the page does not show.
    assert words(page).count("amount changed") == 20


# Queries


def test_twenty_queries_at_most_with_five_threads_and_with_five_hundred(as_):
    """Opened for the first time, which is recorded, and again."""
    review = waiting()
    here = f"/reviews/{review.pk}/"
    copies_of(review.thread_id, 4)
    capture_all()
    few = [count(as_("rita"), here, "5"), count(as_("rita"), here, "5")]
    copies_of(f"{review.thread_id}-copy-1", 495)
    crowd(495)
    many = [count(as_("tom"), here, "500"), count(as_("tom"), here, "500")]
    assert [len(seen) for seen in few] == [len(seen) for seen in many]
    assert max(map(len, many)) <= MOST_QUERIES, listed(max(many, key=len))


def count(client, address: str, waiting_now: str) -> list[str]:
    with counted_queries() as seen:
        assertContains(client.get(address), f'<span class="n">{waiting_now}</span>')
    return seen


def test_twenty_queries_at_most_with_a_decision_and_a_long_history(as_):
    thread_id = pause("scripted")
    for number in range(24):
        update(thread_id, "scripted", amount=number)
    capture_all()
    review = Review.objects.waiting().get(thread_id=thread_id)
    rita = as_("rita")
    rita.post(f"/reviews/{review.pk}/decide", form_of(review, "Yes."))
    for client in (rita, as_("tom")):
        for address in (f"/reviews/{review.pk}/", f"/reviews/{review.pk}/?part=state"):
            with counted_queries() as seen:
                assert client.get(address).status_code == 200
            assert len(seen) <= MOST_QUERIES, listed(seen)


# What agents and customers write is hostile


def hostile_review() -> Review:
    thread_id = pause()
    update(
        thread_id,
        "support",
        subject=HOSTILE,
        agent_response=HOSTILE,
        customer={
            "name": HOSTILE,
            HOSTILE: HOSTILE,
            f"{HOSTILE} object": {HOSTILE: 1},
            f"{HOSTILE} list": ["<b>", HOSTILE],
            f"{HOSTILE} short": "<img src=x>",
            "type": {"__type__": HOSTILE},
        },
        messages=[
            {"role": "human", "content": HOSTILE, "name": "<script>alert(4)</script>"},
            {
                "role": "ai",
                "content": HOSTILE,
                "tool_calls": [{"id": "1", "name": HOSTILE, "args": {HOSTILE: HOSTILE}}],
            },
        ],
        risk=HOSTILE,
        compliance_findings=[dict.fromkeys(("text", "quote", "rule", "severity"), HOSTILE)],
        drafted_by=HOSTILE,
    )
    capture_all()
    return Review.objects.waiting().get(thread_id=thread_id)


def test_nothing_that_an_agent_wrote_comes_alive(as_):
    review = hostile_review()
    rita, here = as_("rita"), f"/reviews/{review.pk}/"
    pages = {
        "inbox": rita.get("/"),
        "review": rita.get(here),
        "state": rita.get(f"{here}?part=state", headers=HTMX),
        "history": rita.get(f"{here}?part=history", headers=HTMX),
        "diff": rita.post(f"{here}redline", form_of(review, HOSTILE * 2), headers=HTMX),
        "refused": rita.post(f"{here}decide", form_of(review, HOSTILE * 2, digest="")),
        "conflict": rita.post(f"{here}decide", form_of(review, HOSTILE * 2, checkpoint=HOSTILE)),
    }
    assert rita.post(f"{here}decide", form_of(review, HOSTILE * 2)).status_code == 302
    entry = AuditEntry.objects.get(action="decided")
    pages |= {
        "decided": rita.get(here),
        "audit": as_("ada").get("/audit/"),
        "entry": as_("ada").get(f"/audit/{entry.pk}/"),
    }
    assert pages["conflict"].status_code == 409
    assert pages["refused"].status_code == 422
    for name, page in pages.items():
        assert alive(page) == [], name
        assert page.status_code < 500, name
        if name != "diff":
            assertContains(page, "&lt;script&gt;", status_code=page.status_code)


def test_hostile_text_is_shown_rather_than_lost(as_):
    said = words(as_("rita").get(f"/reviews/{hostile_review().pk}/"))
    assert "<script>alert(1)</script>" in said
    assert "<img src=x onerror=alert(2)>" in said


def test_the_policy_lets_no_inline_script_run_but_by_its_nonce(as_):
    page = as_("rita").get(f"/reviews/{waiting().pk}/")
    policy = page["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']{16,})'(;|$)", policy)
    assert nonce, policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script[^>]*>", page.content.decode())
    assert scripts
    assert all(f'nonce="{nonce[1]}"' in script for script in scripts)


# Who may see it


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["", "decide", "redline"])
def test_another_queues_review_is_not_there(as_, method, path):
    review = waiting()
    expected = 405 if method == "post" and not path else 404
    answer = getattr(as_("stan"), method)(f"/reviews/{review.pk}/{path}", form_of(review))
    assert answer.status_code == expected
    assertNotContains(answer, "Missed payment", status_code=expected)


@pytest.mark.parametrize("path", ["", "?part=state", "?part=history"])
def test_no_part_of_another_queues_review_is_there_either(as_, path):
    review = waiting()
    answer = as_("stan").get(f"/reviews/{review.pk}/{path}", headers=HTMX)
    assert answer.status_code == 404


def test_a_strangers_attempt_to_decide_is_in_the_audit_trail(as_):
    review = waiting()
    assert as_("stan").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 404
    entry = AuditEntry.objects.get(action="refused")
    assert (entry.actor.username, entry.review_id) == ("stan", review.pk)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("pk", [0, 999_999_999, 10**30])
def test_a_review_that_never_was_is_not_found(as_, pk):
    rita = as_("rita")
    assert rita.get(f"/reviews/{pk}/").status_code == 404
    assert rita.post(f"/reviews/{pk}/decide", {}).status_code == 404


def test_an_auditor_reads_and_cannot_decide(as_):
    review = waiting()
    ada = as_("ada")
    page = ada.get(f"/reviews/{review.pk}/")
    assert MESSAGE in words(page)
    assertNotContains(page, 'id="approve"')
    assertNotContains(page, 'id="reply"')
    assertContains(page, "You may look at this case, not decide it.")
    answer = ada.post(f"/reviews/{review.pk}/decide", form_of(review))
    assert answer.status_code == 403
    assert not Decision.objects.exists()
    entry = AuditEntry.objects.get(action="refused")
    assert (entry.actor.username, entry.review_id) == ("ada", review.pk)


def test_an_admin_who_is_in_no_group_reads_and_cannot_decide(as_):
    review = waiting()
    assertNotContains(as_("mara").get(f"/reviews/{review.pk}/"), 'id="approve"')
    assert as_("mara").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 403
    assert not Decision.objects.exists()


def test_opening_a_review_is_recorded_and_refreshing_it_is_not(as_):
    review = waiting()
    rita = as_("rita")
    rita.get(f"/reviews/{review.pk}/")
    opened = AuditEntry.objects.filter(action="opened")
    entry = opened.get()
    assert (entry.actor.username, entry.review_id) == ("rita", review.pk)
    assert (entry.thread_id, entry.checkpoint_before) == (review.thread_id, review.checkpoint_id)
    rita.get(f"/reviews/{review.pk}/?part=state", headers=HTMX)
    rita.get(f"/reviews/{review.pk}/?part=history", headers=HTMX)
    assert opened.count() == 1
    as_("tom").get(f"/reviews/{review.pk}/")
    assert opened.count() == 2


def test_a_review_of_an_unknown_graph_can_be_looked_at_by_an_admin(as_):
    review = waiting("scripted")
    Review.objects.filter(pk=review.pk).update(graph="")
    page = as_("mara").get(f"/reviews/{review.pk}/")
    assertContains(page, "No graph of this name is registered")
    assertNotContains(page, 'id="approve"')
    assert as_("rita").get(f"/reviews/{review.pk}/").status_code == 404
