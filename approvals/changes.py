"""What a checkpoint changed: two plain states compared, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from approvals.plain import JSON, canonical


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
    return canonical(left) == canonical(right)
