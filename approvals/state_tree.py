"""A state as nested lines that a page can fold, cut where it is too long to show."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from approvals.conversation import messages
from approvals.paths import excerpt
from approvals.plain import JSON
from approvals.snapshots import fair, is_cut, pointer, within

MAX_CHILDREN = 200
MAX_LEAF = 2_000  # characters
MAX_LINES = 2_000  # of a whole tree
MAX_OPENED = 300_000  # bytes of JSON of one page of a value
SUMMARY = 60  # characters
ROLES = {"human", "ai", "tool", "system", "remove", "chat"}


@dataclass(frozen=True)
class Node:
    """One line of the tree.

    dict, list: `summary` ("3 keys") and `children`. more: `summary` says how many are left out.
    unreadable: `summary`, why as `text`, and what is known of the inside as `children`.
    Leaves: `text`; when `truncated`, `summary` says how much of it is left out. What is left out
    can be opened at the JSON pointer `path`, from the `start`th item or character to the `end`th.
    """

    key: str
    kind: Literal["dict", "list", "str", "number", "bool", "null", "bytes", "more", "unreadable"]
    summary: str = ""
    text: str = ""
    children: tuple["Node", ...] = ()
    truncated: bool = False
    path: str = field(default="", compare=False)
    start: int = field(default=0, compare=False)
    end: int | None = field(default=None, compare=False)


def tree(value: JSON, path: str = "/values", room: int = MAX_LINES) -> tuple[Node, ...]:
    """The entries of a dict or a list; a single nameless leaf for anything else.

    `path` is the value's place in its snapshot, as a JSON pointer; `room` the most lines.
    """
    node = _node("", value, path, room + 1)
    return node.children if node.kind in ("dict", "list") else (node,)


def entries(
    value: dict[str, JSON] | list[JSON], path: str, start: int, end: int
) -> tuple[Node, ...]:
    """The lines of a few entries of a long value, short enough for a page."""
    some = dict(islice(_named(value), start, end))
    shown = dict(zip(some, within(list(some.values()), MAX_OPENED), strict=True))
    return _level(shown.items(), len(shown), path, MAX_LINES)


def _named(value: dict[str, JSON] | list[JSON]) -> Iterable[tuple[str, JSON]]:
    if isinstance(value, dict):
        return value.items()
    return ((str(index), item) for index, item in enumerate(value))


def _node(key: str, value: JSON, path: str, room: int) -> Node:
    match value:
        case dict():
            return _object(key, value, path, room)
        case list():
            children = _level(_named(value), len(value), path, room - 1)
            return Node(key, "list", _counted(len(value), "item"), children=children)
        case str():
            return _leaf(key, value, len(value), path)
        case None:
            return Node(key, "null", text="null")
        case bool():
            return Node(key, "bool", text="true" if value else "false")
        case _:
            return Node(key, "number", text=str(value))


def _object(key: str, value: dict[str, Any], path: str, room: int) -> Node:
    if is_cut(value):
        return _cut(key, value, path, room)
    named = value.get("__type__")
    if named == "undecodable":
        inside = (
            tree(value["inside"], pointer_to(path, "inside"), room) if "inside" in value else ()
        )
        summary = f"cannot be read, {value.get('kind')}, {_bytes(value.get('bytes'))}"
        return Node(key, "unreadable", summary, str(value.get("why")), inside)
    if named in ("builtins.bytes", "builtins.bytearray", "builtins.memoryview"):
        return Node(key, "bytes", text=f"{named[9:]}, {_bytes(value.get('length'))}")
    summary = named if isinstance(named, str) else _said(value) or _counted(len(value), "key")
    return Node(key, "dict", summary, children=_level(value.items(), len(value), path, room - 1))


def _unreadable(key: str, mark: dict[str, Any], path: str, room: int) -> Node:
    summary = f"cannot be read, {mark.get('kind')}, {_bytes(mark.get('bytes'))}"
    inside = tree(mark["inside"], pointer_to(path, "inside"), room) if "inside" in mark else ()
    return Node(key, "unreadable", summary, str(mark.get("why")), inside)


def _level(items: Iterable[tuple[str, JSON]], total: int, path: str, room: int) -> tuple[Node, ...]:
    room -= total > min(MAX_CHILDREN, room)  # the line that says how many more there are
    few = list(islice(items, max(0, min(MAX_CHILDREN, room))))
    wanted = [_lines(item, room) for _, item in few]
    share = fair(wanted, room)
    shown = tuple(
        _node(key, item, pointer_to(path, key), min(lines, share))
        for (key, item), lines in zip(few, wanted, strict=True)
    )
    left = total - len(shown)
    more = Node("", "more", f"{left:,} more", path=path, start=len(shown))
    return (*shown, more) if left else shown


def _lines(value: JSON, most: int) -> int:
    """The lines that a value takes, counted no further than `most`."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    lines = 1
    for item in islice(items, MAX_CHILDREN):
        if lines >= most:
            break
        lines += _lines(item, most - lines)
    return lines


def _cut(key: str, mark: dict[str, Any], path: str, room: int) -> Node:
    shown, length = mark["shown"], mark["length"]
    if mark["kind"] == "text":
        return _leaf(key, shown, length, path)
    first = _level(_named(shown), len(shown), path, room - 2)
    last = _last(mark, path, room - len(first) - 2)
    left = length - len(shown) - len(last)
    more = Node("", "more", f"{left:,} more", path=path, start=len(shown), end=length - len(last))
    noun = "item" if mark["kind"] == "list" else "key"
    summary = f"{_counted(length, noun)}, {length - left:,} shown"
    kind: Literal["list", "dict"] = "list" if mark["kind"] == "list" else "dict"
    return Node(key, kind, summary, children=(*first, more, *last))


def _last(mark: dict[str, Any], path: str, room: int) -> tuple[Node, ...]:
    """The end of a cut list, under the numbers that its items have in the whole."""
    items = mark.get("last") or []
    before = mark["length"] - len(items)
    numbered = ((str(before + index), item) for index, item in enumerate(items))
    return _level(numbered, len(items), path, room)


def _leaf(key: str, text: str, length: int, path: str) -> Node:
    shown = text[:MAX_LEAF]
    left = length - len(shown)
    if left <= 0:
        return Node(key, "str", text=text)
    summary = _counted(left, "more character")
    return Node(key, "str", summary, shown, truncated=True, path=path, start=len(shown))


def _said(value: dict[str, Any]) -> str:
    """A message or a document by its words; "" for anything else."""
    if isinstance(value.get("page_content"), str):
        return f"document: {excerpt(value['page_content'], SUMMARY)}"
    message = next(iter(messages({"one": [value]}, "one")), None)
    if message is None or message.role not in ROLES:
        return ""
    calls = ", ".join(f"calls {call.name}" for call in message.tool_calls)
    return f"{message.role}: {excerpt(message.text, SUMMARY) or calls}"


def pointer_to(path: str, key: str) -> str:
    return path + pointer(key)


def _bytes(number: Any) -> str:
    return f"{number:,} B" if isinstance(number, int) else "? B"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
