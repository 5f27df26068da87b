"""A question's page: its calls are decided one by one, and nothing that is written is lost."""

import re
from html import unescape
from typing import Any

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import resume, waiting
from tests.posting import Sent, send
from tests.queries import counted_queries, listed
from tests.test_review_page import HOSTILE, MOST_QUERIES, alive, words

pytestmark = pytest.mark.django_db
EVERY = ["approve", "edit", "reject", "respond"]
REFUND: dict[str, Any] = {
    "name": "issue_refund",
    "args": {"order_id": "FH-10412", "amount": 33.45},
    "description": "Pays £33.45 back.",
}
CLOSE: dict[str, Any] = {"name": "cancel_account", "args": {"customer_id": "C-2291"}}
FIELDS = {
    "type": "object",
    "properties": {
        "days": {"type": "integer", "minimum": 1},
        "share": {"type": "number"},
        "insured": {"type": "boolean"},
        "carrier": {"enum": ["post", "courier"]},
        "remark": {"type": "string"},
    },
    "required": ["days", "insured", "carrier"],
}
GOOD = {
    "answer.days": "3",
    "answer.share": "0.5",
    "answer.insured": "true",
    "answer.carrier": "courier",
    "answer.remark": "By noon, please.",
}


def batch(*calls: dict[str, Any], allowed: Any = EVERY) -> dict[str, Any]:
    """What LangChain's middleware asks of these calls."""
    names = dict.fromkeys(call["name"] for call in calls)
    configs = [{"action_name": name, "allowed_decisions": allowed} for name in names]
    return {"action_requests": list(calls), "review_configs": configs}


def asked(question: Any = None, schema: Any = None, **state: Any) -> Review:
    """A run that asks this, by default about two calls."""
    question = batch(REFUND, CLOSE) if question is None else question
    return waiting("asking", question=question, schema=schema, **state)


def page_of(client: Any, review: Review) -> Any:
    return client.get(f"/reviews/{review.pk}/")


def answers(review: Review) -> list[Any]:
    """What `interrupt()` returned to the node."""
    config: Any = {"configurable": {"thread_id": review.thread_id}}
    return list(joined(registry().graphs["asking"]).get_state(config).values["answers"])


def answered(client: Any, review: Review, given: dict[str, str]) -> list[Any]:
    """Sends the page's own form and lets the run go on."""
    sent = send(client, page_of(client, review), given)
    assert sent.status_code == 302, words(sent)
    resume(Decision.objects.get())
    return answers(review)


def at_call(page: Any, number: int) -> str:
    """What is said of one call, as it is read."""
    parts = re.findall(r'<section class="call".*?</section>', page.content.decode(), re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", parts[number])).split())


def read_only(page: Any) -> list[str]:
    found = r"<textarea[^>]* readonly[^>]*>\n(.*?)</textarea>"
    return [unescape(text) for text in re.findall(found, page.content.decode(), re.S)]


@pytest.fixture
def no_window(settings: Any, tmp_path: Any) -> Any:
    text = settings.REVIEWS_TOML.read_text()
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    settings.REVIEWS_TOML.write_text(text.replace("undo_window = 8", "undo_window = 0"))
    registry.cache_clear()
    yield
    registry.cache_clear()


# Calls, one by one


def test_every_call_is_there_with_its_arguments_and_what_may_be_said_of_it(as_):
    calls = batch(REFUND, CLOSE)
    calls["review_configs"][1]["allowed_decisions"] = ["reject", "approve"]
    page = page_of(as_("rita"), asked(calls))
    form = Sent(page)
    assert form.options["call.0.action"] == EVERY
    assert form.options["call.1.action"] == ["approve", "reject"]
    assert "call.1.args.customer_id" not in form.fields
    assert {"call.0.action", "call.1.action"} <= form.required
    for word in ("FH-10412", "33.45", "Pays £33.45 back.", "2 calls to decide"):
        assert word in words(page)
    assert "cancel_account" in at_call(page, 1)
    assert "C-2291" in at_call(page, 1)


@pytest.mark.usefixtures("clean", "no_window")
def test_a_batch_with_an_edit_and_a_rejection_goes_back_in_its_order(as_):
    review = asked()
    given = {
        "call.0.action": "edit",
        "call.0.args.amount": "20.00",
        "call.1.action": "reject",
        "call.1.reject": "The customer did not ask for it.",
    }
    edited = {"name": "issue_refund", "args": {"order_id": "FH-10412", "amount": 20.0}}
    assert answered(as_("rita"), review, given) == [
        {
            "decisions": [
                {"type": "edit", "edited_action": edited},
                {"type": "reject", "message": "The customer did not ask for it."},
            ]
        }
    ]
    decision = Decision.objects.get()
    assert (decision.action, decision.state) == ("mixed", "finished")
    page = page_of(as_("rita"), review)
    assert re.search(r"Edited amount 33.45 20(\.0+)?$", at_call(page, 0))
    assert "Rejected : The customer did not ask for it." in at_call(page, 1)


@pytest.mark.usefixtures("clean", "no_window")
def test_an_approval_and_an_answer_in_the_tools_place(as_):
    given = {"call.0.action": "approve", "call.1.action": "respond", "call.1.respond": "Done."}
    assert answered(as_("rita"), asked(), given) == [
        {"decisions": [{"type": "approve"}, {"type": "respond", "message": "Done."}]}
    ]


def test_nothing_chosen_is_said_at_the_call_and_all_that_was_typed_stays(as_):
    review = asked()
    given = {"call.0.action": "edit", "call.0.args.amount": "21.5", "call.1.reject": "No, because."}
    page = send(as_("rita"), page_of(as_("rita"), review), given)
    assert page.status_code == 422
    assert "Choose what to do with this call." in at_call(page, 1)
    assert "Choose what to do with this call." not in at_call(page, 0)
    form = Sent(page)
    assert {name: form.fields[name] for name in given} == given
    assert not Decision.objects.exists()
    assert send(as_("rita"), page, {"call.1.action": "reject"}).status_code == 302


def test_changed_arguments_under_approve_are_not_lost_in_silence(as_):
    review = asked()
    given = {
        "call.0.action": "approve",
        "call.0.args.amount": "21.5",
        "call.1.action": "approve",
    }
    page = send(as_("rita"), page_of(as_("rita"), review), given)
    assert page.status_code == 422
    assert "Choose Edit to send them" in at_call(page, 0)
    assert Sent(page).fields["call.0.args.amount"] == "21.5"
    assert not Decision.objects.exists()
    assert send(as_("rita"), page, {"call.0.action": "edit"}).status_code == 302


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"call.1.action": "reject"}, "Say why “cancel_account” is rejected"),
        ({"call.1.action": "reject", "call.1.reject": " \n "}, "Say why “cancel_account”"),
        ({"call.1.action": "respond"}, "The response to “cancel_account” is empty"),
        ({"call.1.action": "reject", "call.1.reject": "a\x00b"}, "cannot be stored"),
    ],
)
def test_a_missing_reason_is_asked_for_at_its_call(as_, given, said):
    review = asked()
    page = send(as_("rita"), page_of(as_("rita"), review), {"call.0.action": "approve", **given})
    assert page.status_code == 422
    assert said in at_call(page, 1)
    assert Sent(page).fields["call.0.action"] == "approve"
    assert not Decision.objects.exists()


def test_an_edit_that_is_no_number_is_refused_at_its_call_and_kept(as_):
    review = asked()
    given = {
        "call.0.action": "edit",
        "call.0.args.amount": "twenty",
        "call.1.action": "approve",
    }
    page = send(as_("rita"), page_of(as_("rita"), review), given)
    assert page.status_code == 422
    assert "number" in at_call(page, 0)
    assert Sent(page).fields["call.0.args.amount"] == "twenty"


@pytest.mark.parametrize(
    ("name", "value"),
    [("call.1.action", "edit"), ("call.0.action", "delete"), ("call.0.name", "wire_money")],
)
def test_what_the_question_does_not_allow_is_refused(as_, name, value):
    review = asked(batch(REFUND, CLOSE, allowed=["approve", "reject"]))
    form = Sent(page_of(as_("rita"), review))
    sent = {**form.fields, "call.0.action": "approve", "call.1.action": "approve", name: value}
    page = as_("rita").post(form.action, sent)
    if name.endswith("name"):  # an approval carries no tool: what was sent beside it is nothing
        assert page.status_code == 302
        assert Decision.objects.get().answer == {"decisions": [{"type": "approve"}] * 2}
        return
    assert page.status_code == 422
    assert not Decision.objects.exists()


def test_a_question_of_which_nothing_may_be_said_has_no_way_through(as_):
    review = asked(batch(REFUND, allowed=["consult"]))
    page = page_of(as_("rita"), review)
    assert "cannot be answered" in words(page)
    assert as_("rita").post(f"/reviews/{review.pk}/decide", Sent(page).fields).status_code == 422


def test_one_form_sent_twice_is_one_decision(as_):
    rita, review = as_("rita"), asked()
    page = page_of(rita, review)
    given = {"call.0.action": "approve", "call.1.action": "approve"}
    assert [send(rita, page, given).status_code for _ in range(2)] == [302, 302]
    assert Decision.objects.count() == 1


# One value


@pytest.mark.usefixtures("clean", "no_window")
def test_any_json_answers_a_question_without_a_schema(as_):
    review = asked("Which warehouse?")
    page = page_of(as_("rita"), review)
    assertContains(page, "Which warehouse?")
    assert answered(as_("rita"), review, {"answer": '{"go": [1, 2.50, null, true]}'}) == [
        {"go": [1, 2.50, None, True]}
    ]


@pytest.mark.parametrize("raw", ["yes", "{", "", "NaN", '"\\ud800"', "[" * 5000])
def test_an_answer_that_is_no_json_is_refused_and_kept(as_, raw):
    review = asked("Which warehouse?")
    page = send(as_("rita"), page_of(as_("rita"), review), {"answer": raw})
    assert page.status_code == 422
    assertContains(page, "Not recorded.", status_code=422)
    assert Sent(page).fields["answer"] == raw
    assert not Decision.objects.exists()


@pytest.mark.usefixtures("clean", "no_window")
def test_a_schemas_answer_comes_back_in_its_types(as_):
    review = asked({"question": "How is it sent?"}, FIELDS)
    page = page_of(as_("rita"), review)
    assertContains(page, "How is it sent?")
    assert "answer" not in Sent(page).fields
    found = answered(as_("rita"), review, GOOD)
    assert found == [
        {
            "days": 3,
            "share": 0.5,
            "insured": True,
            "carrier": "courier",
            "remark": "By noon, please.",
        }
    ]
    assert [type(found[0][key]) for key in ("days", "share", "insured")] == [int, float, bool]


@pytest.mark.parametrize(
    ("name", "value"),
    [("answer.days", "soon"), ("answer.days", "0"), ("answer.share", "half")],
)
def test_a_schemas_wrong_answer_is_refused_at_its_field_and_kept(as_, name, value):
    review = asked({"question": "How is it sent?"}, FIELDS)
    page = send(as_("rita"), page_of(as_("rita"), review), {**GOOD, name: value})
    assert page.status_code == 422
    assert {key: Sent(page).fields[key] for key in GOOD} == {**GOOD, name: value}
    assert 'aria-invalid="true"' in page.content.decode()
    assert not Decision.objects.exists()


def test_what_a_schema_requires_is_asked_for_by_name(as_):
    review = asked({"question": "How is it sent?"}, FIELDS)
    page = send(as_("rita"), page_of(as_("rita"), review), {**GOOD, "answer.days": ""})
    assertContains(page, "“days” is missing.", status_code=422)
    assert Sent(page).fields["answer.remark"] == GOOD["answer.remark"]


# Somebody was first, or took it back


@pytest.mark.parametrize(
    ("question", "schema", "given"),
    [
        (
            None,
            None,
            {
                "call.0.action": "edit",
                "call.0.args.amount": "12.34",
                "call.1.action": "reject",
                "call.1.reject": "This is the reason of Tom.",
            },
        ),
        ("Which warehouse?", None, {"answer": '"the one of Tom"'}),
        ({"question": "How is it sent?"}, FIELDS, {**GOOD, "answer.remark": "As Tom would."}),
    ],
)
def test_the_second_of_two_keeps_what_they_wrote(as_, question, schema, given):
    review = asked(question, schema)
    page = page_of(as_("tom"), review)
    first = {**given, "call.1.reject": "Rita's."} if question is None else given
    assert send(as_("rita"), page_of(as_("rita"), review), first).status_code == 302
    told = send(as_("tom"), page, given)
    assertContains(told, "Decided by Rita Osei", status_code=409)
    typed = {v for k, v in given.items() if k.endswith(("reject", "amount", "answer", "remark"))}
    assert typed <= set(read_only(told))
    assert Decision.objects.get().actor.username == "rita"
    assert AuditEntry.objects.get(action="refused").actor.username == "tom"


def test_the_page_after_a_conflict_offers_to_copy_only_what_is_there(as_):
    review = asked()
    form = {"call.0.action": "approve", "call.1.action": "approve"}
    page = page_of(as_("tom"), review)
    send(as_("rita"), page_of(as_("rita"), review), form)
    told = send(as_("tom"), page, form).content.decode()
    for target in re.findall(r'data-copy="#([^"]+)"', told):
        assert f'id="{target}"' in told


def test_undo_brings_back_what_was_chosen_and_typed(as_):
    review = asked()
    given = {
        "call.0.action": "edit",
        "call.0.args.amount": "12.34",
        "call.1.action": "reject",
        "call.1.reject": "Not without a word of hers.",
    }
    rita = as_("rita")
    send(rita, page_of(rita, review), given)
    assert rita.post(f"/decisions/{Decision.objects.get().pk}/undo").status_code == 302
    form = Sent(page_of(rita, review))
    assert {name: form.fields[name] for name in given} == given
    assert send(rita, page_of(rita, review)).status_code == 302


def test_what_was_taken_back_is_not_put_before_anybody_else(as_):
    review, rita = asked(), as_("rita")
    given = {"call.0.action": "approve", "call.1.action": "reject", "call.1.reject": "Rita's."}
    send(rita, page_of(rita, review), given)
    rita.post(f"/decisions/{Decision.objects.get().pk}/undo")
    form = Sent(page_of(as_("tom"), review))
    assert "call.0.action" not in form.fields
    assert form.fields["call.1.reject"] == ""


TYPED_ARGS = {
    "type": "object",
    "properties": {
        "when": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "kind": {"enum": [1, "one", None]},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean"}}},
    },
}


@pytest.mark.parametrize(
    "changed",
    [
        {"call.0.args.tags": "first\nsecond"},
        {"call.0.args.when": "2026-03-04T05:06"},
        {"call.0.args.deep.on": "true"},
    ],
)
def test_undo_brings_edited_arguments_back_as_their_inputs_hold_them(as_, changed):
    args = {"when": "2026-01-02T03:04:00", "tags": ["a", "b"], "kind": 1, "deep": {"on": False}}
    question = batch({"name": "ship", "args": args})
    question["review_configs"][0]["args_schema"] = TYPED_ARGS
    review, rita = asked(question), as_("rita")
    given = {"call.0.action": "edit", **changed}
    assert send(rita, page_of(rita, review), given).status_code == 302
    before = Decision.objects.get()
    rita.post(f"/decisions/{before.pk}/undo")
    assert send(rita, page_of(rita, review)).status_code == 302
    assert Decision.objects.exclude(pk=before.pk).get().answer == before.answer


@pytest.mark.parametrize(
    ("question", "schema", "given"),
    [
        ("Which warehouse?", None, {"answer": '{"go": [1, "ü"]}'}),
        ({"question": "How is it sent?"}, FIELDS, GOOD),
    ],
)
def test_undo_brings_an_answer_back(as_, question, schema, given):
    review, rita = asked(question, schema), as_("rita")
    assert send(rita, page_of(rita, review), given).status_code == 302
    rita.post(f"/decisions/{Decision.objects.get().pk}/undo")
    form = Sent(page_of(rita, review))
    assert {name: form.fields[name] for name in given} == given
    assert send(rita, page_of(rita, review)).status_code == 302


# Who may


@pytest.mark.parametrize(("name", "status"), [("ada", 403), ("mara", 403), ("stan", 404)])
def test_who_may_not_answer_sees_no_button_and_is_refused(as_, name, status):
    review = asked()
    form = Sent(page_of(as_("rita"), review))
    given = form.also({"call.0.action": "approve", "call.1.action": "approve"})
    shown = page_of(as_(name), review)
    assert shown.status_code == (404 if status == 404 else 200)
    for control in ("Send answer", 'name="call.0.action"', 'id="decide"'):
        assertNotContains(shown, control, status_code=shown.status_code)
    assert as_(name).post(form.action, given).status_code == status
    assert not Decision.objects.exists()
    assert AuditEntry.objects.get(action="refused").actor.username == name


# What agents write is hostile


def hostile() -> dict[str, Review]:
    tool = {"name": HOSTILE, "args": {HOSTILE: HOSTILE, "list": [HOSTILE]}, "description": HOSTILE}
    schema = {
        "type": "object",
        "title": HOSTILE,
        "properties": {
            HOSTILE: {"type": "string", "title": HOSTILE, "description": HOSTILE},
            "pick": {"enum": [HOSTILE, "b"], "description": HOSTILE},
        },
    }
    approval = {"type": "tool_approval", "tool_call_id": "1", **tool}
    return {
        "batch": asked(batch(tool, CLOSE), subject=HOSTILE),
        "raw": asked({"question": HOSTILE, HOSTILE: HOSTILE}),
        "text": asked(HOSTILE),
        "schema": asked({"question": HOSTILE}, schema),
        "other": asked(approval),
    }


def test_nothing_that_a_question_says_comes_alive(as_):
    for name, review in hostile().items():
        for page in (
            page_of(as_("rita"), review),
            page_of(as_("ada"), review),
            as_("rita").get("/"),
        ):
            assert page.status_code == 200, name
            assert alive(page) == [], name
            assertContains(page, "&lt;script&gt;")
            assert "nonce-" in page["Content-Security-Policy"]
            assert "unsafe" not in page["Content-Security-Policy"]


def test_nothing_that_a_person_answers_comes_alive(as_):
    reviews = hostile()
    rita, tom = as_("rita"), as_("tom")
    given = {
        "batch": {
            "call.0.action": "respond",
            "call.0.respond": HOSTILE,
            "call.1.action": "reject",
            "call.1.reject": HOSTILE,
        },
        "raw": {"answer": '"<script>alert(1)</script>"'},
    }
    for name, values in given.items():
        review = reviews[name]
        page = page_of(tom, review)
        wrong = send(rita, page_of(rita, review), {**values, "digest": ""})
        assert send(rita, page_of(rita, review), values).status_code == 302
        told = send(tom, page, values)
        entry = AuditEntry.objects.filter(action="decided").latest("pk")
        seen = as_("ada").get(f"/audit/{entry.pk}/")
        for answer, status in (
            (wrong, 422),
            (told, 409),
            (page_of(rita, review), 200),
            (seen, 200),
        ):
            assert answer.status_code == status, name
            assert alive(answer) == [], name


# Queries, the inbox and the audit


def test_a_question_of_thirty_calls_costs_no_more_queries_than_one_of_one(as_):
    one = asked(batch(REFUND))
    many = asked(batch(*[{**REFUND, "args": {"order_id": f"FH-{n}"}} for n in range(30)]))
    rita, seen = as_("rita"), {}
    for review in (one, many):
        page_of(rita, review)  # its first opening is recorded, which costs the same in both
        with counted_queries() as queries:
            page = page_of(rita, review)
        seen[review.pk] = queries
        assert page.status_code == 200
    assert len(Sent(page_of(rita, many)).options) == 30
    assert len(seen[one.pk]) == len(seen[many.pk]) <= MOST_QUERIES, listed(seen[many.pk])


def test_the_queue_says_what_is_asked(as_):
    asked()
    asked("Which warehouse?")
    asked({"question": "How is it sent?"}, FIELDS)
    said = words(as_("rita").get("/"))
    for text in ("issue_refund, cancel_account", "Which warehouse?", "How is it sent?"):
        assert text in said


@pytest.mark.usefixtures("clean", "no_window")
def test_the_audit_tells_what_was_decided_of_each_call(as_):
    given = {
        "call.0.action": "edit",
        "call.0.args.amount": "20.5",
        "call.1.action": "reject",
        "call.1.reject": "Nobody asked for it.",
    }
    answered(as_("rita"), asked(), given)
    said = words(as_("ada").get("/audit/"))
    assert "Paused asks in ask" not in said
    assert "Rita Osei decided its calls one by one" in said
    assert "Decision applied to the thread" in said
    entry = AuditEntry.objects.get(action="decided")
    told = words(as_("ada").get(f"/audit/{entry.pk}/"))
    for text in ("20.5", "33.45", "Nobody asked for it."):
        assert text in told
