"""What a graph declares of its state and its tools; edits come back as the declared types."""

import dataclasses
import datetime as dt
import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AnyMessage
from langchain_core.tools import InjectedToolArg, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import InjectedState, ToolNode
from pydantic import BaseModel, Field

from graphs.fields import coerce, schema_of, tool_schemas

REF = uuid.UUID("5a321833-b4db-4a3e-95d9-aff7971d2b2f")


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Item(TypedDict):
    sku: str
    bought: dt.date
    parts: "NotRequired[list[Item]]"


class Offer(BaseModel):
    amount: Decimal
    until: dt.date
    size: Size = Size.SMALL


OFFER = Offer(amount=Decimal("1"), until=dt.date(2026, 5, 1), size=Size.LARGE)


@dataclasses.dataclass
class Address:
    street: str
    since: dt.date


class Aliased(BaseModel):
    house: int = Field(alias="House No")


class Opaque:
    """Has no form in JSON."""


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    count: Required[int]
    sure: bool
    ratio: float
    due: dt.date
    at: dt.datetime | None
    takes: dt.timedelta
    price: Decimal
    ref: uuid.UUID
    size: Size
    sizes: list[Size]
    mood: Literal["good", "bad"]
    items: list[Item]
    offer: Offer
    address: Address
    aliased: Aliased
    seen: set[str]
    pair: tuple[int, str]
    anything: Any
    note: NotRequired[str | None]
    described: Annotated[int, Field(ge=1, description="How many")]
    scan: bytes
    scans: dict[str, bytes]
    opaque: Opaque
    call: Callable[[int], int]


class Model(BaseModel):
    amount: int = Field(ge=1, description="In cents")
    log: Annotated[list[str], operator.add] = []


@dataclasses.dataclass
class Data:
    due: dt.date
    log: Annotated[list[str], operator.add] = dataclasses.field(default_factory=list)


def graph(schema: Any, **kinds: Any) -> Any:
    builder = StateGraph(schema, **kinds)
    builder.add_node("work", lambda state: {})
    builder.add_edge(START, "work")
    return builder.compile()


@pytest.fixture(scope="module")
def compiled() -> Any:
    return graph(State)


def test_schemas_come_from_the_declared_types(compiled):
    assert schema_of(compiled, "count") == {"type": "integer"}
    assert schema_of(compiled, "due") == {"type": "string", "format": "date"}
    assert schema_of(compiled, "mood") == {"type": "string", "enum": ["good", "bad"]}
    assert schema_of(compiled, "log") == {"type": "array", "items": {"type": "string"}}
    assert schema_of(compiled, "note") == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema_of(compiled, "described") == {
        "type": "integer",
        "minimum": 1,
        "description": "How many",
    }


def test_a_pydantic_state_keeps_its_constraints_and_descriptions():
    model = graph(Model)
    assert schema_of(model, "amount") == {
        "type": "integer",
        "minimum": 1,
        "description": "In cents",
    }
    assert coerce(model, "amount", 5) == 5
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        coerce(model, "amount", 0)
    assert schema_of(model, "log") == {"type": "array", "items": {"type": "string"}}


def test_a_dataclass_state_too():
    assert coerce(graph(Data), "due", "2026-11-30") == dt.date(2026, 11, 30)


def test_fields_of_an_input_schema_are_known():
    class Given(TypedDict):
        asked: dt.date

    class Small(TypedDict):
        count: int

    assert coerce(graph(Small, input_schema=Given), "asked", "2026-01-02") == dt.date(2026, 1, 2)


@pytest.mark.parametrize("name", ["messages", "anything", "opaque", "call", "scan", "scans", "no"])
def test_what_has_no_useful_schema_has_none(compiled, name):
    assert schema_of(compiled, name) is None


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("count", 5, 5),
        ("sure", True, True),
        ("ratio", 5, 5.0),
        ("due", "2026-11-30", dt.date(2026, 11, 30)),
        ("at", "2026-11-30T14:05:00", dt.datetime(2026, 11, 30, 14, 5)),
        ("at", "2026-11-30T14:05:00Z", dt.datetime(2026, 11, 30, 14, 5, tzinfo=dt.UTC)),
        ("at", None, None),
        ("takes", "1 day, 2:00:00", dt.timedelta(days=1, hours=2)),
        ("takes", "-PT1H", dt.timedelta(hours=-1)),
        ("price", "10.50", Decimal("10.50")),
        (
            "ref",
            "5a321833-b4db-4a3e-95d9-aff7971d2b2f",
            uuid.UUID(int=0x5A321833B4DB4A3E95D9AFF7971D2B2F),
        ),
        ("size", "l", Size.LARGE),
        ("sizes", ["s", "l"], [Size.SMALL, Size.LARGE]),
        ("mood", "bad", "bad"),
        ("log", ["a"], ["a"]),
        ("address", {"street": "x", "since": "2020-01-01"}, Address("x", dt.date(2020, 1, 1))),
        ("seen", ["a", "b"], {"a", "b"}),
        ("pair", [1, "a"], (1, "a")),
        ("note", "5", "5"),
        ("anything", {"a": ["5"]}, {"a": ["5"]}),
        ("messages", [{"type": "human", "content": "hi"}], [{"type": "human", "content": "hi"}]),
        ("no such field", "5", "5"),
    ],
)
def test_json_becomes_the_declared_type(compiled, name, value, typed):
    got = coerce(compiled, name, value)
    assert got == typed
    assert type(got) is type(typed)


def test_a_model_becomes_a_model(compiled):
    got = coerce(compiled, "offer", {"amount": "9.99", "until": "2026-12-01", "size": "l"})
    assert got == Offer(amount=Decimal("9.99"), until=dt.date(2026, 12, 1), size=Size.LARGE)


def test_a_model_with_aliases_is_shown_and_read_under_its_attributes_names(compiled):
    assert schema_of(compiled, "aliased")["properties"].keys() == {"house"}
    assert coerce(compiled, "aliased", {"house": 5}).house == 5
    assert coerce(compiled, "aliased", {"House No": 5}).house == 5


def test_typing_typeddicts_are_read_also_where_they_hold_themselves(compiled):
    inner = {"sku": "b", "bought": "2026-01-02"}
    given = [{"sku": "a", "bought": "2026-01-01", "parts": [inner], "colour": "red"}]
    assert coerce(compiled, "items", given) == [
        {
            "sku": "a",
            "bought": dt.date(2026, 1, 1),
            "parts": [{"sku": "b", "bought": dt.date(2026, 1, 2)}],
            "colour": "red",  # a dict may hold more than is declared: nothing is dropped
        }
    ]
    assert "parts" not in schema_of(compiled, "items")["$defs"]["Item"]["required"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", "5", "valid integer"),
        ("count", 5.5, "valid integer"),
        ("count", True, "valid integer"),
        ("sure", 1, "valid boolean"),
        ("sure", "true", "valid boolean"),
        ("ratio", "1.5", "valid number"),
        ("ratio", float("nan"), "no number"),
        ("due", "30.11.2026", "Write the date as"),
        ("due", "86400", "Write the date as"),  # seconds since 1970, to pydantic
        ("at", "1234567", "Write the time as"),
        ("takes", "-1 day, 23:00:00", "ISO 8601"),  # minus one hour, to Python
        ("size", "xl", "'s' or 'l'"),
        ("sizes", ["s", "xl"], "1: Input"),
        ("mood", "ugly", "'good' or 'bad'"),
        ("note", 5, "valid string"),
        ("items", [{"sku": "a", "bought": "x"}], "0.bought: "),
        ("items", [{"sku": "a"}], "0.bought: Field required"),
        ("offer", {"amount": "1", "until": "2026-12-01", "z": 1}, "z: Extra"),
        ("offer", {"amount": "1"}, "until: Field required"),
        ("address", {"street": "x", "since": "2020-01-01", "z": 1}, "z: "),
        ("described", 0, "greater than or equal to 1"),
        ("scan", "YWJj", "bytes"),
        ("scans", {"a": "YWJj"}, "bytes"),
        ("opaque", {}, "no form in JSON"),
        ("call", "f", "callable"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(compiled, name, value, said):
    with pytest.raises(ValueError, match=said) as refusal:
        coerce(compiled, name, value)
    assert "\n" not in str(refusal.value)
    assert "pydantic.dev" not in str(refusal.value)


def test_a_copy_of_a_graph_declares_the_same(compiled):
    copy = compiled.copy({"checkpointer": InMemorySaver()})
    assert schema_of(copy, "items") is schema_of(compiled, "items")


def test_an_edit_reaches_the_nodes_as_the_declared_type():
    got = {}
    builder = StateGraph(State)
    builder.add_node("draft", lambda state: {"due": dt.date(2026, 1, 1), "offer": OFFER})
    builder.add_node("send", lambda state: got.update(state))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "send")
    compiled = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["send"])
    config = {"configurable": {"thread_id": "1"}}
    compiled.invoke({"count": 1}, config)
    shown = {"due": "2026-12-24", "offer": OFFER.model_dump(mode="json") | {"amount": "2.50"}}
    edited = {name: coerce(compiled, name, value) for name, value in shown.items()}
    compiled.update_state(config, edited)
    compiled.invoke(None, config)
    assert got["due"] == dt.date(2026, 12, 24)
    assert got["offer"] == OFFER.model_copy(update={"amount": Decimal("2.50")})


class Bindable(GenericFakeChatModel):
    def bind_tools(self, *args: Any, **kwargs: Any) -> Any:
        return self


@tool
def refund(
    amount: Decimal,
    currency: Literal["EUR", "GBP"],
    when: dt.date,
    state: Annotated[dict, InjectedState],
    user: Annotated[str, InjectedToolArg],
    note: str | None = None,
) -> str:
    """Pay money back."""
    return ""


@tool
def look_up(order: str) -> str:
    """Find an order."""
    return ""


def test_tools_of_an_agent_without_what_is_injected():
    found = tool_schemas(create_agent(Bindable(messages=iter([])), [refund, look_up]))
    assert found.keys() == {"refund", "look_up"}
    assert found["refund"]["properties"].keys() == {"amount", "currency", "when", "note"}
    assert found["refund"]["required"] == ["amount", "currency", "when"]
    assert found["refund"]["properties"]["when"]["format"] == "date"


def test_tools_of_a_tool_node_in_a_subgraph():
    inner = StateGraph(State)
    inner.add_node("tools", ToolNode([look_up]))
    inner.add_edge(START, "tools")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    compiled = outer.compile()
    assert tool_schemas(compiled).keys() == {"look_up"}
    assert tool_schemas(dict(compiled.get_subgraphs())["inner"]).keys() == {"look_up"}


def test_a_tool_with_a_json_schema_of_its_own():
    from langchain_core.tools import StructuredTool

    schema = {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]}
    remote = StructuredTool(name="remote", description="x", args_schema=schema, func=lambda q: q)
    builder = StateGraph(State)
    builder.add_node("tools", ToolNode([remote]))
    builder.add_edge(START, "tools")
    assert tool_schemas(builder.compile())["remote"]["properties"] == {"q": {"type": "integer"}}


def test_a_graph_of_the_functional_api_declares_nothing_and_breaks_nothing():
    @entrypoint()
    def work(given: int) -> int:
        return given

    assert schema_of(work, "given") is None
    assert coerce(work, "given", "5") == "5"
    assert tool_schemas(work) == {}
    assert tool_schemas(None) == {}
