"""What a compiled graph declares of its state's fields and its tools: as JSON Schema, and back.

A reviewer's edit is JSON. LangGraph writes it into the state as it comes, so without this a date
would become a text, and a model a dict.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import (
    Annotated,
    Any,
    Literal,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from weakref import WeakKeyDictionary

import typing_extensions
from jsonschema import Draft202012Validator, FormatChecker
from langchain_core.messages import BaseMessage
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation

Schema = dict[str, Any]

NUMBER = re.compile(r"\s*[-+]?[\d._]+\s*$")
MINUS_DAYS = re.compile(r"\s*-\d+ days?,")
BINARY = {"binary", "base64url", "base64"}
_QUALIFIERS = {
    kind
    for module in ("typing", "typing_extensions")
    for name in ("Required", "NotRequired", "ReadOnly")
    if (kind := getattr(sys.modules[module], name, None)) is not None
}


@dataclass(frozen=True)
class Declared:
    """One field's type. `free`: anything may be written; no `adapter` then means nothing may."""

    free: bool
    adapter: TypeAdapter[Any] | None = None
    schema: Schema | None = None
    extra: Literal["allow", "forbid"] | None = None
    refusal: str = ""


FREE = Declared(free=True)

# By builder, which the copies of a compiled graph share.
_fields: WeakKeyDictionary[Any, dict[str, Declared]] = WeakKeyDictionary()
_tools: WeakKeyDictionary[Any, dict[str, Schema]] = WeakKeyDictionary()


def schema_of(compiled: Any, name: str) -> Schema | None:
    """The JSON Schema of a field of the state, which the caller must not change.

    None where the type is unknown, open (`Any`, messages) or has no form in JSON. Never raises.
    """
    return _declared(compiled, name).schema


def coerce(compiled: Any, name: str, value: Any) -> Any:
    """A JSON value as the type the state declares: a date, an enum, a model, a list of them.

    Strict, as pydantic is in JSON: "5" is no number, 1 is not true. What has no declared type is
    returned as it is. Raises ValueError with what is wrong, and where in the value.
    """
    declared = _declared(compiled, name)
    if declared.free:
        return value
    if declared.adapter is None:
        raise ValueError(declared.refusal)
    _refuse_misread(declared.schema, value)
    try:
        # A value is shown under its attributes' names; an alias is what the type asks for.
        return declared.adapter.validate_json(
            json.dumps(value, allow_nan=False),
            strict=True,
            by_alias=True,
            by_name=True,
            extra=declared.extra,
        )
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    except ValueError:
        raise ValueError("This holds something that is no number (NaN or infinity).") from None
    except Exception as error:  # a validator is the graph author's own code
        raise ValueError(f"The graph's type refuses this: {error!r}"[:300]) from None


def tool_schemas(compiled: Any) -> dict[str, Schema]:
    """The arguments of every tool in a `ToolNode` of the graph or its subgraphs, by tool name.

    Injected arguments are left out. Never raises: a tool without a schema is not in it.
    """
    builder = getattr(compiled, "builder", None)
    if builder is None:
        return _found_tools(compiled)
    if builder not in _tools:
        _tools[builder] = _found_tools(compiled)
    return _tools[builder]


def _declared(compiled: Any, name: str) -> Declared:
    builder = getattr(compiled, "builder", None)
    if builder is None:
        return FREE
    known = _fields.setdefault(builder, {})
    if name not in known:
        known[name] = _declare(_hint(builder, name))
    return known[name]


def _hint(builder: Any, name: str) -> Any:
    """The declared type; Any where there is none."""
    for schema in (builder.state_schema, *builder.schemas):
        try:
            if name in (hints := _hints(schema)):
                return hints[name]
        except Exception:  # noqa: S112  # a forward reference that nobody can resolve
            continue
    return Any


def _hints(schema: Any) -> dict[str, Any]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        # Their Field(ge=…) is not in the annotation.
        return {
            name: Annotated[(info.annotation, *info.metadata, info.description)]
            for name, info in schema.model_fields.items()
        }
    return get_type_hints(schema, include_extras=True)


def _declare(hint: Any) -> Declared:
    hint = _unqualified(hint)
    if _is_free(hint):
        return FREE
    try:
        adapter = _adapter(hint)
    except PydanticUndefinedAnnotation:
        return FREE
    except Exception:
        return Declared(free=False, refusal="Its type has no form in JSON, so it stays as it is.")
    return _with_schema(adapter, hint)


def _with_schema(adapter: TypeAdapter[Any], hint: Any) -> Declared:
    try:
        schema = adapter.json_schema(by_alias=False)
    except Exception:  # an instance of a plain class, a function
        return Declared(free=False, adapter=adapter)
    if _holds_bytes(schema):
        return Declared(free=False, refusal="This holds bytes, which cannot be edited here.")
    said = [each for each in get_args(hint)[1:] if isinstance(each, str)]
    if get_origin(hint) is Annotated and said:
        schema.setdefault("description", said[0])
    return Declared(False, adapter, schema, extra=_extra(hint, schema))


def _extra(hint: Any, schema: Schema) -> Literal["allow", "forbid"] | None:
    """What becomes of keys that the type does not name: left to it, pydantic drops them unsaid."""
    if any(is_typeddict(part) for part in _parts(hint)):
        return "allow"
    is_open = any(each.get("additionalProperties") is True for each in _subschemas(schema))
    return None if is_open else "forbid"


def _subschemas(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, dict):
        yield schema
    parts = schema.values() if isinstance(schema, dict) else schema
    for part in parts if isinstance(schema, dict | list) else ():
        yield from _subschemas(part)


def _is_free(hint: Any) -> bool:
    return hint in (Any, object) or any(
        isinstance(each, type) and issubclass(each, BaseMessage) for each in _parts(hint)
    )


def _parts(hint: Any) -> Iterator[Any]:
    """A type and all that it is put together from, short of the fields of classes."""
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _unqualified(hint: Any) -> Any:
    """Without NotRequired and its like, which pydantic takes inside a TypedDict only."""
    while get_origin(hint) in _QUALIFIERS:
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) in _QUALIFIERS:
        return Annotated[(_unqualified(get_args(hint)[0]), *hint.__metadata__)]
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return inner if inner in (Any, object) else hint


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except PydanticUserError as error:
        if error.code != "typed-dict-version":
            raise
        return TypeAdapter(_extended(hint, {}))


def _extended(hint: Any, made: dict[Any, Any]) -> Any:
    """The type with `typing`'s TypedDicts as `typing_extensions`': before Python 3.12 pydantic
    reads no others. `made` is what ends a type that holds itself.
    """
    if is_typeddict(hint):
        return made[hint] if hint in made else _extended_dict(hint, made)
    parts = get_args(hint)
    if not parts or get_origin(hint) is None:
        return hint
    if get_origin(hint) is Annotated:
        return Annotated[(_extended(parts[0], made), *hint.__metadata__)]
    return _rebuilt(hint, tuple(_extended(part, made) for part in parts))


def _rebuilt(hint: Any, parts: tuple[Any, ...]) -> Any:
    if parts == get_args(hint):
        return hint
    if hasattr(hint, "copy_with"):
        return hint.copy_with(parts)
    if get_origin(hint).__module__ == "types":  # int | None
        return reduce(or_, parts)
    return get_origin(hint)[parts]


def _extended_dict(kind: Any, made: dict[Any, Any]) -> Any:
    made[kind] = copy = typing_extensions.TypedDict(kind.__name__, {})  # type: ignore[operator]
    hints = get_type_hints(kind, include_extras=True)
    required = {name for name, hint in hints.items() if _is_required(kind, name, hint)}
    copy.__annotations__ = {
        name: _extended(_unqualified(hint), made) for name, hint in hints.items()
    }
    copy.__required_keys__ = frozenset(required)
    copy.__optional_keys__ = frozenset(hints.keys() - required)
    copy.__module__, copy.__doc__ = kind.__module__, kind.__doc__
    return copy


def _is_required(kind: Any, name: str, hint: Any) -> bool:
    """`__required_keys__` does not see a NotRequired that is written as a string."""
    origin = str(get_origin(hint))
    if origin.endswith(".NotRequired"):
        return False
    return origin.endswith(".Required") or name in kind.__required_keys__


def _holds_bytes(schema: Schema) -> bool:
    found = _subschemas(schema)
    return any(each.get("type") == "string" and each.get("format") in BINARY for each in found)


def _refuse_misread(schema: Schema | None, value: Any) -> None:
    """Raises ValueError for texts that pydantic takes for something else than they say.

    Digits alone are seconds since 1970 to it. "-1 day, 23:00:00", which is how Python writes
    minus one hour, is minus 47 hours.
    """
    if schema is None:
        return
    try:
        errors = _leaves(Draft202012Validator(schema, format_checker=_SAID).iter_errors(value))
        wrong = next((error for error in errors if error.validator == "format"), None)
    except Exception:  # pydantic is the judge; this only looks for what it lets pass
        return
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path))
        raise ValueError((f"{where}: " if where else "") + _HOW_TO_SAY[wrong.validator_value])


def _leaves(errors: Iterable[Any]) -> Iterator[Any]:
    """The errors, and those that lie within them: of the branches of an anyOf."""
    for error in errors:
        yield error
        yield from _leaves(error.context)


_HOW_TO_SAY = {
    "date": "Write the date as 2026-11-30.",
    "date-time": "Write the time as 2026-11-30T14:05:00+00:00.",
    "time": "Write the time as 14:05:00.",
    "duration": "Write the duration as ISO 8601 does: PT1H, or -PT1H.",
}
_SAID = FormatChecker(formats=())
for _format in ("date", "date-time", "time"):
    _SAID.checks(_format)(lambda text: not isinstance(text, str) or not NUMBER.match(text))
_SAID.checks("duration")(lambda text: not isinstance(text, str) or not MINUS_DAYS.match(text))


def _first(error: ValidationError) -> str:
    """The first fault in one line, with its place: "lines.0.price: Input should be a …"."""
    one = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, one["loc"]))
    return f"{where}: {one['msg']}"[:300] if where else str(one["msg"])[:300]


def _found_tools(compiled: Any) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for tool in _tools_of(compiled):
        if tool.name not in found and (schema := _arguments(tool)) is not None:
            found[tool.name] = schema
    return found


def _tools_of(compiled: Any) -> Iterator[Any]:
    try:
        graphs = [compiled, *(graph for _, graph in compiled.get_subgraphs(recurse=True))]
    except Exception:
        graphs = [compiled]
    for graph in graphs:
        for node in getattr(graph, "nodes", {}).values():
            if isinstance(bound := getattr(node, "bound", None), ToolNode):
                yield from bound.tools_by_name.values()


def _arguments(tool: Any) -> Schema | None:
    try:
        schema = tool.tool_call_schema
        if isinstance(schema, dict):
            return schema
        return dict(schema.model_json_schema())
    except Exception:  # a tool may take what has no schema
        return None
