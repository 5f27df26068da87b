"""Dotted paths into a state, as reviews.toml writes them: `customer.name`."""

import re
from collections.abc import Mapping
from typing import Any

from approvals.plain import jsonable

MAX_TITLE = 200  # characters
FIELD = re.compile(r"\{([^{}]*)\}")


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


def ns_path(checkpoint_ns: str) -> str:
    """Where a subgraph is, without the task ids of its namespace: "review › legal"."""
    return " › ".join(part.split(":")[0] for part in checkpoint_ns.split("|") if not part.isdigit())
