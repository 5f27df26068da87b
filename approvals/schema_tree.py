"""A JSON value and its JSON Schema as a tree of inputs."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from approvals import schemas
from approvals.schema_input import MISSING, Option, TypedField, shown
from approvals.schemas import MAX_HOPS, Schema, as_dict, followed, strings, without
from approvals.storable import is_number, one_newline

MAX_GROUPS = 3  # levels of fieldsets; what is deeper is edited as JSON
MAX_FIELDS = 150  # of one value; Django refuses a form of more than a thousand
LONG = 80  # characters; longer texts get more than one line

ESCAPES = str.maketrans({"~": "~0", ".": "~1", "\n": "~2", "\r": "~3"})
OTHER = "~other"  # no escaped key can be called so
ANY_JSON: Schema = {"x-any": True}  # a value of which no input but JSON could hold every kind
FORMATS = {"date": "date", "date-time": "datetime", "time": "time"}
TYPES: list[tuple[str, type]] = [  # of Python; a bool is an int as well
    ("boolean", bool),
    ("integer", int),
    ("number", float),
    ("string", str),
    ("object", dict),
    ("array", list),
    ("null", type(None)),
]
MONEY = re.compile(r"amount|price|total|cost|fee|sum$|balance|refund", re.I)
MINOR = re.compile(r"cents|minor|pence", re.I)


def tree_for(prefix: str, schema: Mapping[str, Any] | None, original: Any) -> TypedField:
    """The whole value as one field; with fewer levels of groups if there were too many inputs."""
    whole = dict(schema) if isinstance(schema, Mapping) else {}
    for depth in range(MAX_GROUPS, -1, -1):
        root = _Maker(whole, depth).field(prefix, "", whole, original)
        if sum(1 for _ in root.walk()) <= MAX_FIELDS:
            return root
    return _Maker(whole, -1).field(prefix, "", whole, original)


@dataclass(frozen=True)
class _Maker:
    whole: Schema  # what local references point into
    depth: int  # how many levels of groups there may be below the first; -1: not even that

    def field(
        self,
        name: str,
        key: str,
        said: Any,
        original: Any,
        *,
        required: bool = True,
        level: int = 0,
    ) -> TypedField:
        schema, nullable = self._resolved(said, original)
        kind = _kind(schema, original)
        made = TypedField(
            name=name,
            key=key,
            label=_label(schema, key),
            kind="json" if kind == "group" and level > self.depth else kind,
            schema=schema,
            original=original,
            required=required,
            nullable=nullable or original is None,
        )
        return self._group(made, level) if made.kind == "group" else _filled(made)

    def _group(self, made: TypedField, level: int) -> TypedField:
        given, known = as_dict(made.original), schemas.properties(made.schema)
        asked, open_to = schemas.required(made.schema), made.schema.get("additionalProperties")
        if not known:
            known, asked = dict.fromkeys(given, as_dict(open_to)), list(given)
        for key, said in known.items():
            name, value = f"{made.name}.{key.translate(ESCAPES)}", given.get(key, MISSING)
            field = self.field(name, key, said, value, required=key in asked, level=level + 1)
            field.unit = _unit(field, given)
            made.fields.append(field)
        others = {key: item for key, item in given.items() if key not in known}
        if others or open_to:
            made.fields.append(_others(made, others))
        return made

    def _resolved(self, said: Any, original: Any) -> tuple[Schema, bool]:
        """Without references and the choice of null, and whether null is one of the choices."""
        schema, nullable = followed(said, self.whole), False
        for _ in range(MAX_HOPS):
            if not (branches := _branches(schema)):
                break
            some = [each for each in branches if not _is_null(each)]
            nullable = nullable or len(some) < len(branches)
            rest = without(schema, "anyOf", "oneOf", "allOf")
            chosen = {"oneOf": some} if _are_titled(some) else self._branch(some, original)
            schema = followed({**chosen, **rest}, self.whole)
        if isinstance(schema.get("type"), list):
            kinds = strings(schema["type"])
            nullable = nullable or "null" in kinds
            schema = {**schema, "type": _one_type([k for k in kinds if k != "null"], original)}
        listed = schema.get("enum")
        return schema, nullable or (isinstance(listed, list) and None in listed)

    def _branch(self, branches: list[Any], original: Any) -> Schema:
        """The branch the original is of; for objects of several kinds, none."""
        opened = [followed(each, self.whole) for each in branches]
        if len(opened) > 1 and any(_type(each) in ("object", "array", "") for each in opened):
            return ANY_JSON
        fitting = [each for each in opened if _suits(_type(each), original)]
        return next(iter(fitting or opened), {})


def _branches(schema: Schema) -> list[Any]:
    """The kinds of value to choose from; [] where the schema says the kind beside them.

    An allOf of one is how older schemas put a description beside a reference.
    """
    found = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if not isinstance(found, list) or "type" in schema or "properties" in schema:
        return []
    is_all = not (schema.get("anyOf") or schema.get("oneOf"))
    return [] if _are_titled(found) or (is_all and len(found) > 1) else found


def _are_titled(branches: list[Any]) -> bool:
    """Choices with a title each: oneOf of const."""
    return bool(branches) and all("const" in as_dict(each) for each in branches)


def _is_null(schema: Any) -> bool:
    return as_dict(schema).get("type") == "null"


def _type(schema: Schema) -> str:
    if isinstance(kind := schema.get("type"), str):
        return kind
    return "object" if schemas.properties(schema) else ""


def _one_type(kinds: list[str], original: Any) -> str:
    return next((kind for kind in kinds if _suits(kind, original)), kinds[0] if kinds else "")


def _suits(kind: str, value: Any) -> bool:
    if kind == "integer":
        return is_number(value) and (isinstance(value, int) or value.is_integer())
    return kind == _type_of(value) or (kind == "number" and is_number(value))


def _type_of(value: Any) -> str:
    return next((name for name, kind in TYPES if isinstance(value, kind)), "")


def _kind(schema: Schema, original: Any) -> str:
    """How the value is edited. One that is not of its schema's type is edited as JSON."""
    is_there = original is not None and original is not MISSING
    if "x-any" in schema:
        return "json"
    if _options(schema):
        return "choice"
    kind = _type(schema) or (_type_of(original) if is_there else "")
    if is_there and not _suits(kind, original):
        return "json"
    if kind == "object":
        return "group" if is_there or schemas.properties(schema) else "json"
    if kind == "string":
        return _kind_of_text(schema, original if is_there else "")
    if kind == "array":
        return "lines" if _are_lines(schema, original if is_there else []) else "json"
    if kind == "integer":
        return "number" if isinstance(original, float) else "integer"
    return {"number": "number", "boolean": "choice", "null": "null"}.get(kind, "json")


def _kind_of_text(schema: Schema, text: str) -> str:
    if "\n" in text or "\r" in text:
        return "long"
    return FORMATS.get(str(schema.get("format")), "long" if len(text) > LONG else "text")


def _are_lines(schema: Schema, items: list[Any]) -> bool:
    """A list of texts that can be told apart when they stand one on each line."""
    each = as_dict(schema.get("items"))
    is_plain = _type(each) == "string" and not _options(each)
    return is_plain and all(
        isinstance(item, str) and item.strip() and not re.search(r"[\r\n]", item) for item in items
    )


def _filled(made: TypedField) -> TypedField:
    if made.kind == "choice":
        made.choices = _options(made.schema) or _named([(True, ""), (False, "")])
    made.text = made.original_text = shown(made, made.original)
    if made.kind == "choice":
        _offer_original(made)
    return made


def _offer_original(made: TypedField) -> None:
    """The empty choice where nothing may be chosen, and the original where it is none of them."""
    text = made.original_text
    if text and text not in {each.text for each in made.choices}:
        made.choices.insert(
            0, Option(text, gettext("%(value)s (as it is)") % {"value": text}, made.original)
        )
    if made.nullable or not made.required or made.original is MISSING:
        made.choices.insert(0, Option("", gettext("not set"), None))


def _others(group: TypedField, others: dict[str, Any]) -> TypedField:
    """The keys that the schema does not name, which must not be lost."""
    label = gettext("Other keys") if others else gettext("More keys")
    made = TypedField(f"{group.name}.{OTHER}", OTHER, label, "json", {}, others or MISSING)
    made.is_other = True
    return _filled(made)


def _options(schema: Schema) -> list[Option]:
    branches = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(branches, list) and _are_titled(branches):
        return _named([(each["const"], _said(each, "title")) for each in branches])
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    known = listed if isinstance(listed, list) else []
    return _named([(value, "") for value in known if value is not None])


def _named(pairs: list[tuple[Any, str]]) -> list[Option]:
    """Texts stand for themselves, unless that would be ambiguous; all else stands as JSON."""
    are_plain = all(isinstance(value, str) and value for value, _ in pairs)
    found = []
    for value, title in pairs:
        text = one_newline(value) if are_plain else json.dumps(value, ensure_ascii=False)
        found.append(Option(text, title or text, value))
    return found


def _said(schema: Schema, key: str) -> str:
    return text.strip() if isinstance(text := schema.get(key), str) else ""


def _label(schema: Schema, key: str) -> str:
    title = _said(schema, "title")
    if not key:
        return title or gettext("Value")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]", " ", key).strip()
    # Pydantic's titles are the key again, with Every Word In Capitals.
    is_key = title.replace(" ", "").lower() in ("", words.replace(" ", "").lower())
    label = words if is_key else title
    return label[:1].upper() + label[1:] or "“”"


def _unit(made: TypedField, siblings: dict[str, Any]) -> str:
    """The currency of an amount, which stands beside it, or in its schema."""
    if made.kind not in ("number", "integer", "text"):
        return ""
    if own := _said(made.schema, "x-currency"):
        return own[:16]
    beside = siblings.get("currency")
    if not MONEY.search(made.key) or not isinstance(beside, str) or not 0 < len(beside) <= 8:
        return ""
    in_minor = MINOR.search(made.key)
    return gettext("%(currency)s, in minor units") % {"currency": beside} if in_minor else beside
