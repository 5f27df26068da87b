"""A state that cannot wholly be read: shown as far as it goes, with the reason; nothing breaks."""

import asyncio
import hashlib
import re
import uuid
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
from django.db import connection
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, SecretStr

from approvals.models import Review
from approvals.plain import jsonable
from approvals.registry import registry
from approvals.savers import JoiningSaver, joined, raw_connection, with_saver
from approvals.snapshots import snapshot, undecodable
from approvals.state_tree import tree
from approvals.tolerant import TolerantSerde, reading
from approvals.undecodable import Undecodable
from graphs.registry import Graph, ReviewSettings
from tests.conftest import _input, capture_all, pause, waiting

PERMISSIVE = JsonPlusSerializer(allowed_msgpack_modules=True)
STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)


@dataclass
class Parcel:
    """A type of the agent's own that no state declares and nobody allowed."""

    number: int


@dataclass
class Pallet:
    parcels: list[Parcel]


class Vault(BaseModel):
    pin: SecretStr


class Stream:
    """A cipher of sorts: without its key there is no reading, as with the real ones."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def _mixed(self, data: bytes) -> bytes:
        blocks = (hashlib.sha256(self.key + bytes([n % 256])).digest() for n in range(len(data)))
        return bytes(a ^ block[0] for a, block in zip(data, blocks, strict=True))

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        seal = hashlib.sha256(self.key + plaintext).digest()
        return "stream", seal + self._mixed(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        plain = self._mixed(ciphertext[32:])
        if hashlib.sha256(self.key + plain).digest() != ciphertext[:32]:
            raise ValueError("MAC check failed")
        return plain


def read(value: object, *allowed: type, stored: tuple[str, bytes] | None = None) -> Any:
    """What comes of a value that an agent stored, for an installation that allows these types."""
    serde = JsonPlusSerializer(allowed_msgpack_modules=allowed or None)
    return TolerantSerde(serde).loads_typed(stored or PERMISSIVE.dumps_typed(value))


# What LangGraph does by itself


def test_strict_langgraph_gives_the_inside_of_an_unknown_type_and_says_nothing():
    stored = PERMISSIVE.dumps_typed({"parcel": Parcel(7), "pin": SecretStr("hunter2")})
    assert STRICT.loads_typed(stored) == {"parcel": {"number": 7}, "pin": "hunter2"}


def test_langgraph_raises_for_an_encrypted_value_without_its_key():
    stored = EncryptedSerializer(Stream(b"k")).dumps_typed({"a": 1})
    assert stored[0] == "msgpack+stream"
    with pytest.raises(NotImplementedError):
        STRICT.loads_typed(stored)


# One value


def test_an_unknown_type_is_named_with_what_is_inside_and_what_to_do():
    found = read({"parcel": Parcel(7), "kept": [1]})
    assert found["kept"] == [1]
    assert jsonable(found["parcel"]) == {
        "__type__": "undecodable",
        "why": "The type tests.test_undecodable.Parcel is not allowed here. An admin can add "
        '["tests.test_undecodable", "Parcel"] to allowed_msgpack_modules in reviews.toml.',
        "kind": "tests.test_undecodable.Parcel",
        "bytes": found["parcel"].size,
        "inside": {"number": 7},
    }
    assert read(Parcel(7), Parcel) == Parcel(7)


def test_a_known_type_that_holds_an_unknown_one_is_not_built():
    found = read(Pallet([Parcel(7)]), Pallet)
    assert isinstance(found, Undecodable)
    assert "holds a tests.test_undecodable.Parcel" in found.reason
    assert [type(one) for one in found.inside["parcels"]] == [Undecodable]
    assert read(Pallet([Parcel(7)]), Pallet, Parcel) == Pallet([Parcel(7)])


def test_a_model_that_makes_its_own_fields_anew_is_whole():
    assert read(Vault(pin=SecretStr("hunter2")), Vault) == Vault(pin=SecretStr("hunter2"))


@pytest.mark.parametrize("value", [SecretStr("hunter2"), Vault(pin=SecretStr("hunter2"))])
def test_a_secret_stays_one(value):
    shown = jsonable(read({"a": [value]}))
    assert "undecodable" in str(shown)
    assert "hunter2" not in str(shown)


def test_a_type_that_is_gone_is_named(monkeypatch):
    stored = PERMISSIVE.dumps_typed(Parcel(7))
    monkeypatch.delattr("tests.test_undecodable.Parcel")
    found = TolerantSerde(PERMISSIVE).loads_typed(stored)
    assert "cannot be imported here" in found.reason
    assert found.inside == {"number": 7}


def test_a_type_that_has_changed_is_named(monkeypatch):
    stored = PERMISSIVE.dumps_typed(Parcel(7))
    monkeypatch.setattr("tests.test_undecodable.Parcel", type("Parcel", (), {}))
    found = TolerantSerde(PERMISSIVE).loads_typed(stored)
    assert "the type has changed" in found.reason


@pytest.mark.parametrize(
    ("kind", "stored", "why"),
    [
        ("msgpack+aes", b"x" * 40, "It is encrypted (aes), and this installation has no key"),
        ("pickle", b"x", "never opened here"),
        ("avro", b"x", "stored as “avro”"),
        ("msgpack", b"\xc1", "stored bytes are broken"),
        ("msgpack", b"", "stored bytes are broken"),
        ("msgpack", b"\xc7\x05\x02abcde", "stored bytes are broken"),
        ("json", b"{", "stored bytes are broken"),
    ],
)
def test_what_cannot_be_read_says_why(kind, stored, why):
    found = read(None, stored=(kind, stored))
    assert isinstance(found, Undecodable), found
    assert why in found.reason
    assert (found.kind, found.size) == (kind, len(stored))


def test_the_wrong_key_is_named_and_the_right_one_reads():
    stored = EncryptedSerializer(Stream(b"right")).dumps_typed({"parcel": Parcel(7), "a": 1})
    wrong = TolerantSerde(EncryptedSerializer(Stream(b"wrong"))).loads_typed(stored)
    assert "could not be decrypted here (ValueError)" in wrong.reason
    right = TolerantSerde(EncryptedSerializer(Stream(b"right"), STRICT)).loads_typed(stored)
    assert right["a"] == 1
    assert isinstance(right["parcel"], Undecodable)


def test_it_cannot_be_stored():
    found = read(Parcel(7))
    with pytest.raises(TypeError):
        TolerantSerde(PERMISSIVE).dumps_typed({"parcel": found})


def test_a_state_that_spells_the_mark_is_not_taken_for_one():
    mark = {"__type__": "undecodable", "why": "so", "kind": "x", "bytes": 1}
    plain = jsonable({"a": mark, "b": {"__type__": "cut", "kind": "list"}})
    assert plain["a"] == {"__type__'": "undecodable", "why": "so", "kind": "x", "bytes": 1}
    assert "__type__" not in plain["b"]


# A thread


@pytest.mark.django_db
def test_a_thread_with_an_unknown_type_keeps_its_next_and_its_tasks():
    thread_id = pause("scripted", script={"parcel": Parcel(7)})
    graph = registry().graphs["scripted"]
    state = reading(joined(graph)).get_state({"configurable": {"thread_id": thread_id}})
    assert state.next == ("human_approval",)
    assert [task.name for task in state.tasks] == ["human_approval"]
    ((path, why),) = undecodable(snapshot(state))
    assert path == "/values/script/parcel"
    assert "tests.test_undecodable.Parcel" in why


class Checked(BaseModel):
    """A state that pydantic checks whenever a node is given it."""

    note: str = ""
    parcel: Any = None
    rank: int | list[int] = 0


def checked() -> Graph:
    builder = StateGraph(Checked)
    builder.add_node("human_approval", lambda state: {})
    builder.add_edge(START, "human_approval")
    builder.add_edge("human_approval", END)
    settings = ReviewSettings(approval_nodes=["human_approval"], response="note", group="g")
    return Graph("checked", builder.compile(interrupt_before=["human_approval"]), settings)


@pytest.mark.django_db
def test_a_state_that_is_a_model_is_read_though_it_could_not_be_checked():
    graph, place = checked(), {"configurable": {"thread_id": uuid.uuid4().hex}}
    encrypted(graph, {"note": "Dear Maeve", "parcel": [1], "rank": [7]}, place)
    state = reading(joined(graph)).get_state(place)
    assert state.next == ("human_approval",)
    assert state.values["note"] == "Dear Maeve"
    assert isinstance(state.values["rank"], Undecodable)


def encrypted(graph: Graph, given: Any, place: Any) -> None:
    """A run of an agent that encrypts its checkpoints."""
    saver = JoiningSaver(raw_connection(), serde=EncryptedSerializer(Stream(b"theirs")))
    asyncio.run(with_saver(graph, saver).ainvoke(given, place))


def paused_encrypted(**state: Any) -> str:
    thread_id = f"scripted-{uuid.uuid4().hex[:8]}"
    place = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": "scripted"}}
    encrypted(registry().graphs["scripted"], {**_input("scripted", thread_id), **state}, place)
    return thread_id


def words(answer: Any) -> str:
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", answer.content.decode(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.mark.django_db
def test_an_encrypted_thread_becomes_a_review_that_says_what_cannot_be_read(as_):
    thread_id = paused_encrypted(script={"ask": "Really?"})
    capture_all()
    review = Review.objects.get(thread_id=thread_id)
    assert (review.graph, review.node, review.status) == ("scripted", "human_approval", "waiting")
    # LangGraph keeps texts and numbers beside the encrypted values, as they are.
    assert review.title == f"Case {thread_id}"
    assert [path for path, _ in undecodable(review.snapshot)] == ["/values/script", "/values/log"]
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assert page.status_code == 200
    said = words(page)
    assert "It is encrypted (stream), and this installation has no key for it." in said
    assert "Really?" not in said
    assert as_("rita").get("/").status_code == 200


@pytest.mark.django_db
def test_a_question_that_is_encrypted_is_a_task_that_cannot_be_read():
    thread_id = paused_encrypted(script={"ask": "Really?"})
    graph, place = registry().graphs["scripted"], {"configurable": {"thread_id": thread_id}}
    encrypted(graph, None, place)
    state = reading(joined(graph)).get_state(place)
    (task,) = snapshot(state)["tasks"]
    assert (task["name"], task["interrupts"][0]["id"]) == ("human_approval", "undecodable")
    paths = [path for path, _ in undecodable(snapshot(state))]
    assert "/tasks/0/interrupts/0/value" in paths


@pytest.mark.django_db
def test_broken_bytes_in_one_thread_hide_neither_it_nor_the_others(as_):
    broken, whole = pause("scripted"), pause("scripted")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checkpoint_blobs SET blob = '\\xc1' WHERE thread_id = %s AND channel = 'log'",
            [broken],
        )
    capture_all()
    reviews = {one.thread_id: one for one in Review.objects.filter(status="waiting")}
    assert set(reviews) == {broken, whole}
    assert [path for path, _ in undecodable(reviews[broken].snapshot)] == ["/values/log"]
    assert undecodable(reviews[whole].snapshot) == []
    for one in reviews.values():
        assert as_("rita").get(f"/reviews/{one.pk}/").status_code == 200
    page = words(as_("rita").get("/"))
    assert all(one.title in page for one in reviews.values())


@pytest.mark.django_db
def test_a_value_is_opened_as_far_as_it_can_be_read(as_):
    review = waiting("scripted", script={"parcel": Parcel(7)})
    page = as_("rita").get(f"/reviews/{review.pk}/value", {"path": "/values/script"})
    assert "An admin can add" in words(page)
    assert "number 7" in words(page)


def test_the_tree_names_the_type_and_the_reason():
    node = next(one for one in tree(jsonable({"p": read(Parcel(7))})) if one.key == "p")
    assert node.kind == "unreadable"
    assert node.summary.startswith("cannot be read, tests.test_undecodable.Parcel, ")
    assert "is not allowed here" in node.text
    assert [(child.key, child.text) for child in node.children] == [("number", "7")]
