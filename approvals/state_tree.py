"""A state as nested lines that a page can fold, cut where it is too long to show."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from approvals.plain import JSON

MAX_CHILDREN = 200
MAX_LEAF = 2_000  # characters


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
