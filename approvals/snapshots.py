"""A state as the evidence of what a person saw: plain JSON of about a megabyte at most.

What is longer is cut to its beginning, or for a list to its beginning and its end; in its place
stands a marker with the digest of the whole. A cut snapshot says so at its top level as well, with
the digest of all of it: so its own digest still stands for the whole state, and no state can pass
for another by spelling out a marker itself.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from langgraph.types import PregelTask, StateSnapshot

from approvals.plain import JSON, canonical, jsonable, measured

LIMIT = 1_000_000  # bytes of JSON, besides the fields that are kept whole
WHOLE = 1_000_000  # bytes of JSON of one such field
TEXT = 20_000  # characters shown of a text that is cut
ENDS = 20  # items shown at either end of a list that is cut
KEYS = 200
LISTED = 50  # of what cannot be read
OUTLINE = 2_000  # bytes of a snapshot's own keys
MARK = 400  # bytes within which any value can be cut


def snapshot(state: StateSnapshot, *, whole: Collection[str] = (), **extra: JSON) -> dict[str, Any]:
    """A state as it will be shown and hashed. `whole` names fields that are cut only by `WHOLE`.

    Never raises, and is at most `LIMIT` bytes of JSON besides the whole fields.
    """
    return bounded({**everything(state), **extra}, whole)


def everything(state: StateSnapshot) -> dict[str, Any]:
    """A state as plain JSON, of whatever length."""
    return {
        "values": jsonable(state.values),
        "next": list(state.next),
        "tasks": [_task(task) for task in state.tasks],
        "metadata": jsonable(dict(state.metadata or {})),
        "created_at": state.created_at,
        "checkpoint_id": state.config["configurable"].get("checkpoint_id", ""),
    }


def _task(task: PregelTask) -> dict[str, JSON]:
    shown: dict[str, JSON] = {
        "id": task.id,
        "name": task.name,
        "error": jsonable(str(task.error)) if task.error else None,
        "interrupts": [_question(one) for one in task.interrupts],
    }
    return shown | ({"kind": "send"} if "__pregel_push" in task.path else {})


def _question(interrupt: Any) -> JSON:
    shown = {"id": jsonable(interrupt.id), "value": jsonable(interrupt.value)}
    schema = jsonable(getattr(interrupt, "response_schema", None))
    return shown if schema is None else {**shown, "schema": schema}


def bounded(
    full: dict[str, Any], whole: Collection[str] = (), limit: int = LIMIT
) -> dict[str, Any]:
    """The snapshot, cut where it is too long, and then with `cut`: its full length and digest.

    With `undecodable`, where there is something that could not be read: where and why.
    """
    if found := list(islice(_unreadable(full, ""), LISTED)):
        full = {**full, "undecodable": found}
    length, seal = measured(full)
    if length <= limit:
        return full
    kept, rest = _parted(full, whole)
    if kept and length - measured(kept)[0] <= limit:
        return full
    share = fair([measured(part)[0] for part in rest.values()], limit - OUTLINE)
    shown: dict[str, Any] = {key: _part(part, share) for key, part in rest.items()}
    if kept:
        shown["values"] = {**shown["values"], **kept}
    return {**shown, "cut": {"bytes": length, "sha256": seal}}


def _parted(full: dict[str, Any], whole: Collection[str]) -> tuple[dict[str, JSON], dict[str, Any]]:
    """The fields that are kept whole, and the snapshot without them."""
    values = full["values"]
    if not isinstance(values, dict):
        return {}, full
    kept = {k: values[k] for k in whole if k in values and measured(values[k])[0] <= WHOLE}
    return kept, {**full, "values": {k: v for k, v in values.items() if k not in kept}}


def _part(part: JSON, limit: int) -> JSON:
    """A part keeps its shape, however much of it is left out: its readers know nothing of cuts."""
    found = cut(part, limit)
    if isinstance(part, dict) and is_cut(found):
        return found["shown"]  # type: ignore[index, call-overload]
    if isinstance(part, list) and is_cut(found):
        return items_of(found)
    return found


def is_cut(value: JSON) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "cut" and "kind" in value


def holds_cut(value: JSON) -> bool:
    """Whether anything of it was left out, at any depth."""
    if is_cut(value):
        return True
    if isinstance(value, dict):
        return any(holds_cut(item) for item in value.values())
    return isinstance(value, list) and any(holds_cut(item) for item in value)


def items_of(value: JSON) -> list[JSON]:
    """What is at hand of a list: all of it, or both its ends where it was cut; else nothing."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and is_cut(value) and value["kind"] == "list":
        return [*_list(value.get("shown")), *_list(value.get("last"))]
    return []


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


def cut(value: JSON, limit: int) -> JSON:
    """The value within `limit` bytes of JSON (or within MARK, where that is more)."""
    length, seal = measured(value)
    if length <= max(limit, 100) or not isinstance(value, str | list | dict):
        return value
    mark: dict[str, JSON] = {"__type__": "cut", "length": len(value), "sha256": seal}
    room = max(0, limit - MARK)
    if isinstance(value, str):
        return {**mark, "kind": "text", "shown": _beginning(value, room)}
    if isinstance(value, list):
        return _cut_list(value, room, mark)
    return _cut_object(value, room, mark)


def _cut_list(value: list[JSON], room: int, mark: dict[str, JSON]) -> JSON:
    fits = min(2 * ENDS, room // (MARK + 1))
    if len(value) <= fits:
        return within(value, room)
    first, last = fits - fits // 2, fits // 2
    few = within([*value[:first], *value[len(value) - last :]], room)
    return {**mark, "kind": "list", "shown": few[:first], "last": few[first:]}


def _cut_object(value: dict[str, JSON], room: int, mark: dict[str, JSON]) -> JSON:
    names, left = [], room
    for name in list(value)[:KEYS]:
        left -= (cost := _length(name) + 2 + MARK)
        if left < 0:
            left += cost
            continue
        names.append(name)
    used = sum(_length(name) + 2 for name in names)
    few = dict(zip(names, within([value[name] for name in names], room - used), strict=True))
    return few if len(few) == len(value) else {**mark, "kind": "object", "shown": few}


def within(values: list[JSON], room: int) -> list[JSON]:
    """Each value within its fair share of the room; short ones stay whole."""
    limit = fair([measured(value)[0] + 1 for value in values], room) - 1
    return [cut(value, limit) for value in values]


def fair(wanted: list[int], room: int) -> int:
    """The one limit under which all, each cut to it, fit into the room."""
    left, waiting = room, sorted(wanted)
    for index, size in enumerate(waiting):
        share = left // (len(waiting) - index)
        if size > share:
            return share
        left -= size
    return room


def _beginning(text: str, room: int) -> str:
    shown = text[: min(TEXT, room)]
    while shown and _length(shown) > room:
        shown = shown[: len(shown) // 2]
    return shown


def _length(text: str) -> int:
    return len(canonical(text).encode())


# Where things are


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def at(value: JSON, path: str) -> JSON:
    """What a JSON pointer names. Raises LookupError when there is no such value."""
    if path and not path.startswith("/"):
        raise LookupError(path)
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        value = _member(value, name)
    return value


def _member(value: JSON, name: str) -> JSON:
    if isinstance(value, dict) and name in value:
        return value[name]
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10:
        return value[int(name)]
    raise LookupError(name)


def undecodable(snapshot: dict[str, Any]) -> list[tuple[str, str]]:
    """(JSON pointer, why) of what could not be read of a state, the first `LISTED` of them.

    While there is any, the review can be looked at, not decided: the run would go on with
    something else in its place.
    """
    return [(str(path), str(why)) for path, why in snapshot.get("undecodable", [])]


def _unreadable(value: JSON, path: str) -> Iterator[list[str]]:
    items: Iterable[tuple[str | int, JSON]] = ()
    if isinstance(value, dict):
        if value.get("__type__") == "undecodable":
            yield [path, str(value.get("why", ""))]
            return
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from _unreadable(item, path + pointer(key))
