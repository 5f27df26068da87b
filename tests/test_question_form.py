"""A decision on a question that was taken back fills the form it came from, whatever its inputs."""

import json
import uuid
from typing import Any

import pytest

from approvals.answers import Order
from approvals.models import Decision, Review
from approvals.question_form import QuestionForm, drafts_of
from approvals.questions import Choice
from approvals.registry import registry
from tests.shapes import run_shape, shapes  # noqa: F401

pytestmark = pytest.mark.usefixtures("clean", "shapes")
REQUEST = {
    "action_requests": [
        {"name": "refund", "args": {"tags": ["a"], "to": {"iban": "DE1"}}},
        {"name": "refund", "args": {"tags": ["b"]}},
    ],
    "review_configs": [
        {
            "action_name": "refund",
            "allowed_decisions": ["approve", "edit", "reject"],
            "args_schema": {
                "type": "object",
                "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
            },
        }
    ],
}


def asked(review: Review, question: Any, schema: Any = None) -> Review:
    review.snapshot["pause"] |= {"question": question, "schema": schema}
    return review


@pytest.fixture
def review() -> Review:
    """Of the shape that asks, its question put as a tool that asks would put it."""
    found = Review.objects.get(thread_id=run_shape("asks"))
    return asked(found, REQUEST)


def again(review: Review, *choices: Choice) -> QuestionForm:
    said = Order(review.digest, review.checkpoint_id, uuid.uuid4(), choices=choices).said
    decision = Decision(review=review, said=json.loads(json.dumps(said)))
    return QuestionForm(review, registry().graphs["asks"], drafts=drafts_of(decision))


def test_edited_arguments_stand_in_the_inputs_of_their_schema(review):
    args: dict[str, Any] = {"tags": ["a", "b"], "to": {"iban": "DE2"}}
    form = again(review, Choice("edit", args=args), Choice("reject", text="No."))
    first, second = form.calls
    assert (first.chosen, first.reading.value, first.reading.errors) == ("edit", args, {})
    assert (second.chosen, second.reason, second.reading.changed) == ("reject", "No.", False)


def test_an_answer_stands_in_the_inputs_of_its_schema(review):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    asked(review, "Right?", schema)
    assert again(review, Choice("respond", args={"ok": True})).reading.value == {"ok": True}


def test_an_answer_without_a_schema_stands_there_as_json(review):
    asked(review, "Right?")
    assert again(review, Choice("respond", args={"ok": "ä"})).raw == '{"ok": "ä"}'


def test_nothing_that_was_typed_of_two_calls_of_one_tool_is_lost(review):
    graph = registry().graphs["asks"]
    sent = {"call.0.reject": "Too much.", "call.1.reject": "Too late.", "call.1.args.tags": "c"}
    kept = QuestionForm(review, graph, sent).kept()
    assert kept == {
        "1. refund reason": "Too much.",
        "2. refund reason": "Too late.",
        "2. refund args.tags": "c",
    }
