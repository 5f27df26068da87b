import hashlib
import json
import sys
from collections import deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, Field, SecretStr

from approvals.changes import Change, changes
from approvals.conversation import Message, messages
from approvals.paths import excerpt, fill, pick
from approvals.plain import digest, jsonable
from approvals.state_tree import Node, tree


class Risk(StrEnum):
    HIGH = "high"


class Rank(IntEnum):
    FIRST = 1


class Shape(Enum):
    SIDES = (3, 4)


@dataclass
class Customer:
    name: str
    tags: set[str]


class Claim(BaseModel):
    amount: Decimal
    token: SecretStr
    inner: str = Field(default="kept out of dumps", exclude=True)


Point = namedtuple("Point", "x y")


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    @property
    def name(self) -> str:
        raise RuntimeError("no")


class HostileDict(dict):
    def items(self):
        raise RuntimeError("no")


class HostileClass:
    @property
    def __class__(self):
        raise RuntimeError("no")


# Storing


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**70, 2**70),
        (0.5, 0.5),
        ("text", "text"),
        ((1, [2]), [1, [2]]),
        (deque([1]), [1]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({3, 1}), [1, 3]),
        ({1: "one", None: 0}, {"1": "one", "None": 0}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (date(2026, 11, 19), "2026-11-19"),
        (datetime(2026, 11, 19, 10, 42, tzinfo=UTC), "2026-11-19T10:42:00+00:00"),
        (time(10, 42), "10:42:00"),
        (timedelta(hours=2, minutes=14), "2:14:00"),
        (Decimal("148.20"), "148.20"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/a/b"), "/a/b"),
        (Risk.HIGH, "high"),
        (Rank.FIRST, 1),
        (Shape.SIDES, [3, 4]),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Customer("Maeve", {"b", "a"}), {"name": "Maeve", "tags": ["a", "b"]}),
        (Document("x"), {"page_content": "x", "type": "Document"}),
    ],
)
def test_a_value_becomes_plain(value: object, plain: object):
    assert jsonable(value) == plain
    assert type(jsonable(value)) is type(plain)


def test_what_jsonb_cannot_hold_is_replaced():
    assert jsonable({"a\x00": "b\ud800"}) == {"a\ufffd": "b\ufffd"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_without_json_is_named(value: float):
    assert jsonable([value]) == [{"__type__": "builtins.float", "repr": repr(value)}]


def test_numbers_are_written_as_jsonb_gives_them_back():
    assert json.dumps(jsonable([1e16, -1.5e300, -0.0, 1.0, 1e-7])) == json.dumps(
        [10**16, int(-1.5e300), 0.0, 1.0, 1e-7]
    )


def test_an_integer_too_long_for_json_is_named():
    assert jsonable(10**5_000)["__type__"] == "builtins.int"


def test_bytes_are_previewed():
    assert jsonable(b"abc" * 100) == {
        "__type__": "builtins.bytes",
        "length": 300,
        "base64": "YWJj" * 16,
        "sha256": hashlib.sha256(b"abc" * 100).hexdigest(),
    }
    assert jsonable(b"abc") == {"__type__": "builtins.bytes", "length": 3, "base64": "YWJj"}


def test_keys_that_look_alike_are_both_kept():
    assert jsonable({1: "number", "1": "text"}) == {"1": "number", "1'": "text"}


def test_a_model_keeps_its_secrets():
    claim = jsonable(Claim(amount=Decimal("12"), token=SecretStr("hunter2")))
    assert claim["amount"] == "12"
    assert set(claim) == {"amount", "token"}
    assert "hunter2" not in json.dumps(claim)


def test_a_message_keeps_only_what_it_says():
    call = {"name": "refund", "args": {"amount": 12}, "id": "c1", "type": "tool_call"}
    assert jsonable(AIMessage("Yes", id="m1", tool_calls=[call])) == {
        "type": "ai",
        "content": "Yes",
        "id": "m1",
        "tool_calls": [call],
    }
    assert jsonable(HumanMessage("")) == {"type": "human", "content": ""}
    answer = ToolMessage("done", tool_call_id="c1", name="refund")
    assert jsonable(answer)["tool_call_id"] == "c1"
    assert jsonable(HumanMessage("x", additional_kwargs={"a": 1}))["additional_kwargs"] == {"a": 1}


def test_langgraph_objects_are_named():
    command = Command(update={"a": 1}, goto="send")
    assert jsonable(command) == {
        "__type__": "langgraph.types.Command",
        "update": {"a": 1},
        "goto": "send",
    }
    assert jsonable(Send("draft", {"n": 1})) == {
        "__type__": "langgraph.types.Send",
        "node": "draft",
        "arg": {"n": 1},
    }
    assert jsonable(Interrupt({"ask": "?"}, id="i1")) == {
        "__type__": "langgraph.types.Interrupt",
        "value": {"ask": "?"},
        "id": "i1",
    }


def test_an_error_is_its_class_and_message():
    assert jsonable(ValueError("no such customer")) == {
        "__type__": "builtins.ValueError",
        "message": "no such customer",
    }


def test_anything_else_is_its_class_and_a_short_repr():
    assert jsonable(range(3)) == {"__type__": "builtins.range", "repr": "range(0, 3)"}
    assert len(jsonable(type("Long", (), {"__repr__": lambda self: "x" * 9_000})())["repr"]) == 500


def test_one_state_has_one_digest_wherever_it_is_read():
    first, second = (
        jsonable({"a": object(), "b": {"x", "y"}}),
        jsonable({"b": {"y", "x"}, "a": object()}),
    )
    assert digest(first) == digest(second)


HOSTILE = {
    "repr": Hostile,
    "items": lambda: HostileDict(a=1),
    "class": HostileClass,
    "in a list": lambda: [HostileClass()],
    "key": lambda: {Hostile(): 1},
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_value_raises_nothing(make: Callable[[], object]):
    plain = jsonable({"kept": 1, "hostile": make()})
    assert json.loads(json.dumps(plain))["kept"] == 1


def test_a_cycle_ends():
    ring: dict[str, object] = {"name": "ring"}
    ring["self"] = [ring]
    assert jsonable(ring) == {
        "name": "ring",
        "self": [{"__type__": "builtins.dict", "repr": "cycle"}],
    }


def test_the_same_object_twice_is_no_cycle():
    shared = {"a": 1}
    assert jsonable([shared, shared]) == [shared, shared]


def test_nesting_without_end_is_cut():
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    text = json.dumps(jsonable(deep))
    assert text.count("[") == 60
    assert "nested too deeply" in text


def test_little_stack_left_raises_nothing():
    def descend(room: int) -> object:
        return descend(room - 1) if room else jsonable({"a": [[[Hostile()]]]})

    assert descend(sys.getrecursionlimit() - 200)["a"]


def test_the_digest_is_that_of_sorted_compact_utf8_json():
    assert digest({"b": 1, "a": "é"}) == digest({"a": "é", "b": 1})
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({"a": 1}) != digest({"a": True})


# Looking up


STATE = {
    "subject": "Refund",
    "customer": Customer("Maeve", set()),
    "messages": [HumanMessage("first"), HumanMessage("last")],
    "amounts": [12, 3.5],
    "nested": {"a": {"b": None}},
    "hostile": Hostile(),
    "_key": "a key may be private",
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("subject", "Refund"),
        ("customer.name", "Maeve"),
        ("messages.-1.content", "last"),
        ("messages.0.content", "first"),
        ("_key", "a key may be private"),
        ("nested.a.b", None),
        ("nested.a.b.c", None),
        ("absent.name", None),
        ("messages.7.content", None),
        ("messages.one", None),
        ("customer.__class__", None),
        ("customer._name", None),
        ("subject.upper", None),
        ("subject.__class__.__mro__", None),
        ("hostile.name", None),
        ("", None),
        ("..", None),
    ],
)
def test_a_path_finds_data_and_nothing_else(path: str, found: object):
    assert pick(STATE, path) == found


def test_a_title_is_filled_from_the_state():
    assert fill("{subject}: {customer.name}", STATE) == "Refund: Maeve"
    assert fill("{amounts} for { subject }", STATE) == "12, 3.5 for Refund"


def test_what_is_absent_or_has_no_short_form_leaves_nothing():
    assert fill("{subject}{absent} {nested}{hostile}!", STATE) == "Refund !"


def test_a_title_is_one_line_of_at_most_200_characters():
    assert fill("a {x}", {"x": "b\n\n c"}) == "a b c"
    title = fill("{x}", {"x": "word " * 100})
    assert len(title) <= 200
    assert title.endswith("word…")


def test_a_filled_value_is_not_a_template():
    assert fill("{x}", {"x": "{secret}", "secret": "s"}) == "{secret}"


def test_an_excerpt_ends_at_a_word():
    assert excerpt("I can pay\n**£60** now and the rest", 21) == "I can pay **£60**…"
    assert excerpt("exactly ten", 11) == "exactly ten"


@pytest.mark.parametrize("length", range(2, 60))
def test_an_excerpt_is_never_longer_than_asked(length: int):
    assert (
        len(excerpt("I can pay sixty pounds now, and the rest after the 28th.", length)) <= length
    )
    assert len(excerpt("x" * 80, length)) == length


# Comparing


def test_changes_name_what_was_added_removed_changed_and_appended():
    before = {"kept": [1], "risk": "low", "gone": 1, "log": ["a"], "list": [1, 2]}
    after = {"kept": [1], "risk": "high", "log": ["a", "b"], "list": [2], "new": None}
    assert changes(before, after) == [
        Change("risk", "changed", "low", "high"),
        Change("log", "appended", ["a"], ["b"]),
        Change("list", "changed", [1, 2], [2]),
        Change("new", "added", None, None),
        Change("gone", "removed", 1, None),
    ]


def test_true_and_one_are_different():
    assert changes({"a": 1}, {"a": True}) == [Change("a", "changed", 1, True)]
    assert [change.kind for change in changes({"a": [1]}, {"a": [True, 2]})] == ["changed"]


# Conversation


def test_a_conversation_is_read_from_stored_messages():
    call = {"name": "refund", "args": {"items": [1]}, "id": "c1", "type": "tool_call"}
    talk = jsonable(
        [
            HumanMessage("Hi", name="Maeve"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("done", tool_call_id="c1"),
        ]
    )
    human, ai, tool = messages({"messages": talk}, "messages")
    assert human == Message("human", "Maeve", "Hi", [])
    assert (ai.role, ai.text, ai.tool_calls[0].name) == ("ai", "", "refund")
    assert ai.tool_calls[0].pairs == [("items", [1])]
    assert (tool.role, tool.text) == ("tool", "done")


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ({"role": "user"}, "human"),
        ({"role": "assistant"}, "ai"),
        ({"role": "developer"}, "system"),
        ({"type": "AIMessageChunk"}, "ai"),
        ({"type": "remove"}, "remove"),
        ({}, ""),
    ],
)
def test_every_way_to_name_a_role_is_understood(said: dict[str, str], role: str):
    assert messages({"m": [said | {"content": "x"}]}, "m")[0].role == role


def test_blocks_of_text_are_joined_and_others_named():
    content = [
        "plain",
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}},
        {"type": "tool_use", "name": "refund"},
        {},
        7,
    ]
    (message,) = messages({"m": [{"type": "ai", "content": content}]}, "m")
    assert message.text == "plain\nLook:\n[image]\n[unknown]"


@pytest.mark.parametrize("value", [None, "text", {"content": "x"}, [1, "x", None, {"type": "ai"}]])
def test_what_is_no_conversation_has_no_messages(value: object):
    assert messages({"m": value}, "m") == []


def test_malformed_tool_calls_do_no_harm():
    item = {"type": "ai", "content": None, "tool_calls": [1, {"args": "x"}, {"name": None}]}
    (message,) = messages({"m": [item]}, "m")
    assert [(call.name, call.args) for call in message.tool_calls] == [("", {}), ("", {})]


# State tree


def test_a_tree_has_a_node_per_key_and_item():
    draft, flag, nothing, items = tree({"draft": {"lang": "en"}, "ok": True, "no": None, "n": [1]})
    assert draft == Node("draft", "dict", "1 key", children=(Node("lang", "str", text="en"),))
    assert (flag.kind, flag.text) == ("bool", "true")
    assert (nothing.kind, nothing.text) == ("null", "null")
    assert items == Node("n", "list", "1 item", children=(Node("0", "number", text="1"),))


def test_a_tree_of_one_value_is_one_leaf():
    assert tree("x") == (Node("", "str", text="x"),)
    assert tree({}) == ()


def test_a_named_type_is_its_summary():
    assert tree([{"__type__": "app.Custom", "repr": "x"}])[0].summary == "app.Custom"


def test_only_so_many_children_are_drawn():
    drawn = tree(list(range(1_500)))
    assert len(drawn) == 201
    assert drawn[-1] == Node("", "more", "1,300 more")
    assert len(tree(list(range(200)))) == 200


def test_a_long_leaf_is_cut_and_says_by_how_much():
    (leaf,) = tree("x" * 3_500)
    assert (len(leaf.text), leaf.truncated, leaf.summary) == (2_000, True, "1,500 more characters")
    assert not tree("x" * 2_000)[0].truncated
