"""One input of a typed form, or a group of them: what `_widgets.html` shows of it."""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.forms.utils import flatatt
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from approvals.plain import canonical
from approvals.schemas import Schema, matches, strings
from approvals.storable import is_number, one_newline

MISSING: Any = object()  # a key that the original does not have

INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
NUMBER = re.compile(r"-?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d\d:\d\d(:\d\d([.,]\d{1,6})?)?(Z|[-+]\d\d:\d\d)?", re.ASCII)
DATETIME = re.compile(rf"{DATE.pattern}[T ]{TIME.pattern}", re.ASCII)
CLOCK = r"\d\d:\d\d(:\d\d)?"  # as far as a browser's own inputs keep it

EXAMPLES = {"date": "2026-11-30", "datetime": "2026-11-30T14:05:00+00:00", "time": "14:05:00"}
MOMENTS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "date": (DATE, dt.date.fromisoformat),
    "datetime": (DATETIME, dt.datetime.fromisoformat),
    "time": (TIME, dt.time.fromisoformat),
}
_BROWSERS = {  # by kind, a browser's own input, and the texts that it does not empty or change
    "integer": ("number", re.compile(rf"({NUMBER.pattern})?", re.ASCII)),
    "number": ("number", re.compile(rf"({NUMBER.pattern})?", re.ASCII)),
    "date": ("date", re.compile(rf"({DATE.pattern})?", re.ASCII)),
    "datetime": ("datetime-local", re.compile(rf"{DATE.pattern}T{CLOCK}", re.ASCII)),
    "time": ("time", re.compile(rf"({CLOCK})?", re.ASCII)),
}
_RANGE = {
    "minimum": noop("at least {}"),
    "exclusiveMinimum": noop("more than {}"),
    "maximum": noop("at most {}"),
    "exclusiveMaximum": noop("less than {}"),
}


def counted(number: int) -> str:
    """With its thousands apart, as the reader's language has them."""
    return number_format(number, force_grouping=True)


class Option(NamedTuple):
    text: str
    label: str
    value: Any


@dataclass
class TypedField:
    """One input, or a group of them (`kind` "group", one fieldset).

    `text` is what the input holds: the original's text, or what the person typed.
    """

    name: str
    key: str
    label: str
    kind: str
    schema: Schema
    original: Any
    required: bool = False
    nullable: bool = False
    unit: str = ""
    choices: list[Option] = field(default_factory=list)
    original_text: str = ""
    text: str = ""
    errors: list[str] = field(default_factory=list)
    fields: list["TypedField"] = field(default_factory=list)
    is_other: bool = False  # of a group, the keys that its schema does not name
    changed: bool = False

    @property
    def id(self) -> str:
        """Letters of a name that an id, or a list of ids, cannot have are written as numbers."""
        return "id_" + re.sub(r"[^\w.~-]", lambda found: f":{ord(found[0]):x}:", self.name)

    @property
    def described_by(self) -> str:
        parts = [("unit", self.unit), ("help", self.help), ("wrong", self.errors)]
        return " ".join(f"{self.id}-{part}" for part, there in parts if there)

    @property
    def is_textarea(self) -> bool:
        return self.kind in ("long", "json", "lines")

    @property
    def rows(self) -> int:
        return max(2, min(16, self.text.count("\n") + len(self.text) // 90 + 1))

    @property
    def input_type(self) -> str:
        """A browser empties an input whose text is not of its type: there, a plain one is used."""
        own, pattern = _BROWSERS.get(self.kind, ("text", INTEGER))
        is_kept = not self.errors and pattern.fullmatch(self.text)
        is_real = self.kind not in MOMENTS or not self.text or is_moment(self.kind, self.text)
        return own if is_kept and is_real else "text"

    @property
    def attributes(self) -> dict[str, str]:
        """The constraints that a browser knows, unless the original breaks them: it may stay.

        No maxlength: a browser cuts what is pasted to it without a word.
        """
        found = {**self._steps(), **self._pattern()}
        may_be_empty = self.nullable or not self.required or not self.original_text
        if not (may_be_empty or self.is_textarea or self.kind == "text"):
            found["required"] = ""
        return found

    @property
    def html_attributes(self) -> SafeString:
        own = {"class": "in", "id": self.id, "name": self.name, **self.attributes}
        said = {"aria-describedby": self.described_by, "aria-invalid": "true" * bool(self.errors)}
        return flatatt({**own, **{name: text for name, text in said.items() if text}})

    def _steps(self) -> dict[str, str]:
        if self.input_type == "text":
            return {"inputmode": "decimal"} if self.kind == "text" and self.unit else {}
        if self.input_type == "date":
            return {}
        return {"step": "1" if self.kind == "integer" else "any", **self._limits()}

    def _limits(self) -> dict[str, str]:
        limits = {"min": self.schema.get("minimum"), "max": self.schema.get("maximum")}
        return {name: str(limit) for name, limit in limits.items() if self._may_tell(name, limit)}

    def _may_tell(self, name: str, limit: Any) -> bool:
        if not is_number(limit) or (self.kind == "integer" and not isinstance(limit, int)):
            return False  # a browser counts the steps of whole numbers from the minimum
        if not is_number(self.original):
            return True
        return bool(self.original >= limit if name == "min" else self.original <= limit)

    def _pattern(self) -> dict[str, str]:
        """HTML's patterns match the whole text; JSON Schema's match anywhere in it."""
        pattern = self.schema.get("pattern")
        fits = matches(pattern, self.original_text) if self.kind == "text" else None
        is_told = fits or (fits is False and not self.original_text)
        return {"pattern": f".*(?:{pattern}).*"} if is_told else {}

    @property
    def help(self) -> str:
        description = self.schema.get("description")
        said = description.strip() if isinstance(description, str) else ""
        return " ".join([said, *self._notes()]).strip()

    def _notes(self) -> Iterator[str]:
        if note := {"lines": _("One on each line."), "json": _("As JSON.")}.get(self.kind):
            yield note
        if self.kind in EXAMPLES and self.input_type == "text":
            yield _("As %(example)s.") % {"example": EXAMPLES[self.kind]}
        limit = self.schema.get("maxLength")
        if self.kind in ("text", "long") and isinstance(limit, int):
            yield _("At most %(limit)s characters.") % {"limit": counted(limit)}
        if self.kind in ("integer", "number"):
            yield from _range(self.schema)
        if self.original is MISSING and (default := self.schema.get("default")) is not None:
            text = json.dumps(default, ensure_ascii=False)[:80].strip(chr(34))
            yield _("Left empty: %(default)s.") % {"default": text}

    def walk(self) -> Iterator["TypedField"]:
        yield self
        for each in self.fields:
            yield from each.walk()


def _range(schema: Schema) -> Iterator[str]:
    limits = [(say, schema.get(key)) for key, say in _RANGE.items()]
    if said := [_(say).format(limit) for say, limit in limits if is_number(limit)]:
        yield _(" and ").join(said).capitalize() + "."


def is_moment(kind: str, text: str) -> bool:
    """Whether a text is a date or time of that kind."""
    pattern, parse = MOMENTS[kind]
    try:
        return bool(pattern.fullmatch(text) and parse(text))
    except ValueError:
        return False


def shown(made: TypedField, value: Any) -> str:
    """A value as the input shows it, on lines that end in LF."""
    if value is MISSING or value is None:
        return ""
    if made.kind == "choice":
        found = (each.text for each in made.choices if same(each.value, value))
        return next(found, json.dumps(value, ensure_ascii=False))
    if made.kind == "lines" and isinstance(value, list):
        return "\n".join(strings(value))
    is_text = made.kind != "json" and isinstance(value, str)
    return one_newline(value if is_text else json.dumps(value, ensure_ascii=False, indent=2))


def same(one: Any, other: Any) -> bool:
    """Equal with types: 1 is not true, 5 is not 5.0."""
    return one is other or (MISSING not in (one, other) and canonical(one) == canonical(other))
