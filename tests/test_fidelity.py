"""What agents keep in a state comes through an edit of another field as it was, and is readable."""

import asyncio
import re
import uuid
from collections import deque
from html import unescape

import pytest
from django.template.loader import render_to_string

from approvals.plain import jsonable
from approvals.savers import joined
from approvals.snapshots import snapshot as snapshot_of
from approvals.snapshots import undecodable
from approvals.state_tree import tree
from approvals.tolerant import reading
from graphs.registry import Graph, ReviewSettings
from tests.graphs import typed

pytestmark = pytest.mark.django_db
SETTINGS = ReviewSettings(
    approval_nodes=["human_approval"],
    response="note",
    group="scripted-reviewers",
    # LangGraph collects declared enums, models and dataclasses by itself, but not these two.
    allowed_msgpack_modules=[("tests.graphs.typed", "Point"), ("pydantic.types", "SecretStr")],
)

# What LangGraph itself makes of a value when the agent first stores it.
STORED = {"level": "first", "pair": [1, "two"]}


@pytest.fixture
def graph() -> Graph:
    compiled = typed.builder.compile(interrupt_before=["human_approval"])
    return Graph("typed", compiled, SETTINGS)


@pytest.fixture
def config(graph) -> dict:
    """A thread that waits before human_approval, with every kind of value in its state."""
    place = {"configurable": {"thread_id": f"typed-{uuid.uuid4().hex[:8]}"}}
    asyncio.run(joined(graph).ainvoke(typed.VALUES, place))
    assert joined(graph).get_state(place).next == ("human_approval",)
    return place


def shape(value: object) -> object:
    """The value with the type of all that is in it, for equality alone is not enough: 1 == True."""
    kind = type(value).__qualname__
    if isinstance(value, dict):
        return kind, {key: shape(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, value))
    if isinstance(value, list | tuple | deque):
        return kind, [shape(item) for item in value]
    held = getattr(value, "__dict__", None)
    return kind, shape(held) if held and not hasattr(value, "_value_") else repr(value)


def held(graph, config) -> dict:
    return joined(graph).get_state(config).values


@pytest.mark.parametrize("key", sorted(set(typed.VALUES) - {"note"}))
def test_an_edit_of_another_field_leaves_a_value_as_it_was(graph, config, key):
    before = held(graph, config)
    asyncio.run(joined(graph).aupdate_state(config, {"note": "Dear Maeve, it is paid."}))
    after = held(graph, config)
    assert after["note"] == "Dear Maeve, it is paid."
    assert shape(after[key]) == shape(before[key])
    assert shape(after[key]) == shape(STORED.get(key, typed.VALUES[key]))


def test_the_run_that_goes_on_is_given_the_values_as_they_were(graph, config):
    asyncio.run(joined(graph).aupdate_state(config, {"note": "Edited"}))
    asyncio.run(joined(graph).ainvoke(None, config))
    after = held(graph, config)
    assert after["log"] == ["draft", "human_approval", "send"]
    for key, value in typed.VALUES.items():
        stored = STORED.get(key, value)
        assert after["seen"][key] == type(stored).__name__
        assert after[key] == ("Edited" if key == "note" else stored)


def test_a_tolerant_reader_reads_the_very_same_state(graph, config):
    strict, kind = joined(graph).get_state(config), reading(joined(graph)).get_state(config)
    assert kind.values == strict.values
    assert {k: type(v) for k, v in kind.values.items()} == {
        k: type(v) for k, v in strict.values.items()
    }
    assert (kind.next, kind.config) == (strict.next, strict.config)
    assert snapshot_of(kind) == snapshot_of(strict)
    assert not undecodable(snapshot_of(kind))


def page(values: object) -> str:
    html = render_to_string("_tree.html", {"nodes": tree(jsonable(values))})
    read = re.sub(r"<button.*?</button>", "", html)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", read)).split())


@pytest.mark.parametrize(
    "words",
    [
        "system: Be brief.",
        "human: Where is my refund?",
        "ai: calls find",
        "tool: Order 7: paid",
        "ai: It is on its way.",
        "document: Refunds take five days.",
        'day "2026-11-19"',
        "moment 2026-11-19T10:42:01.000005+00:00",
        'clock "10:42:00"',
        'window "2 days, 0:00:05"',
        'amount "148.20"',
        "key 00000000-0000-0000-0000-000000000007",
        'place "/claims/7.pdf"',
        "file bytes, 2,048 B",
        "buffer bytearray, 3 B",
        'risk "high"',
        "rank 1",
        "claim 4 keys number 7",
        'name "Maeve" since "2020-01-01" rank 1',
        "point 2 keys x 1 y 2",
        'tags 2 items 0 "late" 1 "vip"',
    ],
)
def test_it_is_shown_readably(graph, config, words):
    assert words in page(held(graph, config))


def test_a_secret_is_not_shown(graph, config):
    assert "hunter2" not in page(held(graph, config))
