"""The form of a question that a run asked with `interrupt()`: its calls, decided one by one.

A question without calls is answered with one value, in the inputs of its schema or as JSON.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from approvals import schema_form
from approvals.answers import Order, question_of
from approvals.changes import Change, changes
from approvals.models import Decision, Review
from approvals.questions import Call, Choice, Question, QuestionError, answer
from approvals.schema_form import Reading, TypedField
from approvals.schema_reading import parse_json
from approvals.sentences import told
from approvals.storable import Refused, one_newline, refuse_broken_text
from graphs.registry import Graph

ANSWER = "answer"
CHOOSE = noop("Choose what to do with this call.")
SAID_NOTHING = noop(
    "You changed the arguments. Choose Edit to send them, or set them back to approve."
)
LABELS = {
    "approve": noop("Approve"),
    "edit": noop("Edit"),
    "reject": noop("Reject"),
    "respond": noop("Respond"),
}


@dataclass
class CallForm:
    """One call of the question, with what was chosen for it and what is wrong with that."""

    index: int
    call: Call
    data: Mapping[str, Any]
    errors: list[str]
    decided: dict[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"call.{self.index}"

    @property
    def number(self) -> int:
        return self.index + 1

    @property
    def chosen(self) -> str:
        return str(self.data.get(f"{self.prefix}.action", ""))

    @property
    def options(self) -> list[tuple[str, str]]:
        return [(action, _(LABELS[action])) for action in self.call.allowed]

    @cached_property
    def reading(self) -> Reading:
        return schema_form.read(f"{self.prefix}.args", self.call.schema, self.call.args, self.data)

    @property
    def fields(self) -> list[TypedField]:
        return self.reading.fields

    @property
    def pairs(self) -> list[tuple[str, Any]]:
        """The arguments as they were asked, in their schema's order: a stored object has none."""
        args = self.call.args
        if not isinstance(args, dict):
            return [("", args)]
        listed = [name for name in (self.call.schema or {}).get("properties", {}) if name in args]
        return [(name, args[name]) for name in dict.fromkeys([*listed, *args])]

    @property
    def name(self) -> str:
        return str(self.data.get(f"{self.prefix}.name", self.call.name)).strip()

    @property
    def reason(self) -> str:
        return self._words("reject")

    @property
    def response(self) -> str:
        return self._words("respond")

    def _words(self, action: str) -> str:
        return one_newline(str(self.data.get(f"{self.prefix}.{action}", "")))

    def choice(self) -> Choice:
        """What the person decided; adds to `errors` what is wrong with it."""
        action, reading = self.chosen, self.reading
        if not action:
            self.errors.append(_(CHOOSE))
        if action == "edit":
            self.errors += [" ".join(wrong) for wrong in reading.errors.values()]
            renamed = self.name if self.name != self.call.name else ""
            try:
                refuse_broken_text(renamed)
            except Refused as wrong:
                self.errors.append(str(wrong))
            return Choice(action, args=reading.value, name=renamed)
        if action == "approve" and reading.changed:
            self.errors.append(_(SAID_NOTHING))
        text = {"reject": self.reason, "respond": self.response}.get(action, "")
        try:
            refuse_broken_text(text)
        except Refused as wrong:
            self.errors.append(str(wrong))
        return Choice(action, text=text)

    def kept(self) -> dict[str, str]:
        typed = self.reading.typed.items()
        found = {name.removeprefix(f"{self.prefix}."): text for name, text in typed}
        found |= {_("reason"): self.reason, _("response"): self.response}
        where = f"{self.number}. {self.call.name} "
        return {where + name: text for name, text in found.items() if text.strip()}


class QuestionForm:
    """What a review page of a question posts. `order` is what came of it, once it is valid."""

    response = ""  # as a DecideForm has it: no text of the state is edited here

    def __init__(
        self,
        review: Review,
        graph: Graph,
        data: Any | None = None,
        drafts: Any | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> None:
        self.review, self.graph = review, graph
        self.question: Question = question_of(graph, review)
        self.is_bound = data is not None
        before = {**self._drafted(drafts or {}), **(kept or {})}
        self.data: Mapping[str, Any] = before if data is None else _one_newline(data)
        self.errors: list[str] = []
        self.calls = [
            CallForm(i, call, self.data, []) for i, call in enumerate(self.question.calls)
        ]
        self._choices: tuple[Choice, ...] = ()

    def _drafted(self, drafts: Mapping[str, Any]) -> dict[str, str]:
        """What the person's drafts would post: the inputs of their values, filled in."""
        found = dict(drafts)
        for index, call in enumerate(self.question.calls):
            if (name := f"call.{index}.args") in found:
                found |= schema_form.filled(name, call.schema, call.args, found.pop(name))
        if ANSWER in found and self.has_schema:
            answer = found.pop(ANSWER)
            found |= schema_form.filled(ANSWER, self.question.schema, self._blank, answer)
        elif ANSWER in found:
            found[ANSWER] = json.dumps(found[ANSWER], ensure_ascii=False)
        return found

    @property
    def digest(self) -> str:
        return str(self.data.get("digest") or self.review.digest)

    @property
    def checkpoint(self) -> str:
        return str(self.data.get("checkpoint") or self.review.checkpoint_id)

    @property
    def key(self) -> str:
        return str(self.data.get("key") or uuid.uuid4())

    @cached_property
    def reading(self) -> Reading:
        """The one value of a question without calls, in the inputs of its schema."""
        return schema_form.read(ANSWER, self.question.schema, self._blank, self.data)

    @property
    def _blank(self) -> Any:
        schema = self.question.schema or {}
        return schema.get("default", {} if "properties" in schema else None)

    @property
    def fields(self) -> list[TypedField]:
        return self.reading.fields

    @property
    def has_schema(self) -> bool:
        return self.question.dialect == "schema"

    @property
    def raw(self) -> str:
        return str(self.data.get(ANSWER, ""))

    @property
    def unanswerable(self) -> str:
        return ", ".join(self.question.calls[i].name for i in self.question.unanswerable)

    def is_valid(self) -> bool:
        if not (self.data.get("digest") and _is_key(self.data.get("key"))):
            self.errors.append(_("The form is incomplete. Open the review again."))
            return False
        if name := self.forbidden:
            said = _("“%(name)s” is not asked for here. Open the review again.")
            self.errors.append(said % {"name": name[:80]})
            return False
        self._choices = (
            tuple(call.choice() for call in self.calls) if self.calls else (self._value(),)
        )
        if not self._has_errors():
            self._try()
        return not self._has_errors()

    def _has_errors(self) -> bool:
        return bool(self.errors) or any(call.errors for call in self.calls)

    def _try(self) -> None:
        try:
            answer(self.question, self._choices)
        except QuestionError as error:
            of_one = self.calls and error.index is not None
            wrong = self.calls[error.index or 0].errors if of_one else self.errors
            wrong.append(told(error.message))

    def _value(self) -> Choice:
        if self.has_schema:
            reading = self.reading
            self.errors += [" ".join(wrong) for wrong in reading.errors.values()]
            return Choice("respond", args=reading.value)
        try:
            return Choice("respond", args=parse_json(self.raw))
        except Refused as wrong:
            self.errors.append(str(wrong))
        return Choice("respond")

    @property
    def order(self) -> Order:
        key = uuid.UUID(self.key)
        action = Decision.Action.RESPOND
        return Order(self.digest, self.checkpoint, key, action, choices=self._choices)

    @property
    def forbidden(self) -> str:
        """The first input sent that this question has not; "" when there is none. Arguments that
        were edited by a tool's older schema must not be left out in silence."""
        readings = [call.reading for call in self.calls] or [self.reading]
        known = {leaf.name for reading in readings for leaf in reading.root.walk()} | {ANSWER}
        edits = [name for name in self.data if re.match(r"call\.\d+\.args|answer\b", name)]
        return next((name for name in edits if name not in known), "")

    @property
    def text(self) -> str:
        return ""

    def kept(self) -> dict[str, str]:
        """What the person wrote, valid or not: no page that refuses it may lose it."""
        found: dict[str, str] = {}
        for call in self.calls:
            found |= call.kept()
        if self.calls:
            return found
        return self.reading.typed if self.has_schema else {ANSWER: self.raw} if self.raw else {}

    def add_error(self, field: Any, message: str) -> None:
        self.errors.append(message)

    def non_field_errors(self) -> list[str]:
        return self.errors


SAID = {
    "approve": noop("Approved"),
    "edit": noop("Edited"),
    "reject": noop("Rejected"),
    "respond": noop("Answered"),
}


def tell(form: QuestionForm, decision: Decision) -> None:
    """Has each call of the form show what was decided of it."""
    for one, choice in zip(form.calls, decision.said.get("choices") or [], strict=False):
        one.decided = {
            "said": _(SAID[choice["action"]]) if choice["action"] in SAID else "",
            "text": choice["text"],
            "name": choice["name"],
            "changes": _edited(one.call.args, choice),
        }


def _edited(args: Any, choice: dict[str, Any]) -> list[Change]:
    edited = choice["action"] == "edit" and isinstance(choice["args"], dict)
    return changes(args, choice["args"]) if edited and isinstance(args, dict) else []


def _one_newline(data: Any) -> dict[str, str]:
    return {name: one_newline(str(value)) for name, value in data.items()}


def _is_key(text: Any) -> bool:
    try:
        uuid.UUID(str(text))
    except ValueError:
        return False
    return True


def drafts_of(decision: Decision) -> dict[str, Any]:
    """What a decision that was taken back had in its form: the person's to go on with."""
    found: dict[str, Any] = {}
    for index, choice in enumerate(decision.said.get("choices") or []):
        prefix, action = f"call.{index}", choice["action"]
        found[f"{prefix}.action"] = action
        if action in {"reject", "respond"}:
            found[f"{prefix}.{action}"] = choice["text"]
        if action == "edit":
            found[f"{prefix}.args"] = choice["args"]
            found |= {f"{prefix}.name": choice["name"]} if choice["name"] else {}
        if action == "respond":
            found[ANSWER] = choice["args"]  # of a question without calls
    return found
