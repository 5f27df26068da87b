"""LangGraph state as plain JSON that Postgres can store, and as what a page shows of it."""

import base64
import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Literal, TypeAlias
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

MAX_DEPTH = 60
MAX_REPR = 500  # characters
MAX_BYTES_SHOWN = 48
MAX_INT_BITS = 1024  # json refuses integers of more than 4,300 digits
MAX_CHILDREN = 200
MAX_LEAF = 2_000  # characters
MAX_TITLE = 200  # characters

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
FIELD = re.compile(r"\{([^{}]*)\}")


# Storing


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
    return hashlib.sha256(_canonical(snapshot).encode()).hexdigest()


def _canonical(value: JSON) -> str:
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
        return sorted((_jsonable(item, path) for item in value), key=_canonical)
    if isinstance(value, list | tuple | deque):
        return [_jsonable(item, path) for item in value]
    return _opaque(value)


def _object(value: Mapping[Any, object], path: tuple[int, ...]) -> JSON:
    plain: dict[str, JSON] = {}
    for key, item in value.items():
        name = clean(key) if isinstance(key, str) else clean(ADDRESS.sub("", str(key)))
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
    return float(value) + 0.0


def _bytes(value: bytes) -> object:
    shown = base64.b64encode(bytes(value[:MAX_BYTES_SHOWN])).decode()
    return _tagged(value, length=len(value), base64=shown)


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
]


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


# Looking up


def pick(values: object, path: str) -> Any:
    """`customer.name` or `messages.-1.content`; None when absent. Never private, never called."""
    for part in path.split("."):
        try:
            values = _member(values, part.strip())
        except Exception:  # a property of somebody's state class
            return None
    return values


def _member(value: object, part: str) -> object:
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list | tuple) and part.removeprefix("-").isdigit():
        return value[int(part)]
    found = None if part.startswith("_") else getattr(value, part, None)
    return None if callable(found) else found


def fill(template: str, values: object) -> str:
    """A title from a template like `{subject}: {customer.name}`; what is absent leaves nothing."""
    return excerpt(FIELD.sub(lambda match: _inline(pick(values, match[1])), template), MAX_TITLE)


def template_fields(template: str) -> list[str]:
    return [name.strip() for name in FIELD.findall(template)]


def _inline(value: object) -> str:
    match jsonable(value):
        case None | dict():
            return ""
        case bool(flag):
            return "yes" if flag else "no"
        case list(items):
            return ", ".join(filter(None, map(_inline, items)))
        case plain:
            return str(plain)


def excerpt(text: str, length: int = 140) -> str:
    """One line of at most `length` characters, cut at a word unless that would lose half of it."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line[:length].rfind(" ")
    return line[: cut if cut > length // 2 else length - 1].rstrip(" ,;:") + "…"


# Comparing


@dataclass(frozen=True)
class Change:
    """`after` holds only the new items when a list was appended to."""

    key: str
    kind: Literal["added", "removed", "changed", "appended"]
    before: JSON
    after: JSON


def changes(before: Mapping[str, JSON], after: Mapping[str, JSON]) -> list[Change]:
    """What differs at the top level, in the order of `after`; removed keys come last."""
    found = [_change(key, before, after[key]) for key in after]
    gone = [Change(key, "removed", before[key], None) for key in before if key not in after]
    return [change for change in found if change] + gone


def _change(key: str, values: Mapping[str, JSON], after: JSON) -> Change | None:
    if key not in values:
        return Change(key, "added", None, after)
    before = values[key]
    if _same(before, after):
        return None
    if isinstance(before, list) and isinstance(after, list):
        head, tail = after[: len(before)], after[len(before) :]
        if _same(head, before):
            return Change(key, "appended", before, tail)
    return Change(key, "changed", before, after)


def _same(left: JSON, right: JSON) -> bool:
    """Not `==`, for which 1, 1.0 and True are one."""
    return _canonical(left) == _canonical(right)


# Conversation

ROLES = {"user": "human", "assistant": "ai", "function": "tool", "developer": "system"}


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    args: dict[str, JSON]

    @property
    def pairs(self) -> list[tuple[str, JSON]]:
        """For templates: there `args.items` would be the argument called "items"."""
        return list(self.args.items())


@dataclass(frozen=True)
class Message:
    """`role` is human, ai, tool or system, or else what the message called itself."""

    role: str
    name: str
    text: str
    tool_calls: list[ToolCall]


def messages(values: Mapping[str, JSON], key: str) -> list[Message]:
    """From the jsonable form, or from `{"role": …, "content": …}`; anything else is passed over."""
    found = pick(values, key)
    items = found if isinstance(found, list) else []
    return [_spoken(item) for item in items if isinstance(item, dict) and "content" in item]


def _spoken(item: Mapping[str, JSON]) -> Message:
    kind = str(item.get("type") or item.get("role") or "")
    role = kind.removesuffix("MessageChunk").lower()
    calls = item.get("tool_calls")
    return Message(
        role=ROLES.get(role, role),
        name=str(item.get("name") or ""),
        text=_text(item["content"]),
        tool_calls=[_call(call) for call in _list(calls) if isinstance(call, dict)],
    )


def _call(call: Mapping[str, JSON]) -> ToolCall:
    args = call.get("args")
    return ToolCall(
        id=str(call.get("id") or ""),
        name=str(call.get("name") or ""),
        args=args if isinstance(args, dict) else {},
    )


def _text(content: JSON) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, map(_block, _list(content))))


def _block(block: JSON) -> str:
    """A block that isn't text is named in brackets; a tool call is told by `tool_calls`."""
    if not isinstance(block, dict):
        return block if isinstance(block, str) else ""
    if isinstance(text := block.get("text"), str):
        return text
    kind = str(block.get("type") or "unknown").removesuffix("_url")
    return "" if kind.startswith("tool_") else f"[{kind}]"


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


# State tree


@dataclass(frozen=True)
class Node:
    """One line of the tree.

    dict, list: `summary` ("3 keys") and `children`. more: `summary` says how many are left out.
    Leaves: `text`; when `truncated`, `summary` says how much of it is left out.
    """

    key: str
    kind: Literal["dict", "list", "str", "number", "bool", "null", "more"]
    summary: str = ""
    text: str = ""
    children: tuple["Node", ...] = ()
    truncated: bool = False


def tree(value: JSON) -> tuple[Node, ...]:
    """The entries of a dict or a list; a single nameless leaf for anything else."""
    node = _node("", value)
    return node.children if node.kind in ("dict", "list") else (node,)


def _node(key: str, value: JSON) -> Node:
    match value:
        case dict():
            named = value.get("__type__")
            summary = named if isinstance(named, str) else _counted(len(value), "key")
            return Node(key, "dict", summary, children=_level(value.items(), len(value)))
        case list():
            numbered = ((str(index), item) for index, item in enumerate(value))
            summary = _counted(len(value), "item")
            return Node(key, "list", summary, children=_level(numbered, len(value)))
        case str():
            return _leaf(key, value)
        case None:
            return Node(key, "null", text="null")
        case bool():
            return Node(key, "bool", text="true" if value else "false")
        case _:
            return Node(key, "number", text=str(value))


def _level(items: Iterable[tuple[str, JSON]], total: int) -> tuple[Node, ...]:
    shown = tuple(_node(key, item) for key, item in islice(items, MAX_CHILDREN))
    left = total - len(shown)
    return (*shown, Node("", "more", f"{left:,} more")) if left else shown


def _leaf(key: str, text: str) -> Node:
    left = len(text) - MAX_LEAF
    if left <= 0:
        return Node(key, "str", text=text)
    return Node(key, "str", _counted(left, "more character"), text[:MAX_LEAF], truncated=True)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
