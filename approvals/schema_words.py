"""What is wrong with a value by its JSON Schema, in words for people."""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _
from jsonschema.exceptions import ValidationError, best_match

from approvals.plain import JSON
from approvals.schemas import Schema, strings, validator

MAX_SHOWN = 80  # characters of a value in a message

WORDS: Mapping[str, str] = {
    "type": _("must be {}"),
    "enum": _("must be one of {}"),
    "const": _("must be {}"),
    "minimum": _("must be at least {}"),
    "maximum": _("must be at most {}"),
    "exclusiveMinimum": _("must be more than {}"),
    "exclusiveMaximum": _("must be less than {}"),
    "multipleOf": _("must be a multiple of {}"),
    "minLength": _("must have at least {} characters"),
    "maxLength": _("must have at most {} characters"),
    "minItems": _("must have at least {} entries"),
    "maxItems": _("must have at most {} entries"),
    "uniqueItems": _("may hold each entry only once"),
    "pattern": _("must match the pattern {}"),
    "format": _("must be a valid {}"),
    "required": _("is missing"),
    "additionalProperties": _("is not known here"),
}
ARGUMENTS = _("The arguments")
KINDS: Mapping[str, str] = {
    "string": _("text"),
    "number": _("a number"),
    "integer": _("a whole number"),
    "boolean": _("true or false"),
    "object": _("an object, { … }"),
    "array": _("a list, [ … ]"),
    "null": _("null"),
}


def fault(value: JSON, schema: Schema | None, what: str = _("The answer")) -> str:
    """What is wrong with a value, for people; "" where nothing is.

    Nothing is where the schema itself is broken, which is not the person's fault: LangGraph checks
    the answer once more. References are followed inside the schema only, never over a network.
    """
    if schema is None:
        return ""
    try:
        found = best_match(validator(schema).iter_errors(value))
    except Exception:  # not a schema, or one that points outside or runs in a circle
        return ""
    return _in_words(found, gettext(what)) if found else ""


def _in_words(error: ValidationError, what: str) -> str:
    path = [str(step) for step in place(error)]
    return f"“{'.'.join(path)}” {predicate(error)}." if path else f"{what} {predicate(error)}."


def place(error: ValidationError) -> list[str | int]:
    """Where in the value, down to the key that is missing or too many."""
    return [*error.absolute_path, *_culprit(error)]


def predicate(error: ValidationError) -> str:
    """What a sentence about the value says: "must be at most 9"."""
    rule, wanted = _unified(error)
    if rule not in WORDS or (rule == "additionalProperties" and not _culprit(error)):
        return gettext("does not fit: {}").format(error.message[: 3 * MAX_SHOWN])
    return gettext(WORDS[rule]).format(_wanted(rule, wanted))


def _unified(error: ValidationError) -> tuple[str, Any]:
    """The rule that is broken, and what it wants: alternatives that only differ in type are one."""
    if error.context and all(each.validator == "type" for each in error.context):
        return "type", [each.validator_value for each in error.context]
    return str(error.validator), error.validator_value


def _culprit(error: ValidationError) -> list[str]:
    """The key that the error is about: its path ends at what surrounds it."""
    if error.validator == "required":  # one error for each, which only its message names
        absent = [name for name in strings(error.validator_value) if name not in error.instance]
        return [name for name in absent if error.message.startswith(f"{name!r} is ")][:1]
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return [name for name in error.instance if name not in known][:1]
    return []


def _wanted(rule: str, wanted: Any) -> str:
    several = wanted if rule in ("type", "enum") and isinstance(wanted, list) else [wanted]
    if rule == "type":
        return gettext(" or ").join(gettext(KINDS.get(kind, str(kind))) for kind in several)
    return ", ".join(_shown(each) for each in several)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:MAX_SHOWN]
