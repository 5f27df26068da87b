"""What a reviewer sends: the state they saw and their text, checked before anything is touched."""

import json
import math
import uuid
from typing import Any

from django import forms

from approvals.answers import STATIC, WORDS_FOR, Order, editable, level_of
from approvals.models import Decision, Review
from approvals.plain import as_text, clean
from graphs.fields import coerce
from graphs.registry import Graph

EDIT = "edit."
TEXT = "text."
SAYING = [action for action in STATIC if action != Decision.Action.APPROVE]
UNKNOWN = "There is no such action. Nothing was recorded."


def one_newline(text: str) -> str:
    """Browsers send CRLF from a textarea; agents write LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TextField(forms.CharField):
    """An edited text. Says what is wrong with it in the words of the page.

    What was not changed is never wrong: the agent's own words may be empty, or too long.
    """

    def __init__(self, label: str, original: str, max_length: int) -> None:
        super().__init__(label=label, required=False, strip=False)
        self.original, self.limit = original, max_length

    def to_python(self, value: Any) -> str:
        return one_newline(super().to_python(value) or "")

    def run_validators(self, value: str) -> None:
        if value != self.original:
            for wrong in _faults(value, self.limit):
                raise forms.ValidationError(wrong)


def _faults(text: str, limit: int) -> list[str]:
    found = []
    if not text.strip():
        found.append("This is empty. Write what should be sent, or go back to the draft.")
    if len(text) > limit:
        found.append(
            f"This has {len(text):,} characters; at most {limit:,} can be sent. Shorten it."
        )
    if "\x00" in text:
        found.append("This holds a NUL character, which cannot be stored. Remove it, then approve.")
    if "\ufffd" in clean(text.replace("\x00", "")):
        found.append(
            "This holds a character that arrived broken (half of an emoji, often). "
            "Type it again, then approve."
        )
    return found


class DecideForm(forms.Form):
    """The form of a static pause. `order` is what came of it, once it is valid.

    Its text fields are the ones that reviews.toml calls editable; any other is refused by name.
    """

    digest = forms.CharField(required=False)
    checkpoint = forms.CharField(required=False)
    key = forms.UUIDField(required=False)
    action = forms.ChoiceField(
        choices=[(a, a) for a in STATIC], required=False, error_messages={"invalid_choice": UNKNOWN}
    )

    def __init__(
        self,
        review: Review,
        graph: Graph | None,
        data: Any | None = None,
        drafts: dict[str, Any] | None = None,
    ) -> None:
        self.review, self.graph = review, graph
        self.settings = graph.review if graph else None
        self.originals = original_texts(review, graph)
        initial = {
            "digest": review.digest,
            "checkpoint": review.checkpoint_id,
            "key": uuid.uuid4(),
            **{EDIT + name: text for name, text in self.originals.items()},
            **{EDIT + name: as_text(value) for name, value in (drafts or {}).items()},
        }
        if data is not None:
            # Not sent at all means not touched; sent empty means emptied.
            data = {EDIT + name: text for name, text in self.originals.items()} | data.dict()
        super().__init__(data, initial=initial)
        limit = self.settings.max_length if self.settings else 0
        for name, original in self.originals.items():
            self.fields[EDIT + name] = TextField(name, original, limit)
        for action in SAYING:
            self.fields[TEXT + action] = forms.CharField(
                required=False,
                strip=False,
                max_length=limit or None,
                error_messages={"max_length": f"At most {limit:,} characters. Shorten it."},
            )

    @property
    def response(self) -> str:
        """The field that goes out; "" where this pause has none to edit."""
        name = self.settings.response if self.settings else ""
        return name if name in self.originals else ""

    @property
    def response_field(self) -> Any:
        return self[EDIT + self.response] if self.response else None

    @property
    def other_fields(self) -> list[Any]:
        return [self[EDIT + name] for name in self.originals if name != self.response]

    @property
    def chosen(self) -> str:
        """The action that was sent; approving unless another was."""
        return str(self["action"].value() or Decision.Action.APPROVE)

    def text(self, name: str) -> str:
        """The person's text of a field as they typed it, valid or not."""
        return one_newline(str(self[EDIT + name].value() or ""))

    def texts(self) -> dict[str, str]:
        """What the person changed, valid or not: kept on every page that refuses it."""
        return {
            name: self.text(name)
            for name in self.originals
            if self.text(name) != self.originals[name]
        }

    def said(self, action: str) -> str:
        """The person's reason, feedback or answer, as they typed it."""
        return one_newline(str(self[TEXT + action].value() or ""))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in self.data:
            if name.startswith(EDIT) and name[len(EDIT) :] not in self.originals:
                raise forms.ValidationError(
                    f"“{name[len(EDIT) :][:80]}” may not be edited here. Nothing was recorded."
                )
        if self.is_bound and not (cleaned.get("digest") and cleaned.get("key")):
            raise forms.ValidationError("The form is incomplete. Open the review again.")
        action = cleaned.get("action") or Decision.Action.APPROVE
        if action != Decision.Action.APPROVE:
            self._forgive_edits()
            if not self.said(action).strip():
                self.add_error(TEXT + action, WORDS_FOR[Decision.Action(action)])
        return {**cleaned, "action": action, "edits": self._edits()}

    def _forgive_edits(self) -> None:
        """What is not going to be sent need not be fit to be sent."""
        for name in self.originals:
            self._errors.pop(EDIT + name, None)

    @property
    def forbidden(self) -> str:
        """The first field sent that reviews.toml does not call editable; "" when there is none."""
        sent = [name[len(EDIT) :] for name in self.data if name.startswith(EDIT)]
        return next((name for name in sent if name not in self.originals), "")

    def _edits(self) -> dict[str, Any]:
        found = {}
        for name, original in self.originals.items():
            text = self.cleaned_data.get(EDIT + name, original)
            if text != original:
                try:
                    found[name] = typed(text, self.review.values.get(name))
                    self._check(name, found[name])
                except ValueError as error:
                    self.add_error(EDIT + name, str(error))
        return found

    def _check(self, name: str, value: Any) -> None:
        """Raises ValueError for what the state's declared type would not take."""
        if self.graph is not None:
            coerce(level_of(self.graph, self.review), name, value)

    @property
    def order(self) -> Order:
        sent = self.cleaned_data
        action = sent["action"]
        text = self.said(action) if action in SAYING else ""
        return Order(sent["digest"], sent["checkpoint"], sent["key"], action, sent["edits"], text)


def original_texts(review: Review, graph: Graph | None) -> dict[str, str]:
    """The editable fields as text; what is no text in the state is shown as JSON."""
    if graph is None:
        return {}
    return {name: one_newline(as_text(review.values.get(name))) for name in editable(graph, review)}


def typed(text: str, original: Any) -> Any:
    """The text as the type that the state has there: a number stays a number.

    Raises ValueError with what to do.
    """
    if original is None or isinstance(original, str):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("This must be JSON, as it was before. Mend it, then approve.") from None
    if type(value) is not type(original) and not (type(value) is int and type(original) is float):
        raise ValueError(f"This must stay {_KINDS[type(original)]}, as the graph's state has it.")
    _refuse_unstorable(value)
    return value


def _refuse_unstorable(value: Any) -> None:
    """Raises ValueError for what a checkpoint, or Postgres, could not hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key)
            _refuse_unstorable(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item)
    elif isinstance(value, str) and value != clean(value):
        raise ValueError("This holds a character that cannot be stored. Remove it, then approve.")
    elif isinstance(value, int) and value.bit_length() > 63:
        raise ValueError("This holds a number that is too large to be stored. Make it smaller.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("This holds something that is no number. Mend it, then approve.")


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
