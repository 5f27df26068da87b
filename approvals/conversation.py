"""The messages of a state, as a person reads a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass

from approvals.paths import pick
from approvals.plain import JSON
from approvals.snapshots import items_of

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
    items = items_of(pick(values, key))
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
