"""LangGraph state as plain JSON that Postgres can store, with a digest to check it by."""

import base64
import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

from approvals.undecodable import Undecodable

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

MAX_DEPTH = 60
MAX_REPR = 500  # characters
MAX_BYTES_SHOWN = 48
MAX_INT_BITS = 1024  # json refuses integers of more than 4,300 digits
MAX_LEAF = 2_000  # characters
PIECE = 65_536  # characters that are written and hashed at a time
ITEMS = 200
RESERVED = {"cut", "undecodable"}
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def jsonable(value: object) -> JSON:
    """Never raises. What has no plain form becomes a dict of `__type__` and `repr`.

    It comes back equal from a jsonb column, so that its digest can be checked at any time.
    """
    return _jsonable(value, ())


def clean(text: str) -> str:
    """Postgres stores neither NUL nor a lone surrogate."""
    return UNSTORABLE.sub("\ufffd", text)


def as_text(value: object) -> str:
    """A value of a state as the text of an editor or a diff: JSON, unless it is text itself."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def digest(snapshot: JSON) -> str:
    """SHA-256, in hex, of the canonical JSON."""
    return measured(snapshot)[1]


def measured(value: JSON) -> tuple[int, str]:
    """The canonical JSON's length in bytes, and its digest; the text itself is never whole."""
    length, seal = 0, hashlib.sha256()
    for piece in _pieces(value):
        length += len(encoded := piece.encode())
        seal.update(encoded)
    return length, seal.hexdigest()


def _pieces(value: JSON, levels: int = 3) -> Iterator[str]:
    """The canonical JSON in pieces: its outer levels, long lists and long texts taken apart."""
    if isinstance(value, str) and len(value) > PIECE:
        yield '"'
        for start in range(0, len(value), PIECE):
            yield canonical(value[start : start + PIECE])[1:-1]
        yield '"'
    elif isinstance(value, dict) and levels:
        yield from _object_pieces(value, levels)
    elif isinstance(value, list):
        yield from _list_pieces(value, levels)
    else:
        yield canonical(value)


def _object_pieces(value: dict[str, JSON], levels: int) -> Iterator[str]:
    yield "{"
    names = sorted(value)
    for start in range(0, len(names), ITEMS):
        few = names[start : start + ITEMS]
        if len(names) > ITEMS:
            yield ("," if start else "") + canonical({name: value[name] for name in few})[1:-1]
            continue
        for index, name in enumerate(few):
            yield f"{',' if index else ''}{canonical(name)}:"
            yield from _pieces(value[name], levels - 1)
    yield "}"


def _list_pieces(value: list[JSON], levels: int) -> Iterator[str]:
    yield "["
    for start in range(0, len(value), ITEMS):
        few = value[start : start + ITEMS]
        if levels and len(value) <= ITEMS:
            for index, item in enumerate(few):
                yield "," if index else ""
                yield from _pieces(item, levels - 1)
        else:
            yield ("," if start else "") + canonical(few)[1:-1]
    yield "]"


def canonical(value: JSON) -> str:
    """One text for one value: two values are the same if these are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _jsonable(value: object, path: tuple[int, ...]) -> JSON:
    """`path` holds the ids of all that surrounds the value."""
    if value is None or value is True or value is False:
        return value
    if id(value) in path:
        return _tagged(value, repr="cycle")
    if len(path) >= MAX_DEPTH:
        return _tagged(value, repr="nested too deeply")
    try:
        return _entered(_opened(value), (*path, id(value)))
    except Exception:  # a value runs code of its own: __iter__, a property, anything
        return _opaque(value)


def _entered(value: object, path: tuple[int, ...]) -> JSON:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return _object(value, path)
    if isinstance(value, AbstractSet):  # its order differs from process to process
        return sorted((_jsonable(item, path) for item in value), key=canonical)
    if isinstance(value, list | tuple | deque):
        return [_jsonable(item, path) for item in value]
    return _opaque(value)


class Mark(dict[str, Any]):
    """A dict of ours that says what is not there. A state that spells one gets another key."""


def _object(value: Mapping[Any, object], path: tuple[int, ...]) -> JSON:
    plain: dict[str, JSON] = {}
    for key, item in value.items():
        name = clean(key) if isinstance(key, str) else clean(ADDRESS.sub("", str(key)))
        if name == "__type__" and _is_reserved(item) and not isinstance(value, Mark):
            name += "'"
        while name in plain:  # 1 and "1" are two keys, and evidence must not lose one
            name += "'"
        plain[name] = _jsonable(item, path)
    return plain


def _opened(value: object) -> object:
    """The value one step nearer to JSON; as it is when no step is known."""
    for kind, step in STEPS:
        if isinstance(value, kind):
            return step(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return value


def _int(value: int) -> object:
    if value.bit_length() > MAX_INT_BITS:
        return _tagged(value, repr=hex(value)[:MAX_REPR])
    return int(value)


def _float(value: float) -> object:
    """jsonb has no NaN, no infinity and no minus zero, and writes 1e16 without an exponent."""
    if not math.isfinite(value):
        return _tagged(value, repr=repr(float(value)))
    if value.is_integer() and abs(value) >= 1e16:
        return int(value)
    return value if type(value) is float and value else float(value) + 0.0


def _bytes(given: bytes | bytearray | memoryview) -> object:
    value = bytes(given)
    whole = len(value)
    shown = base64.b64encode(value[:MAX_BYTES_SHOWN]).decode()
    tagged = _tagged(given, length=whole, base64=shown)
    if whole > MAX_BYTES_SHOWN:  # the evidence is of all of them
        tagged["sha256"] = hashlib.sha256(value).hexdigest()
    return tagged


def _undecodable(value: Undecodable) -> object:
    marker = {"__type__": "undecodable", "why": clean(value.reason), "kind": clean(value.kind)}
    inside = {} if value.inside is None else {"inside": value.inside}
    return Mark({**marker, "bytes": value.size, **inside})


def _message(value: BaseMessage) -> object:
    return {"type": value.type, "content": value.content} | _filled(_model(value))


def _model(value: BaseModel) -> dict[str, object]:
    known = type(value).model_fields
    return {name: item for name, item in value if not (name in known and known[name].exclude)}


def _fields(value: Any) -> dict[str, object]:
    return {each.name: getattr(value, each.name, None) for each in fields(value)}


def _tagged_fields(value: object) -> object:
    return _tagged(value) | _filled(_fields(value))


def _send(value: Send) -> object:
    return _tagged(value) | {"node": value.node, "arg": value.arg}


def _error(value: BaseException) -> object:
    return _tagged(value, message=clean(str(value))[:MAX_LEAF])


def _filled(values: Mapping[str, object]) -> dict[str, object]:
    return {key: item for key, item in values.items() if not _is_empty(item)}


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


# The first kind that fits is taken: an Enum may be a str as well, a message is a model.
STEPS: list[tuple[Any, Callable[[Any], object]]] = [
    (Enum, lambda value: _jsonable(value.value, (id(value),))),
    (str, clean),
    (int, _int),
    (float, _float),
    (bytes | bytearray | memoryview, _bytes),
    (date | time, lambda value: value.isoformat()),
    (timedelta | Decimal | UUID | PurePath, lambda value: clean(str(value))),
    (BaseMessage, _message),
    (Document, lambda value: _filled(_model(value))),
    (BaseModel, _model),
    (Command | Interrupt, _tagged_fields),
    (Send, _send),
    (BaseException, _error),
    (Undecodable, _undecodable),
]


def _is_reserved(item: object) -> bool:
    return isinstance(item, str) and clean(item) in RESERVED


def _opaque(value: object) -> JSON:
    return _tagged(value, repr=_repr(value))


def _repr(value: object) -> str:
    """Without addresses: they'd give the same state another digest in every process."""
    try:
        return clean(ADDRESS.sub("", repr(value)))[:MAX_REPR]
    except Exception:
        return "no repr"


def _tagged(value: object, **details: JSON) -> dict[str, JSON]:
    return {"__type__": _type_name(type(value)), **details}


def _type_name(kind: type) -> str:
    try:
        return clean(f"{kind.__module__}.{kind.__qualname__}")
    except Exception:  # a metaclass may refuse even this
        return "unknown"
