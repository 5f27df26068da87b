"""A graph whose state holds every kind of value that agents keep, and that changes none of them."""

import operator
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel, SecretStr


class Risk(Enum):
    LOW = "low"
    HIGH = "high"


class Level(StrEnum):
    """One that stands by itself in a state is kept by LangGraph as text, its type forgotten."""

    FIRST = "first"


class Rank(Enum):
    FIRST = 1


class Money(BaseModel):
    amount: Decimal
    currency: str = "EUR"


class Claim(BaseModel):
    number: int
    opened: date
    risk: Risk
    paid: list[Money] = []


@dataclass
class Holder:
    name: str
    since: date
    rank: Rank
    address: "Address"


@dataclass(frozen=True)
class Address:
    city: str
    lines: list[str]


class Point(NamedTuple):
    x: int
    y: int


class State(TypedDict, total=False):
    note: str
    messages: Annotated[list[AnyMessage], add_messages]
    documents: list[Document]
    day: date
    moment: datetime
    clock: time
    window: timedelta
    amount: Decimal
    key: UUID
    place: Path
    file: bytes
    buffer: bytearray
    risk: Risk
    rank: Rank
    level: Level
    pair: tuple[int, str]
    claim: Claim
    claims: dict[str, Claim]
    holder: Holder
    point: Point
    tags: set[str]
    frozen: frozenset[int]
    last: deque[int]
    secret: SecretStr
    nested: dict[str, Any]
    numbers: list[Any]
    log: Annotated[list[str], operator.add]
    seen: dict[str, str]


VALUES: dict[str, Any] = {
    "note": "Dear Maeve",
    "messages": [
        SystemMessage("Be brief.", id="m0"),
        HumanMessage("Where is my refund?", id="m1", name="Maeve"),
        AIMessage(
            "",
            id="m2",
            tool_calls=[{"name": "find", "args": {"order": 7}, "id": "c1", "type": "tool_call"}],
            usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        ),
        ToolMessage("Order 7: paid", id="m3", tool_call_id="c1", name="find", artifact={"row": 7}),
        AIMessage([{"type": "text", "text": "It is on its way."}], id="m4"),
    ],
    "documents": [Document("Refunds take five days.", id="d1", metadata={"page": 3})],
    "day": date(2026, 11, 19),
    "moment": datetime(2026, 11, 19, 10, 42, 1, 5, tzinfo=UTC),
    "clock": time(10, 42),
    "window": timedelta(days=2, seconds=5),
    "amount": Decimal("148.20"),
    "key": UUID(int=7),
    "place": Path("/claims/7.pdf"),
    "file": bytes(range(256)) * 8,
    "buffer": bytearray(b"abc"),
    "risk": Risk.HIGH,
    "rank": Rank.FIRST,
    "level": Level.FIRST,
    "pair": (1, "two"),
    "claim": Claim(
        number=7, opened=date(2026, 1, 2), risk=Risk.LOW, paid=[Money(amount=Decimal("1.10"))]
    ),
    "claims": {"7": Claim(number=7, opened=date(2026, 1, 2), risk=Risk.HIGH)},
    "holder": Holder("Maeve", date(2020, 1, 1), Rank.FIRST, Address("Cork", ["1 Quay", "Cork"])),
    "point": Point(1, 2),
    "tags": {"vip", "late"},
    "frozen": frozenset({1, 2}),
    "last": deque([1, 2]),
    "secret": SecretStr("hunter2"),
    "nested": {"a.b": {"c/d": {"~é": [None, True, 0.5, -3]}}, "": "nameless", "2": "two"},
    "numbers": [2**63 - 1, -0.0, 1e300, 10**15],
}


def draft(state: State) -> dict[str, Any]:
    return {"log": ["draft"]}


def human_approval(state: State) -> dict[str, Any]:
    return {"log": ["human_approval"]}


def send(state: State) -> dict[str, Any]:
    """Notes the type of all that it is given, as a node would come to depend on."""
    return {"log": ["send"], "seen": {key: type(value).__name__ for key, value in state.items()}}


builder = StateGraph(State)
builder.add_node("draft", draft)
builder.add_node("human_approval", human_approval)
builder.add_node("send", send)
builder.add_edge(START, "draft")
builder.add_edge("draft", "human_approval")
builder.add_edge("human_approval", "send")
builder.add_edge("send", END)
