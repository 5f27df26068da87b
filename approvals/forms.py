"""What a reviewer sends: the state they saw and their text, checked before anything is touched."""

import json
import math
import uuid
from typing import Any

from django import forms

from approvals.actions import Order
from approvals.models import Review
from approvals.plain import as_text, clean
from graphs.registry import ReviewSettings

EDIT = "edit."


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
    """The form of a review page. `order` is what came of it, once it is valid.

    Its text fields are the ones that reviews.toml calls editable; any other is refused by name.
    """

    digest = forms.CharField(required=False)
    checkpoint = forms.CharField(required=False)
    key = forms.UUIDField(required=False)

    def __init__(
        self,
        review: Review,
        settings: ReviewSettings | None,
        data: Any | None = None,
        drafts: dict[str, Any] | None = None,
    ) -> None:
        self.review, self.settings = review, settings
        self.originals = original_texts(review, settings)
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
        limit = settings.max_length if settings else 0
        for name, original in self.originals.items():
            self.fields[EDIT + name] = TextField(name, original, limit)

    @property
    def response_field(self) -> Any:
        return self[EDIT + self.settings.response] if self.settings else None

    @property
    def other_fields(self) -> list[Any]:
        return [
            self[name]
            for name in self.fields
            if name.startswith(EDIT)
            and name != EDIT + ((self.settings and self.settings.response) or "")
        ]

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

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in self.data:
            if name.startswith(EDIT) and name[len(EDIT) :] not in self.originals:
                raise forms.ValidationError(
                    f"“{name[len(EDIT) :][:80]}” may not be edited here. Nothing was recorded."
                )
        if self.is_bound and not (cleaned.get("digest") and cleaned.get("key")):
            raise forms.ValidationError("The form is incomplete. Open the review again.")
        return {**cleaned, "edits": self._edits()}

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
                except ValueError as error:
                    self.add_error(EDIT + name, str(error))
        return found

    @property
    def order(self) -> Order:
        sent = self.cleaned_data
        return Order(sent["digest"], sent["checkpoint"], sent["key"], sent["edits"])


def original_texts(review: Review, settings: ReviewSettings | None) -> dict[str, str]:
    """The editable fields as text; what is no text in the state is shown as JSON."""
    if settings is None:
        return {}
    return {
        name: one_newline(as_text(review.values.get(name))) for name in settings.editable_fields
    }


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
