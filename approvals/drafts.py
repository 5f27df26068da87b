"""What a person has written and not sent, as the server keeps it: read, for forms and lists.

A draft holds the texts of a review form's inputs by their names, where they differ from what the
form would send untouched. `draft_actions` writes it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from approvals.forms import EDIT, DecideForm
from approvals.models import Decision, Draft, DraftRevision, Review
from approvals.plain import clean
from approvals.question_form import QuestionForm
from approvals.redline import WORD
from approvals.schema_form import Reading
from approvals.storable import one_newline

# The inputs that hold words or choices of a person's; editor.js knows them by the same words.
KEPT = re.compile(r"(edit|text|call|answer)\b")
MOST = 1_000_000  # bytes of one draft

Fields = dict[str, str]


def draft_of(user: Any, review: Review) -> Draft | None:
    return Draft.objects.filter(user=user, review=review).first()


def left_over(user: Any, review: Review, decision: Decision | None) -> bool:
    """Whether a person wrote something here that somebody, or something, else was faster than."""
    if review.is_open or (decision is not None and decision.actor_id == user.pk):
        return False
    return Draft.objects.filter(user=user, review=review).exclude(fields={}).exists()


def sent_fields(data: Mapping[str, Any], form: DecideForm | QuestionForm) -> Fields:
    """The person's words and choices of a post, fit for Postgres, where they differ from the form
    as it was before anybody typed. `form` is that one: without data or drafts."""
    before = untouched(form)
    texts = {clean(k): clean(one_newline(str(v))) for k, v in data.items() if KEPT.match(k)}
    return {name: text for name, text in texts.items() if text != before.get(name, "")}


def label(name: str) -> str:
    """An input's name as a person is told it: `edit.amount` is the field "amount"."""
    return name.partition(".")[2] or name


def by_label(fields: Fields) -> Fields:
    return {label(name): text for name, text in fields.items() if text}


def size(fields: Fields) -> int:
    return len(json.dumps(fields, ensure_ascii=False).encode())


def untouched(form: DecideForm | QuestionForm) -> Fields:
    """What an untouched form would post, besides what is empty."""
    found = {leaf: text for reading in _readings(form) for leaf, text in _texts(reading)}
    if isinstance(form, DecideForm):
        return {**found, EDIT + form.response: form.original} if form.response else found
    return found | {f"{one.prefix}.name": one.call.name for one in form.calls}


def _readings(form: DecideForm | QuestionForm) -> Iterable[Reading]:
    if isinstance(form, DecideForm):
        return form.typed.values()
    if form.calls:
        return [call.reading for call in form.calls]
    return [form.reading] if form.has_schema else []


def _texts(reading: Reading) -> list[tuple[str, str]]:
    leaves = [leaf for leaf in reading.root.walk() if leaf.kind != "group"]
    return [(leaf.name, one_newline(leaf.original_text)) for leaf in leaves]


@dataclass(frozen=True)
class Version:
    """An earlier state of a draft, as the list shows it."""

    revision: DraftRevision
    text: str
    added: int
    removed: int


def versions(draft: Draft) -> list[Version]:
    """Earlier states, newest first, each with the words that the next one added and removed."""
    found, after = [], draft.fields
    for one in draft.revisions.all():
        gone, come = _words(one.fields), _words(after)
        found.append(Version(one, _shown(one.fields), (come - gone).total(), (gone - come).total()))
        after = one.fields
    return found


def _words(fields: Fields) -> Counter[str]:
    return Counter(word for text in fields.values() for word in WORD.findall(text))


def _shown(fields: Fields) -> str:
    """The longest of its texts: the reply mostly, else the reason that was being written."""
    return max(fields.values(), key=len, default="")
