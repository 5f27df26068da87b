"""What a reviewer sends: the state they saw and their text, checked before anything is touched."""

import uuid
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from approvals import schema_form
from approvals.answers import STATIC, WORDS_FOR, Order, editable, level_of
from approvals.models import Decision, Review
from approvals.plain import as_text
from approvals.schema_form import Reading, TypedField
from approvals.sentences import told
from approvals.storable import Refused, one_newline, refuse_broken_text
from approvals.wording import number
from graphs.fields import coerce, schema_of
from graphs.registry import Graph

EDIT = "edit."
TEXT = "text."
SAYING = [action for action in STATIC if action != Decision.Action.APPROVE]
UNKNOWN = gettext_lazy("There is no such action. Nothing was recorded.")


class TextField(forms.CharField):
    """An edited text. Says what is wrong with it in the words of the page.

    What was not changed is never wrong: the agent's own words may be empty, or too long.
    """

    def __init__(self, label: str, original: str, max_length: int) -> None:
        super().__init__(label=label, required=False, strip=False)
        self.original, self.limit = original, max_length

    def to_python(self, value: Any) -> str:
        """One that was not sent was not touched."""
        return self.original if value is None else one_newline(super().to_python(value) or "")

    def run_validators(self, value: str) -> None:
        if value != self.original and (wrong := _fault(value, self.limit)):
            raise forms.ValidationError(wrong)


def _fault(text: str, limit: int) -> str:
    if not text.strip():
        return _("This is empty. Write what should be sent, or go back to the draft.")
    if len(text) > limit:
        said = _("This has %(length)s characters; at most %(limit)s can be sent. Shorten it.")
        return said % {"length": number(len(text)), "limit": number(limit)}
    try:
        refuse_broken_text(text)
    except Refused as wrong:
        return str(wrong)
    return ""


class DecideForm(forms.Form):
    """The form of a static pause. `order` is what came of it, once it is valid.

    What may be edited is what reviews.toml calls editable; any other field is refused by name. The
    response is a text; the other fields have inputs of the types that the graph declares.
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
        kept: Mapping[str, str] | None = None,
    ) -> None:
        """`drafts` are values of the state's fields, `kept` texts as they were typed."""
        self.review, self.graph = review, graph
        self.settings = graph.review if graph else None
        self.editable = editable(graph, review) if graph else []
        self.drafts, self.typed_before = drafts or {}, kept or {}
        super().__init__(data, initial=self._initial())
        limit = self.settings.max_length if self.settings else 0
        if self.response:
            self.fields[EDIT + self.response] = TextField(self.response, self.original, limit)
        for action in SAYING:
            self.fields[TEXT + action] = TextField(action, "", limit)
        self.typed = {name: self._read(name) for name in self.editable if name != self.response}

    def _initial(self) -> dict[str, Any]:
        drafted = as_text(self.drafts[self.response]) if self.response in self.drafts else None
        return {
            "digest": self.review.digest,
            "checkpoint": self.review.checkpoint_id,
            "key": uuid.uuid4(),
            EDIT + self.response: self.original if drafted is None else drafted,
            **{name: text for name, text in self.drafts.items() if name.startswith(TEXT)},
            **self.typed_before,
        }

    @property
    def response(self) -> str:
        """The field that goes out, where it can be edited as a text; else ""."""
        name = self.settings.response if self.settings else ""
        is_text = isinstance(self.review.values.get(name), str | None)
        return name if name in self.editable and is_text else ""

    @property
    def original(self) -> str:
        return one_newline(as_text(self.review.values.get(self.response)))

    @property
    def response_field(self) -> Any:
        return self[EDIT + self.response] if self.response else None

    @property
    def chosen(self) -> str:
        """The action that was sent; approving unless another was."""
        return str(self["action"].value() or Decision.Action.APPROVE)

    @property
    def text(self) -> str:
        """The person's text of the response as they typed it, valid or not."""
        if not self.response:
            return ""
        value = self[EDIT + self.response].value()
        return self.original if value is None else one_newline(str(value))

    def said(self, action: str) -> str:
        """The person's reason, feedback or answer, as they typed it."""
        return one_newline(str(self[TEXT + action].value() or ""))

    @property
    def other_fields(self) -> list[TypedField]:
        return [field for reading in self.typed.values() for field in reading.fields]

    def kept(self) -> dict[str, str]:
        """What the person wrote besides the response, valid or not: no page that refuses it may
        lose it."""
        typed = [pair for reading in self.typed.values() for pair in reading.typed.items()]
        changed = {name.removeprefix(EDIT): text for name, text in typed}
        words = {action: self.said(action) for action in SAYING}
        return changed | {action: text for action, text in words.items() if text.strip()}

    def _read(self, name: str) -> Reading:
        original = self.review.values.get(name)
        schema = schema_of(level_of(self.graph, self.review), name) if self.graph else None
        data: Mapping[str, Any] = self.data
        if not self.is_bound and name in self.drafts:
            data = schema_form.filled(EDIT + name, schema, original, self.drafts[name])
        if not self.is_bound:
            data = {**data, **self.typed_before}
        return schema_form.read(EDIT + name, schema, original, data)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if name := self.forbidden:
            raise forms.ValidationError(
                _("“%(name)s” may not be edited here. Nothing was recorded.") % {"name": name[:80]}
            )
        if self.is_bound and not (cleaned.get("digest") and cleaned.get("key")):
            raise forms.ValidationError(_("The form is incomplete. Open the review again."))
        action = cleaned.get("action") or Decision.Action.APPROVE
        if action == Decision.Action.APPROVE:
            return {**cleaned, "action": action, "edits": self._edits()}
        self.errors.pop(EDIT + self.response, None)  # what is not sent need not be fit for it
        if not self.said(action).strip():
            self.add_error(TEXT + action, told(WORDS_FOR[Decision.Action(action)]))
        return {**cleaned, "action": action, "edits": self._changed()}

    @property
    def forbidden(self) -> str:
        """The first edit sent that the page has no input for; "" when there is none."""
        leaves = [leaf for reading in self.typed.values() for leaf in reading.root.walk()]
        known = {leaf.name for leaf in leaves if leaf.kind != "group"}
        known |= {EDIT + self.response} if self.response else set()
        sent = [name for name in self.data if name.startswith(EDIT)]
        return next((name[len(EDIT) :] or "no name" for name in sent if name not in known), "")

    def _edits(self) -> dict[str, Any]:
        for reading in self.typed.values():
            for name, wrong in reading.errors.items():
                self.add_error(None, f"{name.removeprefix(EDIT)}: {' '.join(wrong)}")
        found = self._changed()
        for name, value in found.items():
            try:
                self._check(name, value)
            except ValueError as error:
                self.add_error(
                    EDIT + name if name == self.response else None, f"{name}: {told(str(error))}"
                )
        return found

    def _changed(self) -> dict[str, Any]:
        typed = {name: one.value for name, one in self.typed.items() if one.changed}
        reply = {self.response: self.text} if self.response and self.text != self.original else {}
        return {**reply, **typed}

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
