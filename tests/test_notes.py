"""Notes: words among colleagues, whom they name, and that nobody else reads them."""

import pytest

from approvals.models import AuditEntry, Mention, Note, Review
from tests.conftest import direct, effects, form_of, resume, waiting
from tests.queries import counted_queries, listed
from tests.test_claims import does

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def note(client, review: Review, text: str, **more):
    return client.post(f"/reviews/{review.pk}/notes", {"note": text}, **more)


def test_a_note_is_shown_escaped_audited_and_links_are_left_alone(as_):
    review, rita = waiting(), as_("rita")
    text = '<script>alert(1)</script> https://evil.example "quoted"\r\nand more'
    assert note(rita, review, text).status_code == 302
    page = as_("tom").get(f"/reviews/{review.pk}/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; https://evil.example" in page
    assert 'href="https://evil' not in page
    entry = AuditEntry.objects.get(action="noted")
    assert entry.after == {"note": text.replace("\r\n", "\n"), "mentioned": []}


def test_who_is_named_and_can_see_the_case_finds_it_until_they_have_looked(as_):
    review, tom = waiting(), as_("tom")
    note(as_("rita"), review, "Ask @Tom, @ada. @stan @nobody tom@example.com @rita")
    named = Mention.objects.values_list("user__username", flat=True)
    assert sorted(named) == ["ada", "tom"]
    assert 'Mentions <span class="n">1</span>' in tom.get("/").content.decode()
    listed_page = tom.get("/mentions").content.decode()
    assert f"/reviews/{review.pk}/#notes" in listed_page
    tom.get(f"/reviews/{review.pk}/")  # a GET changes nothing
    assert Mention.objects.filter(seen_at=None).count() == 2
    tab = {"tab": "00000000-0000-0000-0000-000000000001", "doing": "reading"}
    does(tom, "here", review, **tab, active=0)  # behind another tab
    does(tom, "here", review, **tab, active=900, looks=1)  # at lunch
    assert Mention.objects.filter(seen_at=None).count() == 2
    does(tom, "here", review, **tab, active=0, looks=1)
    assert list(Mention.objects.filter(seen_at=None).values_list("user__username", flat=True)) == [
        "ada"
    ]
    assert 'class="mentions"' not in tom.get("/").content.decode()
    as_("ada").post("/mentions")
    assert not Mention.objects.filter(seen_at=None).exists()


def test_the_count_equals_the_list_when_somebody_leaves_the_queue(as_, cast):
    review, tom = waiting(), as_("tom")
    note(as_("rita"), review, "@tom")
    cast.tom.groups.clear()
    assert 'class="mentions"' not in tom.get("/").content.decode()
    assert "Nobody has named you" in tom.get("/mentions").content.decode()


def test_typing_an_at_offers_those_who_may_see_the_case(as_):
    review = waiting()
    address = f"/reviews/{review.pk}/named?q="
    asked = {q: as_("rita").get(address + q).json()["people"] for q in ("", "to", "ACH", "st")}
    assert [one["username"] for one in asked[""]] == ["ada", "mara", "rita", "tom"]
    assert asked["to"] == asked["ACH"] == [{"username": "tom", "name": "Tom Achebe"}]
    assert asked["st"] == []
    assert as_("stan").get(address).status_code == 404


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" \n", "The note is empty."),
        ("x" * 4001, "The note has 4,001 characters; at most 4,000 are kept."),
        ("a\x00b", "NUL"),
    ],
    ids=["empty", "long", "NUL"],
)
def test_a_note_that_cannot_be_kept_is_refused_and_stays_in_its_field(as_, text, says):
    review = waiting()
    for headers in ({}, HTMX):
        answer = note(as_("rita"), review, text, headers=headers)
        assert answer.status_code == 422
        assert says in answer.content.decode()
        assert answer.context["note_text"] == text
    assert not Note.objects.exists()


def test_the_same_note_sent_again_is_one_note(as_):
    review, rita = waiting(), as_("rita")
    for _ in range(2):
        page = rita.post(f"/reviews/{review.pk}/notes", {"note": "Ask @tom."}, follow=True)
        assert "Ask @tom." in page.text
    as_("tom").post(f"/reviews/{review.pk}/notes", {"note": "Ask @tom."})
    assert [one.author.username for one in Note.objects.order_by("pk")] == ["rita", "tom"]
    assert Mention.objects.count() == 1


def test_a_stranger_and_a_get_leave_no_note(as_):
    review = waiting()
    assert note(as_("stan"), review, "Hello").status_code == 404
    as_("rita").get(f"/reviews/{review.pk}/notes?note=Hello")
    assert not Note.objects.exists()


def test_the_agent_is_given_none_of_it(as_, clean):
    review = waiting("scripted")
    note(as_("rita"), review, "Between us: sandpiper.")
    does(as_("rita"), "decide", review, **form_of(review))
    decision = review.decisions.get()
    resume(decision)
    assert len(effects(review.thread_id)) == 1
    kept = direct("SELECT count(*) FROM checkpoint_blobs WHERE blob::text LIKE %s", "%sandpiper%")
    asked = direct("SELECT count(*) FROM checkpoints WHERE checkpoint::text LIKE %s", "%sandpiper%")
    assert (kept, asked) == ([(0,)], [(0,)])


def test_the_page_takes_no_more_queries_with_a_hundred_notes(as_, cast):
    review, rita = waiting(), as_("rita")
    address = f"/reviews/{review.pk}/notes"
    note(rita, review, "@tom")
    with counted_queries() as few:
        rita.get(address, headers=HTMX)
    Note.objects.bulk_create(Note(review=review, author=cast.tom, text="x") for _ in range(100))
    with counted_queries() as many:
        rita.get(address, headers=HTMX)
    assert len(many) == len(few), listed(many)
