"""What was posted, read back into the value that a tree of inputs was made from."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.translation import gettext as _

from approvals.plain import clean
from approvals.schema_input import (
    EXAMPLES,
    INTEGER,
    MISSING,
    NUMBER,
    Option,
    TypedField,
    counted,
    is_moment,
)
from approvals.storable import (
    TOO_DEEP,
    TOO_LARGE,
    Refused,
    one_newline,
    refuse_broken_text,
    refuse_unstorable,
)

MAX_TEXT = 1_000_000  # characters


def value_of(made: TypedField, data: Mapping[str, Any]) -> Any:
    """What the inputs say. Notes in the tree what was typed, changed and is wrong."""
    if made.kind == "group":
        return _group(made, data)
    if isinstance(sent := data.get(made.name), str) and made.kind != "null":
        made.text = one_newline(sent)
    if _is_untouched(made):
        return made.original
    made.changed = True
    try:
        return _parsed(made)
    except Refused as refusal:
        made.errors.append(str(refusal))
        _keep_typed(made)
        return made.original


def parse_json(text: str) -> Any:
    """Raises Refused for what is no JSON, or JSON that could not be kept."""
    _parse_text(text)
    try:
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except Refused:
        raise
    except json.JSONDecodeError as error:
        said = _(
            "This is not JSON: %(wrong)s, line %(line)s. "
            'A text needs its quotes: "yes"; a list is ["a", "b"], an object {"ok": true}.'
        )
        raise Refused(said % {"wrong": error.msg, "line": error.lineno}) from None
    except RecursionError:
        raise Refused(TOO_DEEP) from None
    except ValueError:  # an integer of thousands of digits
        raise Refused(TOO_LARGE) from None
    refuse_unstorable(value)
    return value


def _parsed(made: TypedField) -> Any:
    if not made.text:
        return _emptied(made)
    if made.kind == "choice":
        return _parse_choice(made)
    refuse_broken_text(made.text, made.original_text)
    value = _PARSERS[made.kind](made.text)
    refuse_unstorable(value)
    return float(value) if made.kind == "number" and isinstance(made.original, float) else value


def _keep_typed(made: TypedField) -> None:
    """So that the page can be written, and its select shows what it does not offer."""
    made.text = clean(made.text)
    if made.choices and made.text not in {each.text for each in made.choices}:
        made.choices.append(Option(made.text, made.text, MISSING))


def _is_untouched(made: TypedField) -> bool:
    if made.text == made.original_text:
        return True
    # Browsers write a time as short as they can: 14:05:00 comes back as 14:05.
    shortest = made.original_text.removesuffix(":00")
    return made.kind in ("datetime", "time") and made.text == shortest


def _group(made: TypedField, data: Mapping[str, Any]) -> Any:
    value = dict(made.original) if isinstance(made.original, dict) else {}
    for each in made.fields:
        got = value_of(each, data)
        if not each.changed:
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
    got = {} if got is MISSING or got is None else got
    if not isinstance(got, dict):
        others.errors.append('This must be a JSON object: {"name": "value"}.')
    elif twice := next((key for key in got if key in named), None):
        said = _("“%(key)s” has a field of its own above. Change it there.")
        others.errors.append(said % {"key": twice[:80]})
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
        raise Refused(_("Fill this in."))
    return MISSING


def _parse_text(text: str) -> str:
    if len(text) > MAX_TEXT:
        said = _("This has %(length)s characters; at most %(limit)s can be kept.")
        raise Refused(said % {"length": counted(len(text)), "limit": counted(MAX_TEXT)})
    return text


def _parse_lines(text: str) -> list[str]:
    return [line for line in _parse_text(text).split("\n") if line.strip()]


def _parse_integer(text: str) -> int:
    if not INTEGER.fullmatch(text.strip()):
        raise Refused(_("Write a whole number, as in 60."))
    try:
        return int(text)
    except ValueError:  # thousands of digits
        raise Refused(TOO_LARGE) from None


def _parse_number(text: str) -> int | float:
    if not NUMBER.fullmatch(text.strip()):
        raise Refused(_("Write a number, with a point before its decimals, as in 60.50."))
    return _parse_integer(text) if INTEGER.fullmatch(text.strip()) else float(text)


def _parse_choice(made: TypedField) -> Any:
    for each in made.choices:
        if each.text == made.text:
            return each.value
    raise Refused(_("This is none of the choices. Choose again."))


def _moment_of(kind: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not is_moment(kind, text.strip()):
            raise Refused(_("Write it as %(example)s.") % {"example": EXAMPLES[kind]})
        return text.strip()

    return parse


def _no_number(name: str) -> Any:
    said = _("This holds %(name)s, which is no number. Take it out, or write null.")
    raise Refused(said % {"name": name})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            said = _("The key “%(key)s” stands there twice. Take one of them out.")
            raise Refused(said % {"key": clean(key)[:80]})
        found[key] = value
    return found


_PARSERS: dict[str, Callable[[str], Any]] = {
    "text": _parse_text,
    "long": _parse_text,
    "lines": _parse_lines,
    "integer": _parse_integer,
    "number": _parse_number,
    **{kind: _moment_of(kind) for kind in EXAMPLES},
    "json": parse_json,
}
