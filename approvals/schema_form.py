"""A JSON value as form fields that keep its types, by its JSON Schema, and back.

`fields_for` makes the fields, `read` takes what was posted. Both build the same tree from the same
prefix, schema and original, so nothing is kept between page and post. What was not changed comes
back exactly as it was and is never wrong: not even where the agent's own value breaks the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from approvals.schema_check import check
from approvals.schema_input import MISSING, TypedField, same, shown
from approvals.schema_reading import value_of
from approvals.schema_tree import tree_for

__all__ = ["Reading", "TypedField", "fields_for", "filled", "read", "tree_for"]


@dataclass
class Reading:
    """What came of a post. `value` is the original where it holds `errors` (by input name)."""

    root: TypedField
    value: Any
    changed: bool

    @property
    def errors(self) -> dict[str, list[str]]:
        return {each.name: each.errors for each in self.root.walk() if each.errors}

    @property
    def fields(self) -> list[TypedField]:
        return _inputs(self.root)

    @property
    def typed(self) -> dict[str, str]:
        """What the person typed, by input name."""
        return {each.name: each.text for each in self.root.walk() if each.changed and each.text}


def fields_for(prefix: str, schema: Mapping[str, Any] | None, original: Any) -> list[TypedField]:
    """The inputs of a value. An object's are named `prefix.key`; any other has one, `prefix`."""
    return _inputs(tree_for(prefix, schema, original))


def read(
    prefix: str, schema: Mapping[str, Any] | None, original: Any, data: Mapping[str, Any]
) -> Reading:
    """The value that was posted, checked. Never raises: see `Reading.errors`.

    `data` is a QueryDict, or a dict of texts. An input that was not sent was not touched.
    """
    root = tree_for(prefix, schema, original)
    value = value_of(root, data)
    if value is MISSING or not root.changed:
        value = original
    found = Reading(root, value, root.changed)
    if found.changed and not found.errors:
        check(root, schema, value)
    if found.errors:
        found.value = original
    elif same(value, original):  # other spaces in JSON are no change
        found.value, found.changed = original, False
    return found


def filled(
    prefix: str, schema: Mapping[str, Any] | None, original: Any, value: Any
) -> dict[str, str]:
    """What the inputs of the original would post, had a person made `value` of it."""
    return dict(_fill(tree_for(prefix, schema, original), value))


def _fill(made: TypedField, value: Any) -> list[tuple[str, str]]:
    if made.kind != "group":
        return [(made.name, shown(made, value))]
    given = value if isinstance(value, dict) else {}
    named = {each.key for each in made.fields if not each.is_other}
    others = {key: item for key, item in given.items() if key not in named} or MISSING
    found: list[tuple[str, str]] = []
    for each in made.fields:
        found += _fill(each, others if each.is_other else given.get(each.key, MISSING))
    return found


def _inputs(root: TypedField) -> list[TypedField]:
    return root.fields if root.kind == "group" else [root]
