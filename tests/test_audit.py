"""The audit trail: who did what, from where, to which state; added to, and never changed."""

import datetime as dt
import re
import uuid
from html import unescape
from urllib.parse import urlencode

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django.asserts import assertContains, assertNotContains

from approvals import audit
from approvals.audit import Actor
from approvals.models import AuditEntry, Decision, Review
from tests.conftest import PASSWORD, form_of, resume, waiting
from tests.queries import counted_queries, listed

pytestmark = pytest.mark.django_db
MOST_QUERIES = 8
WRONG = "a wrong password, by chance another site's"
YES = "Dear Maeve, yes."


def only(action: str) -> AuditEntry:
    return AuditEntry.objects.get(action=action)


def decide(client, review, text=None):
    return client.post(f"/reviews/{review.pk}/decide", form_of(review, text))


def shown(answer) -> list[int]:
    """Ids of the entries that a page lists."""
    assert answer.status_code == 200, answer.content.decode()[:2000]
    found = re.findall(r'<a class="hit" href="/audit/(\d+)/', answer.content.decode())
    return [int(pk) for pk in found]


def search(client, line: str, **more):
    return client.get(f"/audit/?{urlencode({'q': line, **more})}")


def words(answer) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def entries(number: int, **fields) -> list[int]:
    """Entries of nobody's; their ids, newest first."""
    made = [audit.record(Actor(name="robot"), "opened", **fields).pk for _ in range(number)]
    return made[::-1]


# What is recorded


def test_signing_in_is_recorded_with_name_and_address(cast):
    client = Client(REMOTE_ADDR="203.0.113.7")
    client.post("/sign-in", {"username": "rita", "password": PASSWORD})
    entry = only("signed_in")
    assert (entry.actor, entry.actor_name, entry.address) == (
        cast.rita,
        "Rita Osei",
        "203.0.113.7",
    )
    assert abs(timezone.now() - entry.at) < dt.timedelta(minutes=1)


def test_a_failed_sign_in_is_recorded_and_never_its_password(cast):
    client = Client(REMOTE_ADDR="2001:db8::7")
    client.post("/sign-in", {"username": "rita", "password": WRONG})
    entry = only("sign_in_failed")
    assert (entry.actor, entry.actor_name, entry.address) == (None, "rita", "2001:db8::7")
    row = AuditEntry.objects.filter(pk=entry.pk).values().get()
    assert not any(WRONG in str(value) for value in row.values())


@pytest.mark.parametrize("name", ["nobody", "x" * 10_000, "rita\x00", "😀", "<script>"])
def test_a_failed_sign_in_under_any_name_breaks_nothing(cast, name):
    answer = Client().post("/sign-in", {"username": name, "password": WRONG})
    assert answer.status_code == 200
    assertNotContains(answer, "<script>alert")
    assert not AuditEntry.objects.filter(action="signed_in").exists()


def test_signing_out_is_recorded(cast, as_):
    as_("rita").post("/sign-out")
    assert only("signed_out").actor == cast.rita


def test_opening_a_review_is_recorded(cast, as_):
    review = waiting()
    as_("rita").get(f"/reviews/{review.pk}/")
    entry = only("opened")
    assert (entry.actor, entry.review, entry.thread_id, entry.checkpoint_before) == (
        cast.rita,
        review,
        review.thread_id,
        review.checkpoint_id,
    )


def test_a_decision_is_recorded_with_before_and_after(cast, as_):
    review = waiting()
    decide(as_("rita"), review, YES)
    entry, decision = only("decided"), Decision.objects.get()
    assert (entry.actor, entry.actor_name, entry.address) == (cast.rita, "Rita Osei", "127.0.0.1")
    assert (entry.review, entry.decision, entry.thread_id) == (review, decision, review.thread_id)
    assert entry.checkpoint_before == review.checkpoint_id
    assert entry.before == {"agent_response": review.values["agent_response"]}
    assert entry.after == {"agent_response": YES}
    assert entry.note == "edit"


def test_an_approval_is_recorded_with_what_was_approved(as_):
    review = waiting()
    decide(as_("rita"), review)
    entry = only("decided")
    assert entry.before == entry.after == {"agent_response": review.values["agent_response"]}
    assert entry.note == "approve"


def test_taking_a_decision_back_is_recorded(cast, as_):
    review = waiting()
    decide(as_("rita"), review)
    decision = Decision.objects.get()
    as_("rita").post(f"/decisions/{decision.pk}/undo")
    entry = only("undone")
    assert (entry.actor, entry.decision, entry.review) == (cast.rita, decision, review)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("script", "outcome"),
    [({}, "finished"), ({"rounds": 2}, "paused_again"), ({"fail": "closed"}, "failed")],
)
def test_what_the_worker_did_is_recorded_with_the_checkpoints(as_, script, outcome):
    review = waiting("scripted", script=script)
    decide(as_("rita"), review, YES)
    decision = Decision.objects.get()
    resume(decision)
    decision.refresh_from_db()
    applied, ended = only("applied"), only(outcome)
    assert (applied.actor, applied.actor_name) == (None, "worker")
    assert applied.checkpoint_before == review.checkpoint_id
    assert applied.checkpoint_after == ended.checkpoint_before == decision.checkpoint_applied
    assert ended.checkpoint_after == decision.checkpoint_after != ""
    assert ended.decision == applied.decision == decision
    assert ended.thread_id == review.thread_id


def test_a_refused_attempt_is_recorded_with_its_text(cast, as_):
    review = waiting()
    decide(as_("rita"), review)
    decide(as_("tom"), review, YES)
    entry = only("refused")
    assert (entry.actor, entry.review, entry.after) == (cast.tom, review, {"agent_response": YES})
    assert "Somebody else decided this review first" in entry.note


def test_an_entry_keeps_the_name_that_its_actor_had_then(cast, as_):
    review = waiting()
    decide(as_("rita"), review)
    cast.rita.last_name = "Married"
    cast.rita.save()
    assert only("decided").actor_name == "Rita Osei"


# It cannot be changed


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approvals_auditentry SET note = 'nothing happened'",
        "UPDATE approvals_auditentry SET at = now() WHERE id = (SELECT max(id) FROM "
        "approvals_auditentry)",
        "DELETE FROM approvals_auditentry",
        "TRUNCATE approvals_auditentry",
        "TRUNCATE approvals_auditentry CASCADE",
        "TRUNCATE approvals_review CASCADE",
    ],
)
def test_the_database_refuses_to_change_an_entry(db, statement):
    made = entries(2)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(statement)
    assert [entry.pk for entry in AuditEntry.objects.all()] == made


def test_the_models_own_ways_are_refused_too(db):
    (pk,) = entries(1)
    entry = AuditEntry.objects.get(pk=pk)
    for change in (entry.save, entry.delete, AuditEntry.objects.all().delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
    assert AuditEntry.objects.filter(pk=pk).exists()


REFUSE_DECIDED = """
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the disk of the audit trail is full'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON approvals_auditentry FOR EACH ROW
  WHEN (NEW.action = '{action}') EXECUTE FUNCTION pg_temp.refuse();
"""


def refuse(action: str) -> None:
    """Until this test's transaction ends, the trail takes no entry of this action."""
    with connection.cursor() as cursor:
        cursor.execute(REFUSE_DECIDED.replace("{action}", action))


def test_no_decision_without_its_entry(as_):
    review = waiting()
    refuse("decided")
    answer = decide(as_("rita"), review, YES)
    assertContains(answer, YES, status_code=answer.status_code)
    assert answer.status_code >= 500
    assert not Decision.objects.exists()
    assert not ProcrastinateJob.objects.exists()
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING


def test_no_undo_without_its_entry(as_):
    review = waiting()
    decide(as_("rita"), review)
    decision = Decision.objects.get()
    refuse("undone")
    assert as_("rita").post(f"/decisions/{decision.pk}/undo").status_code >= 500
    decision.refresh_from_db()
    review.refresh_from_db()
    assert (decision.state, review.status) == ("pending", "decided")
    assert ProcrastinateJob.objects.get().status == "todo"


def test_nobody_is_signed_in_without_the_entry(cast):
    refuse("signed_in")
    client = Client(raise_request_exception=False)
    answer = client.post("/sign-in", {"username": "rita", "password": PASSWORD})
    assert answer.status_code >= 500
    assert client.get("/").status_code == 302
    cast.rita.refresh_from_db()
    assert cast.rita.last_login is None


# Its page


def test_the_newest_entry_comes_first(as_):
    ada = as_("ada")
    made = entries(3)
    assert shown(ada.get("/audit/"))[:3] == made


def test_entries_say_what_happened_in_words(as_):
    review = waiting()
    decide(as_("rita"), review, YES)
    decide(as_("tom"), review)
    page = as_("ada").get("/audit/")
    assertContains(page, "Paused before human_approval")
    assertContains(page, "Rita Osei approved with an edit")
    assertContains(page, "Tom Achebe was refused")
    assertContains(page, review.title)


def story(as_) -> tuple[Review, Review, Decision]:
    """Rita edits one of two reviews; Tom's attempt at it is refused."""
    first, second = waiting(), waiting("scripted")
    decide(as_("rita"), first, YES)
    decide(as_("tom"), first)
    as_("tom").get(f"/reviews/{second.pk}/")
    return first, second, Decision.objects.get()


def test_filters_keep_what_they_name(as_):
    first, second, decision = story(as_)
    today = timezone.now().date()
    tomorrow, day = today + dt.timedelta(days=1), dt.timedelta(days=1)
    everything = list(AuditEntry.objects.all())
    cases = {
        "actor:rita": lambda e: e.actor_name == "Rita Osei",
        "actor:RITA": lambda e: e.actor_name == "Rita Osei",
        'actor:"Tom Achebe"': lambda e: e.actor_name == "Tom Achebe",
        "actor:capture": lambda e: e.actor_name == "capture",
        "action:decided": lambda e: e.action == "decided",
        f"thread:{first.thread_id}": lambda e: e.thread_id == first.thread_id,
        f"review:{second.pk}": lambda e: e.review_id == second.pk,
        f"decision:{decision.pk}": lambda e: e.decision_id == decision.pk,
        f"after:{today}": lambda e: True,
        f"after:{tomorrow}": lambda e: False,
        f"before:{today}": lambda e: False,
        f"before:{tomorrow} after:{today - day}": lambda e: True,
        "actor:tom action:refused": lambda e: (e.actor_name, e.action) == ("Tom Achebe", "refused"),
        "actor:tom action:decided": lambda e: False,
    }
    ada = as_("ada")
    for line, keeps in cases.items():
        found = shown(search(ada, line))
        expected = [entry.pk for entry in everything if keeps(entry)]
        assert [pk for pk in found if pk <= everything[0].pk] == expected, line


@pytest.mark.parametrize(
    "term",
    [
        "rita",
        "colour:red",
        "action:flew",
        "after:yesterday",
        "after:2026-13-45",
        "before:",
        "review:one",
        "review:" + "9" * 40,
        "decision:123",
        "actor:",
        ":",
        '"',
        "\x00",
        "actor:\x00",
        "thread:\x00",
        "😀",
        "after:0001-01-01",
        "before:9999-12-31",
        "'; DROP TABLE approvals_auditentry; --",
        "x" * 10_000,
    ],
    ids=lambda term: repr(term[:20]),
)
def test_no_filter_however_odd_breaks_the_page(as_, term):
    entries(1)
    assert search(as_("ada"), term).status_code == 200
    assert search(as_("ada"), "", older=term).status_code == 200


@pytest.mark.parametrize("term", ["rita", "colour:red", "action:flew", "after:yesterday"])
def test_a_term_that_is_not_understood_is_shown_as_such_and_hides_nothing(as_, term):
    made = entries(2)
    page = search(as_("ada"), f"{term} actor:robot")
    assert shown(page) == made
    said = words(page)
    assert f"{term.rpartition(':')[2]} not understood" in said
    assert said.count("not understood") == 1


def test_a_filter_is_shown_again_as_text(as_):
    page = search(as_("ada"), 'actor:"<script>alert(1)</script>"')
    assertNotContains(page, "<script>alert")
    assertContains(page, "&lt;script&gt;alert(1)")


def test_fifty_to_a_page_and_none_twice(as_):
    ada, made = as_("ada"), entries(120)
    found: list[int] = []
    address = "/audit/?q=actor:robot"
    sizes = []
    while address:
        page = ada.get(address)
        found += shown(page)
        sizes.append(len(shown(page)))
        link = re.search(r'rel="next" href="([^"]+)"', page.content.decode())
        address = unescape(link[1]) if link else ""
        entries(1)  # what comes in meanwhile moves nothing
    assert sizes == [50, 50, 20]
    assert found == made


def test_an_entry_shows_its_redline_and_its_evidence(as_):
    review = waiting("scripted", agent_response="We have noted your plan.")
    decide(as_("rita"), review, "We have changed your plan.")
    entry = only("decided")
    page = as_("ada").get(f"/audit/{entry.pk}/")
    assertContains(page, "<del>noted</del>")
    assertContains(page, "<ins>changed</ins>")
    said = words(page)
    for evidence in (
        "Rita Osei (rita)",
        "address 127.0.0.1",
        f"thread {review.thread_id}",
        f"checkpoint before {review.checkpoint_id}",
        f"decision {entry.decision_id}",
        f"{entry.pk} ",
    ):
        assert evidence in said


@pytest.mark.usefixtures("clean")
def test_an_applied_entry_names_both_checkpoints(as_):
    review = waiting("scripted")
    decide(as_("rita"), review, YES)
    resume(Decision.objects.get())
    entry = only("applied")
    said = words(as_("ada").get(f"/audit/{entry.pk}/"))
    assert f"checkpoint before {entry.checkpoint_before}" in said
    assert f"checkpoint after {entry.checkpoint_after}" in said


def test_an_entry_leads_to_all_entries_of_its_thread(as_):
    first, _, _ = story(as_)
    entry = only("decided")
    ada = as_("ada")
    page = ada.get(f"/audit/{entry.pk}/")
    link = re.search(r'href="([^"]+)">All entries of this thread', page.content.decode())[1]
    of_thread = AuditEntry.objects.filter(thread_id=first.thread_id)
    assert shown(ada.get(unescape(link))) == list(of_thread.values_list("pk", flat=True))
    story_told = words(page).partition("How it went")[2]
    for said in ("Paused before human_approval", "approved with an edit", "Tom Achebe was refused"):
        assert said in story_told


def test_a_thread_whose_id_is_odd_can_be_followed_too(as_):
    review = waiting("scripted", thread_id="odd thread & co #1+2%41")
    paused, ada = only("paused").pk, as_("ada")
    pages = [ada.get(f"/audit/{paused}/"), ada.get(f"/reviews/{review.pk}/")]
    opened = only("opened").pk
    for page in pages:
        link = re.search(r'href="([^"]+)">A[^<]*entries of this thread', page.content.decode())[1]
        assert shown(ada.get(unescape(link))) == [opened, paused]


# Who may read it


@pytest.mark.parametrize("name", ["rita", "stan"])
def test_who_is_no_auditor_finds_no_audit(as_, name):
    (pk,) = entries(1)
    client = as_(name)
    for address in ("/audit/", f"/audit/{pk}/", "/audit/?q=action:opened"):
        answer = client.get(address)
        assert answer.status_code == 404
        assertNotContains(answer, "robot", status_code=404)
    assertNotContains(client.get("/"), 'href="/audit/"')


@pytest.mark.parametrize("name", ["ada", "mara"])
def test_auditors_and_admins_read_it(as_, name):
    (pk,) = entries(1)
    assert pk in shown(as_(name).get("/audit/"))
    assertContains(as_(name).get("/"), 'href="/audit/"')


@pytest.mark.parametrize("pk", [0, 999_999_999, 10**30])
def test_an_entry_that_never_was_is_not_found(as_, pk):
    assert as_("ada").get(f"/audit/{pk}/").status_code == 404


# Queries


def test_the_audit_takes_eight_queries_at_most_however_long_it_is(as_):
    review = waiting()
    decide(as_("rita"), review, YES)
    pk, ada = only("decided").pk, as_("ada")
    for address in ("/audit/", f"/audit/{pk}/", f"/audit/?q=thread:{review.thread_id}"):
        with counted_queries() as with_few:
            assert ada.get(address).status_code == 200
        entries(60, review=review, note=str(uuid.uuid4()))
        with counted_queries() as with_many:
            assert ada.get(address).status_code == 200
        assert len(with_few) == len(with_many) <= MOST_QUERIES, listed(with_many)
