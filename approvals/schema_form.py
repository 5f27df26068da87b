"""A JSON value as form fields that keep its types, by its JSON Schema, and back.

`fields_for` makes the fields, `read` takes what was posted. Both build the same tree from the same
prefix, schema and original, so nothing is kept between page and post. What was not changed comes
back exactly as it was and is never wrong: not even where the agent's own value breaks the schema.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import referencing
from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from jsonschema.exceptions import best_match
from jsonschema.validators import Draft202012Validator, validator_for

from approvals.plain import MAX_DEPTH, canonical, clean

Schema = Mapping[str, Any]

MAX_GROUPS = 3  # levels of fieldsets; what is deeper is edited as JSON
MAX_FIELDS = 150  # of one value; Django refuses a form of more than a thousand
MAX_TEXT = 1_000_000  # characters
LONG = 80  # characters; longer texts get more than one line
MAX_REFS = 20
MAX_BRANCHES = 4  # of an anyOf in an anyOf; a schema may hold itself

MISSING: Any = object()  # a key that the original does not have

ESCAPES = str.maketrans({"~": "~0", ".": "~1", "\n": "~2", "\r": "~3"})
ONE_LINE = {"text", "integer", "number", "date", "datetime", "time"}
OTHER = "~other"  # no escaped key can be called so
MONEY = re.compile(r"amount|price|total|cost|fee|sum$|balance|refund", re.I)
MINOR = re.compile(r"cents|minor|pence", re.I)
INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
HTML_NUMBER = re.compile(r"-?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d\d:\d\d(:\d\d([.,]\d{1,6})?)?(Z|[-+]\d\d:\d\d)?", re.ASCII)
DATETIME = re.compile(rf"{DATE.pattern}[T ]{TIME.pattern}", re.ASCII)
LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?", re.ASCII)


class Choice(NamedTuple):
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
    help: str = ""
    unit: str = ""
    choices: list[Choice] = field(default_factory=list)
    original_text: str = ""
    text: str = ""
    input_type: str = "text"
    attributes: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    fields: list["TypedField"] = field(default_factory=list)
    path: tuple[str, ...] = ()
    is_other: bool = False
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

    def walk(self) -> Iterator["TypedField"]:
        yield self
        for each in self.fields:
            yield from each.walk()


@dataclass
class Reading:
    """What came of a post. `value` is the original where it holds `errors` (by input name)."""

    root: TypedField
    value: Any
    changed: bool

    @property
    def errors(self) -> dict[str, list[str]]:
        return {each.name: each.errors for each in self.root.walk() if each.errors}

    @property
    def is_valid(self) -> bool:
        return not self.errors

    @property
    def fields(self) -> list[TypedField]:
        return inputs(self.root)


class Refused(ValueError):
    """The message says what is wrong with a text and what to do."""


def fields_for(prefix: str, schema: Schema | None, original: Any) -> list[TypedField]:
    """The inputs of a value. An object's are named `prefix.key`; any other has one, `prefix`."""
    return inputs(tree_for(prefix, schema, original))


def read(prefix: str, schema: Schema | None, original: Any, data: Mapping[str, Any]) -> Reading:
    """The value that was posted, checked. Never raises: see `Reading.errors`.

    `data` is a QueryDict, or a dict of texts. An input that was not sent was not touched.
    """
    root = tree_for(prefix, schema, original)
    value = _read(root, data)
    if value is MISSING:
        value = original
    if root.changed and not any(each.errors for each in root.walk()):
        _check(root, schema, value)
    if any(each.errors for each in root.walk()):
        return Reading(root, original, True)
    if not root.changed or _same(value, original):
        return Reading(root, original, False)
    return Reading(root, value, True)


def inputs(root: TypedField) -> list[TypedField]:
    return root.fields if root.kind == "group" else [root]


def one_newline(text: str) -> str:
    """Browsers send CRLF from a textarea; agents write LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# The tree


def tree_for(prefix: str, schema: Schema | None, original: Any) -> TypedField:
    """The whole value as one field; with fewer levels of groups if there were too many inputs."""
    whole = schema if isinstance(schema, Mapping) else {}
    for depth in range(MAX_GROUPS, -1, -1):
        root = _Maker(whole, depth).field(prefix, (), "", whole, original, required=True)
        if sum(1 for _ in root.walk()) <= MAX_FIELDS:
            return root
    return _as_json(replace(root, kind="json", fields=[]))


@dataclass(frozen=True)
class _Maker:
    whole: Schema  # what local references point into
    depth: int

    def field(
        self,
        name: str,
        path: tuple[str, ...],
        key: str,
        schema: Any,
        original: Any,
        *,
        required: bool,
        unit: str = "",
    ) -> TypedField:
        schema, nullable = self.resolved(schema, original)
        made = TypedField(
            name=name,
            key=key,
            label=_label(schema, key),
            kind=_kind(schema, original),
            schema=schema,
            original=original,
            required=required,
            nullable=nullable or original is None,
            path=path,
        )
        if made.kind == "group" and len(path) <= self.depth:
            return self._group(made)
        if made.kind == "group":
            made.kind = "json"
        return _leaf(made, unit)

    def _group(self, made: TypedField) -> TypedField:
        known = dict(_properties(made.schema))
        given = made.original if isinstance(made.original, dict) else {}
        open_to = made.schema.get("additionalProperties")
        if not known:
            inner = open_to if isinstance(open_to, Mapping) else {}
            known, required = dict.fromkeys(given, inner), list(given)
        else:
            required = _strings(made.schema.get("required"))
        for key, schema in known.items():
            made.fields.append(
                self.field(
                    f"{made.name}.{key.translate(ESCAPES)}",
                    (*made.path, key),
                    key,
                    schema,
                    given.get(key, MISSING),
                    required=key in required,
                    unit=_unit(schema, key, given),
                )
            )
        others = {key: item for key, item in given.items() if key not in known}
        if others or open_to:
            made.fields.append(_others(made, others))
        made.help = _said(made.schema, "description")
        return made

    def resolved(self, schema: Any, original: Any, within: int = 0) -> tuple[Schema, bool]:
        """Without references and the choice of null, and whether null is one of the choices."""
        nullable = False
        if within > MAX_BRANCHES:
            return {}, nullable
        for _ in range(MAX_REFS):
            if not isinstance(schema, Mapping):
                return {}, nullable
            if "$ref" in schema:
                rest = {key: item for key, item in schema.items() if key != "$ref"}
                schema = {**self._target(schema["$ref"]), **rest}
                continue
            branches = _branches(schema)
            if not branches:
                break
            rest = {k: item for k, item in schema.items() if k not in ("anyOf", "oneOf")}
            some = [each for each in branches if not _is_null(each)]
            nullable = nullable or len(some) < len(branches)
            if _titled(some):
                schema = {"oneOf": some, **rest}
                break
            schema = {**self._branch(some, original, within), **rest}
        schema = self._merged(schema, original, within)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            nullable = nullable or "null" in kinds
            schema = {**schema, "type": _one_type([k for k in kinds if k != "null"], original)}
        listed = schema.get("enum")
        return schema, nullable or (isinstance(listed, list) and None in listed)

    def _merged(self, schema: Schema, original: Any, within: int) -> Schema:
        """A lone allOf is how older schemas put a description beside a reference."""
        parts = schema.get("allOf")
        if not isinstance(parts, list) or len(parts) != 1:
            return schema
        inner, _ = self.resolved(parts[0], original, within + 1)
        return {**inner, **{key: item for key, item in schema.items() if key != "allOf"}}

    def _target(self, reference: Any) -> Schema:
        """Where a reference within the document leads; {} where it leads out of it."""
        target: Any = self.whole
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, Mapping) else None
        return target if isinstance(target, Mapping) else {}

    def _branch(self, branches: list[Any], original: Any, within: int) -> Schema:
        """The branch the original is of; for objects of several kinds none, so JSON."""
        opened = [self.resolved(each, original, within + 1)[0] for each in branches]
        if len(opened) == 1:
            return opened[0]
        if any(_type(each) in ("object", "array", "") for each in opened):
            return {"x-union": True}
        fitting = [each for each in opened if _suits(_type(each), original)]
        return next(iter(fitting or opened), {})


def _kind(schema: Schema, original: Any) -> str:
    if schema.get("x-union"):
        return "json"
    if _choices(schema):
        return "choice"
    kind = _type(schema)
    if kind == "object" or (not kind and isinstance(original, dict)):
        return _kind_of_object(schema, original)
    if kind == "string":
        return _kind_of_text(schema, original)
    if kind == "array":
        return "lines" if _are_lines(schema, original) else "json"
    if kind in ("integer", "number", "boolean", "null"):
        return kind
    return _kind_of_value(original)


def _kind_of_object(schema: Schema, original: Any) -> str:
    if isinstance(original, dict):
        return "group"
    return "group" if _properties(schema) and (original is None or original is MISSING) else "json"


def _kind_of_text(schema: Schema, original: Any) -> str:
    formats = {"date": "date", "date-time": "datetime", "time": "time"}
    if (kind := formats.get(str(schema.get("format")))) is not None:
        return kind
    text = original if isinstance(original, str) else ""
    return "long" if len(text) > LONG or "\n" in text or "\r" in text else "text"


def _kind_of_value(original: Any) -> str:
    if isinstance(original, bool):
        return "boolean"
    if isinstance(original, int):
        return "integer"
    if isinstance(original, float):
        return "number"
    return _kind_of_text({}, original) if isinstance(original, str) else "json"


def _are_lines(schema: Schema, original: Any) -> bool:
    """A list of texts that can be told apart when they stand one on each line."""
    items = schema.get("items")
    plain = isinstance(items, Mapping) and _type(items) == "string" and not _choices(items)
    if original is None or original is MISSING:
        return plain
    return (
        plain
        and isinstance(original, list)
        and all(isinstance(x, str) and x.strip() and not re.search(r"[\r\n]", x) for x in original)
    )


def _leaf(made: TypedField, unit: str) -> TypedField:
    if made.kind == "choice":
        made.choices = _choices(made.schema)
    elif made.kind == "boolean":
        made.choices = [Choice("true", "true", True), Choice("false", "false", False)]
    made.unit = unit if made.kind in ("number", "integer", "text") else ""
    made.original_text = one_newline(_text(made))
    if "\n" in made.original_text and made.kind in ONE_LINE:  # an input would lose the newline
        made.kind = "json"
        made.original_text = one_newline(_text(made))
    made.text = made.original_text
    if made.kind in ("choice", "boolean"):
        _offer_original(made)
    made.input_type = _input_type(made)
    made.help = _help(made)
    made.attributes = _attributes(made)
    return made


def _as_json(made: TypedField) -> TypedField:
    made.kind = "json"
    return _leaf(made, "")


def _others(group: TypedField, others: dict[str, Any]) -> TypedField:
    """The keys that the schema does not name, which must not be lost."""
    made = TypedField(
        name=f"{group.name}.{OTHER}",
        key=OTHER,
        label="Other keys" if others else "More keys",
        kind="json",
        schema={},
        original=others or MISSING,
        path=group.path,
        is_other=True,
    )
    return _leaf(made, "")


def _text(made: TypedField) -> str:
    """The original as its input shows it."""
    value = made.original
    if value is MISSING or value is None or made.kind == "null":
        return ""
    if made.kind in ("choice", "boolean"):
        for choice in made.choices:
            if _same(choice.value, value):
                return choice.text
        return json.dumps(value, ensure_ascii=False)
    if made.kind == "lines":
        return "\n".join(value)
    if made.kind != "json" and isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def _offer_original(made: TypedField) -> None:
    """The empty choice where nothing may be chosen, and the original where it is none of them."""
    value = made.original
    if made.original_text and made.original_text not in {each.text for each in made.choices}:
        made.choices.insert(
            0, Choice(made.original_text, f"{made.original_text} (as it is)", value)
        )
    if made.nullable or not made.required or value is MISSING:
        made.choices.insert(0, Choice("", "not set", None))


def _input_type(made: TypedField) -> str:
    """A browser empties an input whose text is not of its type: there, a plain one is used."""
    text = made.original_text
    if made.kind in ("integer", "number") and (not text or HTML_NUMBER.fullmatch(text)):
        return "number"
    if made.kind == "date" and (not text or _moment("date", text)):
        return "date"
    if made.kind == "datetime" and text and LOCAL.fullmatch(text) and _moment("datetime", text):
        return "datetime-local"
    if made.kind == "time" and re.fullmatch(r"(\d\d:\d\d(:\d\d)?)?", text, re.ASCII):
        return "time"
    return "text"


def _help(made: TypedField) -> str:
    said = [_said(made.schema, "description"), *(note for note in _notes(made) if note)]
    return " ".join(said).strip()


def _notes(made: TypedField) -> Iterator[str]:
    schema = made.schema
    if made.kind == "lines":
        yield "One on each line."
    if made.kind == "json":
        yield "As JSON."
    if made.input_type == "text" and made.kind in ("date", "datetime", "time"):
        yield f"As {_EXAMPLES[made.kind]}."
    if made.kind in ("text", "long") and isinstance(schema.get("maxLength"), int):
        yield f"At most {schema['maxLength']:,} characters."
    if made.kind in ("integer", "number"):
        yield _range(schema)
    if made.original is MISSING and schema.get("default") is not None:
        default = json.dumps(schema["default"], ensure_ascii=False, default=str)[:80]
        yield f"Left empty: {default.strip(chr(34))}."


def _range(schema: Schema) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
    }
    said = [say.format(schema[key]) for key, say in words.items() if _is_number(schema.get(key))]
    return (" and ".join(said).capitalize() + ".") if said else ""


def _attributes(made: TypedField) -> dict[str, str]:
    """The constraints that a browser knows, unless the original breaks them: it may stay.

    No maxlength: a browser cuts what is pasted to it without a word.
    """
    found: dict[str, str] = {}
    if made.input_type == "number":
        found["step"] = "1" if made.kind == "integer" else "any"
        found |= _limits(made)
        if made.kind == "integer" and not INTEGER.fullmatch(made.original_text or "0"):
            found["step"] = "any"
    if made.input_type in ("datetime-local", "time"):
        found["step"] = "any"
    if made.kind == "text" and made.unit:
        found["inputmode"] = "decimal"
    if made.kind == "text" and (pattern := _pattern(made)):
        found["pattern"] = pattern
    may_be_empty = made.nullable or not made.required or not made.original_text
    if not may_be_empty and not made.is_textarea and made.kind != "text":
        found["required"] = ""
    return found


def _limits(made: TypedField) -> dict[str, str]:
    found = {}
    for key, name in (("minimum", "min"), ("maximum", "max")):
        limit = made.schema.get(key)
        # A browser counts the steps of whole numbers from the minimum.
        counts = isinstance(limit, int) if made.kind == "integer" else True
        if _is_number(limit) and counts and not _breaks(made.original, key, limit):
            found[name] = str(limit)
    return found


def _breaks(value: Any, key: str, limit: Any) -> bool:
    if not _is_number(value):
        return False
    return bool(value < limit if key == "minimum" else value > limit)


def _pattern(made: TypedField) -> str:
    """HTML's patterns match the whole text; JSON Schema's match anywhere in it."""
    pattern = made.schema.get("pattern")
    if not isinstance(pattern, str):
        return ""
    try:
        fits = not made.original_text or re.search(pattern, made.original_text)
    except re.error:
        return ""
    return f".*(?:{pattern}).*" if fits else ""


# What was posted


def _read(made: TypedField, data: Mapping[str, Any]) -> Any:
    if made.kind == "group":
        return _read_group(made, data)
    if isinstance(sent := data.get(made.name), str) and made.kind != "null":
        _take(made, sent)
    if _is_untouched(made):
        return made.original
    made.changed = True
    try:
        return _parsed(made)
    except Refused as refusal:
        made.errors.append(str(refusal))
        _keep_typed(made)
        return made.original


def _take(made: TypedField, sent: str) -> None:
    made.text = one_newline(sent)
    if made.kind in ONE_LINE and "\n" in made.text:
        made.kind, made.text = (
            ("long", made.text)
            if made.kind == "text"
            else (made.kind, made.text.replace("\n", " "))
        )


def _parsed(made: TypedField) -> Any:
    if "\ufffd" in made.text and "\ufffd" not in made.original_text:
        raise Refused(BROKEN)
    value = _PARSERS[made.kind](made, made.text) if made.text else _emptied(made)
    refuse_unstorable(value)
    return value


def _keep_typed(made: TypedField) -> None:
    """So that the page can be written, and the browser shows what it would empty otherwise."""
    made.text = clean(made.text)
    if made.input_type != "text":
        made.input_type, made.attributes = "text", {}
    if made.choices and made.text not in {choice.text for choice in made.choices}:
        made.choices.append(Choice(made.text, made.text, MISSING))


def _is_untouched(made: TypedField) -> bool:
    if made.text == made.original_text:
        return True
    if made.kind not in ("date", "datetime", "time"):
        return False
    # Browsers write a time as short as they can: 14:05:00 comes back as 14:05.
    before, after = _moment(made.kind, made.original_text), _moment(made.kind, made.text)
    return before is not None and before == after and _is_aware(before) == _is_aware(after)


def _read_group(made: TypedField, data: Mapping[str, Any]) -> Any:
    value = dict(made.original) if isinstance(made.original, dict) else {}
    for each in made.fields:
        got = _read(each, data)
        if not (each.changed or each.errors):
            continue
        made.changed = True
        if each.is_other:
            _merge(made, each, value, got)
        elif got is MISSING:
            value.pop(each.key, None)
        else:
            value[each.key] = got
    return value if made.changed else made.original


def _merge(group: TypedField, others: TypedField, value: dict[str, Any], got: Any) -> None:
    named = {each.key for each in group.fields if each is not others}
    if got is MISSING or got is None:
        got = {}
    if not isinstance(got, dict):
        others.errors.append('This must be a JSON object: {"name": "value"}.')
    elif twice := next((key for key in got if key in named), None):
        others.errors.append(f"“{twice[:80]}” has a field of its own above. Change it there.")
    elif not others.errors:
        for key in set(value) - named - set(got):
            del value[key]
        value.update(got)


def _emptied(made: TypedField) -> Any:
    """What an emptied input means: null where there may be none, else no key at all."""
    if made.is_other:
        return MISSING
    if made.nullable:
        return None
    if made.kind in ("text", "long"):
        return ""
    if made.kind == "lines":
        return []
    if made.required:
        raise Refused("Fill this in.")
    return MISSING


def _parse_text(made: TypedField, text: str) -> str:
    if len(text) > MAX_TEXT:
        raise Refused(f"This has {len(text):,} characters; at most {MAX_TEXT:,} can be kept.")
    return text


def _parse_lines(made: TypedField, text: str) -> list[str]:
    return [line for line in _parse_text(made, text).split("\n") if line.strip()]


def _parse_integer(made: TypedField, text: str) -> int:
    text = text.strip()
    if not INTEGER.fullmatch(text):
        raise Refused("Write a whole number, as in 60.")
    if len(text) > 30:
        raise Refused(TOO_LARGE)
    return int(text)


def _parse_number(made: TypedField, text: str) -> int | float:
    text = text.strip()
    if not NUMBER.fullmatch(text):
        raise Refused("Write a number, with a point before its decimals, as in 60.50.")
    if INTEGER.fullmatch(text) and not isinstance(made.original, float):
        return _parse_integer(made, text)
    return float(text)


def _parse_choice(made: TypedField, text: str) -> Any:
    for choice in made.choices:
        if one_newline(choice.text) == text:
            return choice.value
    raise Refused("This is none of the choices. Choose again.")


def _parse_moment(made: TypedField, text: str) -> str:
    if _moment(made.kind, text.strip()) is None:
        raise Refused(f"Write it as {_EXAMPLES[made.kind]}.")
    return text.strip()


def _moment(kind: str, text: str) -> Any:
    """The text as a date or time; None where it is none."""
    pattern, parse = _MOMENTS[kind]
    try:
        return parse(text) if pattern.fullmatch(text) else None
    except ValueError:
        return None


def _is_aware(moment: Any) -> bool:
    return getattr(moment, "tzinfo", None) is not None


def _parse_json(made: TypedField, text: str) -> Any:
    _parse_text(made, text)
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except Refused:
        raise
    except json.JSONDecodeError as error:
        raise Refused(f"This is not JSON: {error.msg}, line {error.lineno}.") from None
    except RecursionError:
        raise Refused(TOO_DEEP) from None
    except ValueError:  # an integer of thousands of digits
        raise Refused(TOO_LARGE) from None


def _no_number(name: str) -> Any:
    raise Refused(f"This holds {name}, which is no number. Take it out, or write null.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(f"The key “{clean(key)[:80]}” stands there twice. Take one of them out.")
        found[key] = value
    return found


TOO_DEEP = "This is nested too deeply to be kept. Make it flatter."
BROKEN = "This holds a character that arrived broken (half of an emoji, often). Type it again."
TOO_LARGE = "This holds a number that is too large to be stored. Make it smaller."
_TOO_LARGE = {int: 2**63, float: math.inf}
_EXAMPLES = {
    "date": "2026-11-30",
    "datetime": "2026-11-30T14:05:00+00:00",
    "time": "14:05:00",
}
_MOMENTS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "date": (DATE, dt.date.fromisoformat),
    "datetime": (DATETIME, dt.datetime.fromisoformat),
    "time": (TIME, dt.time.fromisoformat),
}
_PARSERS: dict[str, Callable[[TypedField, str], Any]] = {
    "text": _parse_text,
    "long": _parse_text,
    "lines": _parse_lines,
    "integer": _parse_integer,
    "number": _parse_number,
    "boolean": _parse_choice,
    "choice": _parse_choice,
    "date": _parse_moment,
    "datetime": _parse_moment,
    "time": _parse_moment,
    "json": _parse_json,
}


def refuse_unstorable(value: Any, depth: int = 0) -> None:
    """Raises Refused for what a checkpoint, or Postgres, could not hold."""
    if depth > MAX_DEPTH - 10:  # the value itself lies within a state
        raise Refused(TOO_DEEP)
    if isinstance(value, dict | list):
        for item in value:
            refuse_unstorable(item, depth + 1)
        for item in value.values() if isinstance(value, dict) else ():
            refuse_unstorable(item, depth + 1)
    elif isinstance(value, str) and "\x00" in value:
        raise Refused("This holds a NUL character, which cannot be stored. Remove it.")
    elif isinstance(value, str) and value != clean(value):
        raise Refused(BROKEN)
    elif _is_number(value) and not (math.isfinite(value) and abs(value) < _TOO_LARGE[type(value)]):
        raise Refused(TOO_LARGE)


# The schema's own word


def _check(root: TypedField, schema: Schema | None, value: Any) -> None:
    """Puts what the schema holds against the value beside the inputs it is about.

    A schema that cannot be used (a bad pattern, a reference out of the document: nothing is ever
    fetched) holds nothing against anything; the inputs' own types were checked before.
    """
    if not schema:
        return
    try:
        before = {_fault(error) for error in _errors(schema, root.original)}
        for error in _errors(schema, value):
            if _fault(error) not in before:
                _attach(root, error)
    except Exception:
        return


def _errors(schema: Schema, value: Any) -> Iterator[Any]:
    if value is MISSING:
        return
    kind = validator_for(schema, default=Draft202012Validator)
    checker = kind(schema, registry=referencing.Registry(), format_checker=kind.FORMAT_CHECKER)
    for error in checker.iter_errors(value):
        deepest = best_match([error])
        yield error if deepest is None else deepest


def _fault(error: Any) -> tuple[Any, ...]:
    """The same for the same mistake. A group is not compared: its other keys may have changed."""
    if error.validator == "required":
        return (*error.absolute_path, "required", *_absent(error))
    whole = "" if isinstance(error.instance, dict) else canonical(error.instance)
    return (*error.absolute_path, error.validator, whole)


def _absent(error: Any) -> list[str]:
    """The one missing key that an error is about: jsonschema says it in the message only."""
    keys = _strings(error.validator_value)
    return [key for key in keys if error.message.startswith(f"{key!r} is ")][:1]


def _attach(root: TypedField, error: Any) -> None:
    path = list(error.absolute_path)
    if error.validator == "required":
        path += _absent(error)
    made = root
    while path and (inner := _child(made, path[0])) is not None:
        made, path = inner, (path if inner.is_other else path[1:])
    where = ".".join(map(str, path))
    said = (f"{where}: " if where else "") + _words(error)
    if said not in made.errors:
        made.errors.append(said)


def _child(made: TypedField, key: Any) -> TypedField | None:
    named = next((each for each in made.fields if each.key == key and not each.is_other), None)
    return named or next((each for each in made.fields if each.is_other), None)


def _words(error: Any) -> str:
    say = _SAID.get(error.validator)
    if say is None:
        return str(error.message)[:200]
    return say.format(_plain(error.validator_value))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))[:200]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _KINDS.get(text, text)[:200]


_SAID = {
    "required": "Fill this in.",
    "type": "This must be {}.",
    "enum": "This must be one of: {}.",
    "const": "This must be {}.",
    "minimum": "This must be at least {}.",
    "maximum": "This must be at most {}.",
    "exclusiveMinimum": "This must be more than {}.",
    "exclusiveMaximum": "This must be less than {}.",
    "multipleOf": "This must be a multiple of {}.",
    "minLength": "This is too short: at least {} characters.",
    "maxLength": "This is too long: at most {} characters.",
    "minItems": "There must be at least {} of these.",
    "maxItems": "There may be at most {} of these.",
    "uniqueItems": "Each of these may stand here once.",
    "pattern": "This does not have the form that is asked for: {}",
    "format": "This is not a valid {}.",
}
_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "date-time": "date and time",
}


# Small readings of a schema, which may hold anything


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    if isinstance(kind := schema.get("type"), str):
        return kind
    return "object" if _properties(schema) else ""


def _one_type(kinds: list[Any], original: Any) -> str:
    """Of several the one the original has; "" (so JSON) where a list or an object may stand."""
    if len(kinds) == 1 or not {"array", "object"} & set(map(str, kinds)):
        return str(next((k for k in kinds if _suits(k, original)), kinds[0] if kinds else ""))
    return ""


def _suits(kind: Any, value: Any) -> bool:
    suited: dict[str, Any] = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": _is_number(value),
        "null": value is None,
    }
    return bool(suited.get(str(kind), False))


def _properties(schema: Schema) -> Mapping[str, Any]:
    known = schema.get("properties")
    return known if isinstance(known, Mapping) else {}


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _said(schema: Schema, key: str) -> str:
    text = schema.get(key)
    return text.strip() if isinstance(text, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        schema.get("type") == "null" or ("const" in schema and schema["const"] is None)
    )


def _titled(branches: list[Any]) -> bool:
    """Choices with a title each: oneOf of const."""
    return bool(branches) and all(isinstance(b, Mapping) and "const" in b for b in branches)


def _branches(schema: Schema) -> list[Any]:
    """The kinds of value to choose from; [] where the schema says the kind beside them."""
    found = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(found, list) or "type" in schema or "properties" in schema:
        return []
    return [] if _titled(found) else found


def _choices(schema: Schema) -> list[Choice]:
    branches = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(branches, list) and _titled(branches):
        return _named([(b["const"], _said(b, "title")) for b in branches])
    if "const" in schema:
        return _named([(schema["const"], "")])
    listed = schema.get("enum")
    if not isinstance(listed, list):
        return []
    names = _strings(schema.get("enumNames")) if "enumNames" in schema else []
    names = names if len(names) == len(listed) else [""] * len(listed)
    return _named([pair for pair in zip(listed, names, strict=True) if pair[0] is not None])


def _named(pairs: list[tuple[Any, str]]) -> list[Choice]:
    """Texts stand for themselves, unless that would be ambiguous; all else stands as JSON."""
    plain = all(isinstance(value, str) and value for value, _ in pairs)
    found = []
    for value, title in pairs:
        text = one_newline(value) if plain else json.dumps(value, ensure_ascii=False)
        found.append(Choice(text, title or text, value))
    return found


def _same(one: Any, other: Any) -> bool:
    """Equal with types: 1 is not true, 5 is not 5.0."""
    return canonical(one) == canonical(other)


def _label(schema: Schema, key: str) -> str:
    if key == "":
        return _said(schema, "title") or "Value"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key).replace("_", " ").replace("-", " ").strip()
    title = _said(schema, "title")
    # Pydantic's titles are the key again, with Every Word In Capitals.
    said = (
        words if title.replace(" ", "").lower() in ("", words.replace(" ", "").lower()) else title
    )
    return (said[:1].upper() + said[1:]) or "“”"


def _unit(schema: Any, key: str, siblings: Mapping[str, Any]) -> str:
    own = schema if isinstance(schema, Mapping) else {}
    for name in ("x-currency", "currency", "x-unit"):
        if isinstance(own.get(name), str):
            return str(own[name])[:16]
    beside = siblings.get("currency")
    is_money = MONEY.search(key) and not MINOR.search(key)
    return beside if is_money and isinstance(beside, str) and 0 < len(beside) <= 8 else ""


# In a Django form


class SchemaWidget(forms.Widget):
    """All inputs of a value; what it reads from a post is the post itself."""

    use_fieldset = True
    owner: "SchemaField"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return data

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        return render(self.owner.inputs)


class SchemaField(forms.Field):
    """A value with a schema as one field of a form, called by its prefix.

    Add it to `form.fields[prefix]`. `inputs` are what `_widgets.html` shows, as they were typed
    once the form was cleaned, and `reading` is what came of them.
    """

    widget: SchemaWidget = SchemaWidget  # type: ignore[assignment]

    def __init__(self, prefix: str, schema: Schema | None, original: Any, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)
        self.prefix, self.schema, self.original = prefix, schema, original
        self.widget.owner = self
        self.root = tree_for(prefix, schema, original)
        self.reading: Reading | None = None

    @property
    def inputs(self) -> list[TypedField]:
        return inputs(self.reading.root if self.reading else self.root)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return read(self.prefix, self.schema, self.original, data or {}).changed

    def clean(self, value: Any) -> Any:
        self.reading = read(self.prefix, self.schema, self.original, value or {})
        if wrong := self.reading.errors:
            raise forms.ValidationError(_summary(self.reading.root, wrong))
        return self.reading.value


def _summary(root: TypedField, wrong: Mapping[str, list[str]]) -> str:
    labels = [each.label for each in root.walk() if each.name in wrong and each is not root]
    return " ".join([*root.errors, f"Look at: {', '.join(labels)}." if labels else ""]).strip()


def render(fields: list[TypedField]) -> SafeString:
    """The inputs as HTML, for where no template includes `_widgets.html`."""
    return render_to_string("_widgets.html", {"fields": fields})
