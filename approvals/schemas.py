"""Small readings of a JSON Schema, which may hold anything, and the validator of values by one.

Nothing is ever fetched: a reference that leads out of the document leads nowhere.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend, validator_for
from pydantic_core import SchemaError, SchemaValidator, core_schema
from pydantic_core import ValidationError as Mismatch
from referencing import Registry

Schema: TypeAlias = dict[str, Any]

MAX_HOPS = 20  # from $ref to $ref, which may lead in a circle


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def properties(schema: Schema) -> dict[str, Any]:
    return as_dict(schema.get("properties"))


def required(schema: Schema) -> list[str]:
    return strings(schema.get("required"))


def without(schema: Schema, *keys: str) -> Schema:
    return {key: item for key, item in schema.items() if key not in keys}


def followed(node: object, root: Schema) -> Schema:
    """What a node says once its local references are followed; {} if they lead nowhere."""
    found = as_dict(node)
    for _ in range(MAX_HOPS):
        if "$ref" not in found:
            return found
        found = {**_pointed(found["$ref"], root), **without(found, "$ref")}
    return {}


def _pointed(ref: object, root: Schema) -> Schema:
    if not (isinstance(ref, str) and ref.startswith("#")):
        return {}
    found: object = root
    for step in unquote(ref).split("/")[1:]:
        found = as_dict(found).get(step.replace("~1", "/").replace("~0", "~"))
    return as_dict(found)


def is_sound(schema: object) -> bool:
    """Whether it is a JSON Schema that a form can be made from."""
    try:
        validator(schema)
    except Exception:  # not a schema; SchemaError, or what its odd shape trips over
        return False
    return True


def validator(schema: object) -> Any:
    """Raises whatever comes where it is no sound schema."""
    if not isinstance(schema, dict):
        raise TypeError("a schema is a dict")
    if json.dumps(schema).count('"$schema": "') > ("$schema" in schema):
        raise ValueError("a draft within a draft would match patterns by its own rules")
    kind = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema, format_checker=_OF_SCHEMAS)
    return _bounded(kind)(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


# Patterns come from foreign tools, and `re` can take for ever over one: they are matched by the
# engine pydantic brings, in linear time. What it does not know (lookahead) is not checked here.


@lru_cache(maxsize=512)
def _engine(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None


def matches(pattern: object, text: str) -> bool | None:
    """Whether the pattern is found anywhere in the text; None where that cannot be said."""
    if not isinstance(pattern, str) or (engine := _engine(pattern)) is None:
        return None
    try:
        engine.validate_python(text)
    except Mismatch:
        return False
    return True


def _pattern(validator: Any, pattern: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and matches(pattern, value) is False:
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _additional(validator: Any, allowed: Any, value: Any, schema: Any) -> Any:
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](
            validator, allowed, value, schema
        )


def _unchecked(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """For keywords that match keys by `re`; no tool's arguments are named by patterns."""
    yield from ()


@lru_cache(maxsize=16)
def _bounded(kind: Any) -> Any:
    keywords = {"pattern": _pattern, "additionalProperties": _additional}
    unchecked = dict.fromkeys(["patternProperties", "unevaluatedProperties"], _unchecked)
    return extend(kind, {**keywords, **unchecked})


_OF_SCHEMAS = FormatChecker(formats=())


@_OF_SCHEMAS.checks("regex", raises=re.error)
def _is_pattern(text: object) -> bool:
    return not isinstance(text, str) or _engine(text) is not None or bool(re.compile(text))
