"""The dialects in which `interrupt()` asks about tool calls, and in which each is answered.

A reader returns the calls that a value asks about, () where the value isn't of its dialect. What a
request does not allow is not allowed: a call that allows nothing known has an empty `allowed`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from approvals.plain import JSON
from approvals.schemas import Schema, as_dict, followed, properties, required

Schemas: TypeAlias = Mapping[str, Schema]

ACTIONS = ("approve", "edit", "reject", "respond")
DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True)
class Call:
    """One thing that is asked about: a tool call, or what Agent Inbox calls an action."""

    name: str
    args: JSON
    description: str = ""
    allowed: tuple[str, ...] = ()  # of ACTIONS, in that order
    schema: Schema | None = None  # of the args
    may_rename: bool = False


@dataclass(frozen=True)
class Choice:
    """What the person decided of one call, or of the whole question where it has no calls.

    `args` are an edit's new args, or the answer to a question without calls; `name` is an edit's
    new tool; `text` is the reason of a reject, or the words of a respond.
    """

    action: str
    args: JSON = None
    name: str = ""
    text: str = ""


Reader: TypeAlias = Callable[[JSON, Schema | None, Schemas], tuple[Call, ...]]
Writer: TypeAlias = Callable[[Sequence[Call], Sequence[Choice]], JSON]


@dataclass(frozen=True)
class Dialect:
    read: Reader
    write: Writer
    reason_is_sent: bool = True  # Agent Inbox's ignore has no room for one


def all_or_none(calls: Sequence[Call | None]) -> tuple[Call, ...]:
    """A list in which one thing can't be read is not of the dialect at all."""
    found = tuple(call for call in calls if call is not None)
    return found if len(found) == len(calls) else ()


def text_of(value: JSON) -> str:
    return value if isinstance(value, str) else ""


# Agent Inbox: one HumanInterrupt, or a list of them; answered by a list either way.

FLAGS = {
    "approve": "allow_accept",
    "edit": "allow_edit",
    "reject": "allow_ignore",
    "respond": "allow_respond",
}


def read_agent_inbox(value: JSON, schema: Schema | None, tools: Schemas) -> tuple[Call, ...]:
    requests = value if isinstance(value, list) else [value]
    return all_or_none([_inbox_call(request) for request in requests])


def _inbox_call(request: JSON) -> Call | None:
    if not isinstance(request, dict):
        return None
    action, config = request.get("action_request"), request.get("config")
    if not (isinstance(action, dict) and isinstance(config, dict) and "args" in action):
        return None
    name, allowed = action.get("action"), (a for a in ACTIONS if config.get(FLAGS[a]) is True)
    if not isinstance(name, str):
        return None
    return Call(name, action["args"], text_of(request.get("description")), tuple(allowed))


def write_agent_inbox(calls: Sequence[Call], choices: Sequence[Choice]) -> JSON:
    return [_inbox_response(call, choice) for call, choice in zip(calls, choices, strict=True)]


def _inbox_response(call: Call, choice: Choice) -> JSON:
    if choice.action == "edit":
        edited: JSON = {"action": choice.name or call.name, "args": choice.args}
        return {"type": "edit", "args": edited}
    if choice.action == "respond":
        return {"type": "response", "args": choice.text}
    return {"type": "accept" if choice.action == "approve" else "ignore", "args": None}


# LangChain's HITLRequest: all gated calls of one turn; answered by as many decisions, in order.


def read_hitl(value: JSON, schema: Schema | None, tools: Schemas) -> tuple[Call, ...]:
    if not isinstance(value, dict):
        return ()
    requests, configs = value.get("action_requests"), value.get("review_configs")
    if not (isinstance(requests, list) and isinstance(configs, list)):
        return ()
    aligned = configs if len(configs) == len(requests) else [None] * len(requests)
    pairs = zip(requests, aligned, strict=True)
    return all_or_none([_hitl_call(one, beside, configs, tools) for one, beside in pairs])


def _hitl_call(request: JSON, beside: JSON, configs: list[JSON], tools: Schemas) -> Call | None:
    if not (isinstance(request, dict) and "args" in request):
        return None
    name = request.get("name")
    if not isinstance(name, str):
        return None
    config = _config_of(name, beside, configs)
    allowed, schema = _known(config.get("allowed_decisions")), config.get("args_schema")
    return Call(
        name,
        request["args"],
        text_of(request.get("description")),
        allowed,
        schema if isinstance(schema, dict) else tools.get(name),
        # An edit may name any other tool of the agent; of one it lacks, the run fails.
        may_rename="edit" in allowed and any(tool != name for tool in tools),
    )


def _config_of(name: str, beside: JSON, configs: list[JSON]) -> dict[str, JSON]:
    """The config in the call's own place, unless that names another; else the first by name."""
    if isinstance(beside, dict) and beside.get("action_name", name) == name:
        return beside
    named = (c for c in configs if isinstance(c, dict) and c.get("action_name") == name)
    return next(named, {})


def _known(words: JSON) -> tuple[str, ...]:
    return tuple(a for a in ACTIONS if isinstance(words, list) and a in words)


def write_hitl(calls: Sequence[Call], choices: Sequence[Choice]) -> JSON:
    pairs = zip(calls, choices, strict=True)
    return {"decisions": [_decision(call, choice) for call, choice in pairs]}


def _decision(call: Call, choice: Choice) -> JSON:
    if choice.action == "approve":
        return {"type": "approve"}
    if choice.action == "edit":
        edited: JSON = {"name": choice.name or call.name, "args": choice.args}
        return {"type": "edit", "edited_action": edited}
    return {"type": choice.action, "message": choice.text}


# LangChain's ToolApprovalRequest: one call; the response schema says what may be decided of it.

KEYS = {
    "approve": {"type"},
    "edit": {"type", "edited_action"},
    "reject": {"type", "message"},
    "respond": {"type", "message"},
}


def read_tool_approval(value: JSON, schema: Schema | None, tools: Schemas) -> tuple[Call, ...]:
    if not (isinstance(value, dict) and value.get("type") == "tool_approval" and "args" in value):
        return ()
    name, branches = value.get("name"), _branches(schema or {})
    if not (isinstance(name, str) and branches):
        return ()
    allowed = tuple(action for action in ACTIONS if action in branches)
    args, renaming = _edit_of(branches.get("edit"), schema or {}, name)
    return (Call(name, value["args"], text_of(value.get("description")), allowed, args, renaming),)


def write_tool_approval(calls: Sequence[Call], choices: Sequence[Choice]) -> JSON:
    return _decision(calls[0], choices[0])


def _branches(schema: Schema) -> dict[str, Schema]:
    """The known decisions and their schemas; {} if one of them is not shaped as we'd send it."""
    found: dict[str, Schema] = {}
    for branch in _alternatives(schema, schema):
        for action in _words(_named(branch, schema).get("type"), schema):
            found.setdefault(action, branch)
    return found if all(_is_ours(a, found[a], schema) for a in found) else {}


def _alternatives(node: object, root: Schema, seen: tuple[int, ...] = ()) -> Iterator[Schema]:
    """The branches of anyOf and oneOf; `seen` are those around it, for they may run in a circle."""
    here = followed(node, root)
    inner = here.get("oneOf") or here.get("anyOf")
    if not isinstance(inner, list):
        yield here
    elif id(inner) not in seen:
        for each in inner:
            yield from _alternatives(each, root, (*seen, id(inner)))


def _words(node: object, root: Schema) -> tuple[str, ...]:
    kind = followed(node, root)
    return _known([kind["const"]] if "const" in kind else kind.get("enum"))


def _is_ours(action: str, branch: Schema, root: Schema) -> bool:
    keys, named = KEYS[action], _named(branch, root)
    if not (set(required(branch)) <= keys <= set(named)):
        return False
    if action != "edit":
        return True
    edited = followed(named["edited_action"], root)
    return set(required(edited)) <= {"name", "args"} <= set(_named(edited, root))


def _edit_of(branch: Schema | None, root: Schema, name: str) -> tuple[Schema | None, bool]:
    """The schema of an edit's args, and whether its name is free."""
    if branch is None:
        return None, False
    edited = _named(followed(_named(branch, root)["edited_action"], root), root)
    names = followed(edited["name"], root)
    pinned = "const" in names or names.get("enum") == [name]
    return _standalone(followed(edited["args"], root), root), not pinned


def _standalone(node: Schema, root: Schema) -> Schema:
    """A part of a schema that stands without the rest of it."""
    if '"$ref"' not in json.dumps(node):
        return node
    kept = {key: {**as_dict(root.get(key)), **as_dict(node.get(key))} for key in DEFINITIONS}
    return {**node, **{key: found for key, found in kept.items() if found}}


def _named(node: Schema, root: Schema) -> dict[str, Any]:
    return properties(followed(node, root))


DIALECTS = {
    "agent_inbox": Dialect(read_agent_inbox, write_agent_inbox, reason_is_sent=False),
    "hitl": Dialect(read_hitl, write_hitl),
    "tool_approval": Dialect(read_tool_approval, write_tool_approval),
}
