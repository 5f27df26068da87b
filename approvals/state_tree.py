"""A state as nested lines that a page can fold, cut where it is too long to show."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from approvals.conversation import messages
from approvals.paths import excerpt
from approvals.plain import JSON
from approvals.sentences import told
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
    length: int = field(default=0, compare=False)  # of a text, in characters, what is left out too
    end: int | None = field(default=None, compare=False)


def tree(value: JSON, path: str = "/values", room: int = MAX_LINES) -> tuple[Node, ...]:
    """The entries of a dict or a list; a single nameless leaf for anything else.

    `path` is the value's place in its snapshot, as a JSON pointer; `room` the most lines.
    """
    node = _node("", value, path, room + 1)
    return node.children if node.kind in ("dict", "list") else (node,)


def unfolded(nodes: Iterable[Node]) -> Iterator[tuple[str, Node, int]]:
    """A tree as ("line" | "open" | "close", node, level) in the order of the page.

    For a template that does not include itself: sixty levels of that are too deep for Python.
    """
    ahead = [("line", node, 1) for node in reversed(list(nodes))]
    while ahead:
        step, node, level = ahead.pop()
        inner = step == "line" and (node.kind in ("dict", "list") or bool(node.children))
        yield "open" if inner else step, node, level
        if inner:
            ahead.append(("close", node, level))
            ahead += [("line", child, level + 1) for child in reversed(node.children)]


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
            return Node(key, "list", _items(len(value)), children=children)
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
        return Node(key, "unreadable", _unread(value), told(str(value.get("why"))), inside)
    if named in ("builtins.bytes", "builtins.bytearray", "builtins.memoryview"):
        return Node(key, "bytes", text=f"{named[9:]}, {_bytes(value.get('length'))}")
    summary = named if isinstance(named, str) else _said(value) or _keys(len(value))
    return Node(key, "dict", summary, children=_level(value.items(), len(value), path, room - 1))


def _unreadable(key: str, mark: dict[str, Any], path: str, room: int) -> Node:
    inside = tree(mark["inside"], pointer_to(path, "inside"), room) if "inside" in mark else ()
    return Node(key, "unreadable", _unread(mark), told(str(mark.get("why"))), inside)


def _unread(mark: dict[str, Any]) -> str:
    said = _("cannot be read, %(kind)s, %(bytes)s")
    return said % {"kind": mark.get("kind"), "bytes": _bytes(mark.get("bytes"))}


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
    more = Node("", "more", _more(left), path=path, start=len(shown))
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
    more = Node("", "more", _more(left), path=path, start=len(shown), end=length - len(last))
    counted = _items(length) if mark["kind"] == "list" else _keys(length)
    summary = _("%(counted)s, %(number)s shown") % {
        "counted": counted,
        "number": _number(length - left),
    }
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
        return Node(key, "str", text=text, length=length)
    summary = _characters(left)
    where: Any = {"path": path, "start": len(shown), "length": length}
    return Node(key, "str", summary, shown, truncated=True, **where)


def _said(value: dict[str, Any]) -> str:
    """A message or a document by its words; "" for anything else."""
    if isinstance(value.get("page_content"), str):
        return _("document: %(text)s") % {"text": excerpt(value["page_content"], SUMMARY)}
    message = next(iter(messages({"one": [value]}, "one")), None)
    if message is None or message.role not in ROLES:
        return ""
    calls = ", ".join(_("calls %(name)s") % {"name": call.name} for call in message.tool_calls)
    return f"{message.role}: {excerpt(message.text, SUMMARY) or calls}"


def pointer_to(path: str, key: str) -> str:
    return path + pointer(key)


def _bytes(number: Any) -> str:
    return f"{_number(number)} B" if isinstance(number, int) else "? B"


def _items(number: int) -> str:
    return ngettext("%(number)s item", "%(number)s items", number) % {"number": _number(number)}


def _keys(number: int) -> str:
    return ngettext("%(number)s key", "%(number)s keys", number) % {"number": _number(number)}


def _more(number: int) -> str:
    return ngettext("%(number)s more", "%(number)s more", number) % {"number": _number(number)}


def _characters(number: int) -> str:
    said = ngettext("%(number)s more character", "%(number)s more characters", number)
    return said % {"number": _number(number)}


def _number(number: int) -> str:
    return number_format(number, force_grouping=True)
