"""What cannot be used is refused with a reason; nothing is recorded, nothing typed is lost."""

import json
import re
import uuid
from collections.abc import Iterator
from html import unescape
from urllib.parse import urlencode

import pytest
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django.asserts import assertContains

from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from tests.conftest import PASSWORD, form_of, waiting
from tests.postgres import ROOT

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"
TYPED = "Dear Maeve, I typed this for ten minutes."


def assert_nothing_recorded(review: Review) -> None:
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING
    assert not Decision.objects.exists()
    assert not ProcrastinateJob.objects.exists()
    assert not AuditEntry.objects.filter(action="decided").exists()


def decide(client: Client, review: Review, form: dict):
    return client.post(f"/reviews/{review.pk}/decide", form)


def texts(answer) -> list[str]:
    """What the page's text boxes hold, as a browser would send it back."""
    html = answer.content.decode()
    return [unescape(text) for text in re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.S)]


def typed_into(answer, name: str) -> str:
    """The value of the page's input of this name."""
    html = answer.content.decode()
    found = next(tag for tag in re.findall(r"<input[^>]*>", html) if f'name="{name}"' in tag)
    value = re.search(r'value="([^"]*)"', found)
    return unescape(value[1]) if value else ""


@pytest.fixture
def editable(settings, tmp_path) -> Iterator[None]:
    """The scripted graph with longer texts, and its `script`, an object, editable as well."""
    told = (ROOT / "tests" / "reviews.toml").read_text()
    told = told.replace('"amount"]', '"amount", "script"]').replace("= 500", "= 200000")
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.REVIEWS_TOML.write_text(told)
    registry.cache_clear()
    yield
    registry.cache_clear()


# The reply


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "This is empty"),
        (" \r\n\t ", "This is empty"),
        ("x" * 501, "This has 501 characters; at most 500 can be sent"),
        ("Dear\x00Maeve", "NUL character"),
        ("Dear \ufffd Maeve", "arrived broken"),
    ],
)
def test_a_reply_that_cannot_be_sent_says_why_and_is_kept(as_, text, reason):
    review = waiting("scripted")
    answer = decide(as_("rita"), review, form_of(review, text))
    assertContains(answer, reason, status_code=422)
    assertContains(answer, "Not recorded.", status_code=422)
    assert text.replace("\r\n", "\n") in texts(answer)
    assert_nothing_recorded(review)


def test_half_an_emoji_is_refused(as_):
    """A lone surrogate, as some browsers and programs send it: bytes that are not UTF-8."""
    review = waiting("scripted")
    form = urlencode(form_of(review, "Dear Maeve HALF")).replace("HALF", "%ED%A0%80")
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form, content_type=FORM)
    assertContains(answer, "arrived broken", status_code=422)
    assertContains(answer, "Dear Maeve", status_code=422)
    assert_nothing_recorded(review)


def test_a_whole_emoji_is_taken(as_):
    review = waiting("scripted")
    assert decide(as_("rita"), review, form_of(review, "Dear Maeve 👩‍👩‍👧")).status_code == 302
    assert Decision.objects.get().edits == {"agent_response": "Dear Maeve 👩‍👩‍👧"}


def test_the_longest_reply_that_may_be_sent_is_taken(as_):
    review = waiting("scripted")
    text = "line\n" * 100
    form = form_of(review, text.replace("\n", "\r\n"))
    assert decide(as_("rita"), review, form).status_code == 302
    assert Decision.objects.get().edits == {"agent_response": text}


def test_what_comes_back_with_a_browsers_newlines_counts_as_unchanged(as_):
    review = waiting("scripted")
    form = form_of(review, review.values["agent_response"].replace("\n", "\r\n"))
    assert decide(as_("rita"), review, form).status_code == 302
    decision = Decision.objects.get()
    assert (decision.action, decision.edits) == ("approve", {})


def test_a_form_that_leaves_the_reply_out_approves_it_unchanged(as_):
    review = waiting("scripted")
    form = form_of(review)
    del form["edit.agent_response"]
    assert decide(as_("rita"), review, form).status_code == 302
    assert Decision.objects.get().edits == {}


# Other fields


@pytest.mark.parametrize(
    "name", ["risk", "is_compliant", "agent_type", "", "a.b", "\x00", "x" * 200]
)
def test_a_field_that_may_not_be_edited_is_refused_by_name(as_, name):
    review = waiting("scripted")
    answer = decide(as_("rita"), review, form_of(review, TYPED, **{f"edit.{name}": "low"}))
    assertContains(answer, "may not be edited here", status_code=422)
    assert TYPED in texts(answer)
    assert_nothing_recorded(review)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ('"sixty"', "Write a whole number"),
        ("true", "Write a whole number"),
        ("null", "Write a whole number"),
        ("[60]", "Write a whole number"),
        ("61.5", "Write a whole number"),
        ("sixty", "Write a whole number"),
        ("{", "Write a whole number"),
        ("NaN", "Write a whole number"),
        ("-Infinity", "Write a whole number"),
        ("9" * 400, "too large"),
        (str(2**70), "too large"),
        (str(-(2**70)), "too large"),
        ("1e400", "Write a whole number"),
        ("-1e400", "Write a whole number"),
        ("", "Fill this in"),
    ],
)
def test_a_number_stays_a_number_that_can_be_stored(as_, typed, reason):
    review = waiting("scripted")
    answer = decide(as_("rita"), review, form_of(review, TYPED, **{"edit.amount": typed}))
    assertContains(answer, reason, status_code=422)
    assert TYPED in texts(answer)
    assert typed_into(answer, "edit.amount") == typed
    assert_nothing_recorded(review)


@pytest.mark.parametrize(("typed", "stored"), [("75", 75), (" 75 ", 75), ("-0", 0)])
def test_a_number_that_was_edited_is_one(as_, typed, stored):
    review = waiting("scripted")
    decide(as_("rita"), review, form_of(review, **{"edit.amount": typed}))
    assert Decision.objects.get().edits == {"amount": stored}


@pytest.mark.usefixtures("editable")
@pytest.mark.parametrize(
    "typed",
    [
        "[1]",
        "{",
        '{"a": NaN}',
        '{"a": 1e400}',
        '{"a": [-1e400]}',
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        json.dumps({"a": 2**70}),
        json.dumps({"a": {"b": [-(2**64)]}}),
        '{"a": ' + "[" * 90_000 + "]" * 90_000 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_an_object_that_cannot_be_stored_is_refused(as_, typed):
    review = waiting("scripted", script={"rounds": 1})
    form = form_of(review, TYPED, **{"edit.script.~other": typed})
    answer = decide(as_("rita"), review, form)
    assert answer.status_code == 422, answer.content.decode()[:600]
    assert {TYPED, typed} <= set(texts(answer))
    assert_nothing_recorded(review)


@pytest.mark.usefixtures("editable")
def test_an_object_that_was_edited_is_one(as_):
    review = waiting("scripted", script={"rounds": 1})
    edits = {"edit.script.rounds": "2", "edit.script.~other": '{"note": "Größe"}'}
    assert decide(as_("rita"), review, form_of(review, **edits)).status_code == 302
    assert Decision.objects.get().edits == {"script": {"rounds": 2, "note": "Größe"}}


@pytest.mark.usefixtures("editable")
@pytest.mark.parametrize("name", ["script", "script.nope", "amount.of", "agent_response.x"])
def test_an_edit_that_has_no_box_on_the_page_is_refused_and_not_left_out(as_, name):
    review = waiting("scripted", script={"rounds": 1})
    form = form_of(review, TYPED, **{f"edit.{name}": '{"rounds": 2}'})
    assert decide(as_("rita"), review, form).status_code == 422
    assert_nothing_recorded(review)


# The form itself


@pytest.mark.parametrize(
    "field",
    [
        {"digest": ""},
        {"digest": "\x00"},
        {"key": ""},
        {"key": "not-a-key"},
        {"key": "\x00"},
        {"key": "1" * 9999},
    ],
)
def test_a_form_without_its_hidden_fields_is_refused(as_, field):
    review = waiting("scripted")
    answer = decide(as_("rita"), review, form_of(review, TYPED, **field))
    assertContains(answer, "The form is incomplete. Open the review again.", status_code=422)
    assert TYPED in texts(answer)
    assert_nothing_recorded(review)


@pytest.mark.parametrize("field", ["digest", "checkpoint"])
@pytest.mark.parametrize("value", ["0" * 64, "x" * 100_000])
def test_a_form_of_another_state_is_refused(as_, field, value):
    review = waiting("scripted")
    answer = decide(as_("rita"), review, form_of(review, TYPED, **{field: value}))
    assert answer.status_code == 409
    assert TYPED in texts(answer)
    assert_nothing_recorded(review)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("{}", "application/json"),
        (b"\xff\xfe\x00", "text/plain"),
        ("", FORM),
        ("a=1", "multipart/form-data; boundary=x"),
        ("a=1", "multipart/form-data"),
        ("a=1", FORM + "; charset=utf-16"),
        ("key=7e57d004-2b97-4e7a-b45f-5387367791cd&digest=%00%ff%fe", FORM),
    ],
)
def test_a_body_of_another_kind_is_refused(as_, body, content_type):
    review = waiting("scripted")
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", body, content_type=content_type)
    assert answer.status_code in {400, 422}
    assert "Open the review again" in answer.content.decode() or answer.status_code == 400
    assert_nothing_recorded(review)


def test_a_body_that_is_too_large_is_refused(as_):
    review = waiting("scripted")
    body = urlencode(form_of(review, "x" * 5_000_000))
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", body, content_type=FORM)
    assertContains(answer, "This request cannot be read", status_code=400)
    assert_nothing_recorded(review)


def test_a_form_made_before_the_last_sign_in_is_refused_with_its_text(cast):
    review = waiting("scripted")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.rita)
    strict.get(f"/reviews/{review.pk}/")
    form = form_of(review, TYPED, csrfmiddlewaretoken="x" * 64)
    answer = strict.post(f"/reviews/{review.pk}/decide", form)
    assertContains(answer, "This form is out of date", status_code=403)
    assert TYPED in texts(answer)
    assert_nothing_recorded(review)


def test_a_text_sent_after_the_session_ended_is_kept(cast):
    review, rita = waiting("scripted"), Client()
    answer = rita.post(f"/reviews/{review.pk}/decide", form_of(review, TYPED))
    assertContains(answer, "You are signed out", status_code=401)
    assert TYPED in texts(answer)
    assert_nothing_recorded(review)


def test_a_sign_in_that_a_form_led_to_leads_back_to_the_review(cast):
    review, rita = waiting("scripted"), Client()
    answer = rita.post(f"/decisions/{uuid.uuid4()}/undo")
    assert answer["Location"].startswith("/sign-in?next=/decisions/")
    given = {"username": "rita", "password": PASSWORD}
    after = rita.post(f"/sign-in?next=/reviews/{review.pk}/decide", given, follow=True)
    assertContains(after, review.title)
    assert_nothing_recorded(review)


@pytest.mark.parametrize("path", ["undo", "retry"])
def test_a_decision_that_never_was_is_not_found(as_, path):
    assert as_("rita").post(f"/decisions/{uuid.uuid4()}/{path}").status_code == 404
    assert as_("rita").post(f"/decisions/not-an-id/{path}").status_code == 404


@pytest.mark.parametrize("text", ["\x00", "\ufffd", "x" * 600, "", "<b>"])
def test_the_live_diff_takes_whatever_is_being_typed(as_, text):
    review = waiting("scripted")
    form = form_of(review, text)
    here = f"/reviews/{review.pk}/redline"
    assert as_("rita").post(here, form, headers={"HX-Request": "true"}).status_code == 200
    assert as_("rita").post(here, form).status_code == 200
    assert_nothing_recorded(review)
