"""A person's answer to an agent that asks about its tool calls, through the console to the tool.

The agents are LangChain's own, on Postgres; only the model says what its thread has it say.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph.state import CompiledStateGraph

from approvals.answers import Order
from approvals.errors import Invalid, Stale
from approvals.models import AuditEntry, Decision, Review
from approvals.questions import Choice
from approvals.registry import registry
from approvals.savers import joined
from tests.conftest import capture_all
from tests.contract.graphs import asking, chain, step
from tests.shapes import TABLE, decide, langgraphs_answer, reviews_of, settle, state_of

DID: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
"""By thread: what the tools did, in order."""
ALL = ["approve", "edit", "reject", "respond"]


# The agents


class Model(BaseChatModel):
    """Asks for the calls that its first message names, and is done when it has their results."""

    @property
    def _llm_type(self) -> str:
        return "told"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        done = any(isinstance(message, ToolMessage) for message in messages)
        said = AIMessage("done") if done else AIMessage("", tool_calls=calls_of(messages[0]))
        return ChatResult(generations=[ChatGeneration(message=said)])


def calls_of(message: BaseMessage) -> list[Any]:
    named = json.loads(str(message.content))
    return [{"name": name, "args": args, "id": f"c{n}"} for n, (name, args) in enumerate(named)]


def did(config: RunnableConfig, *what: Any) -> str:
    DID[config["configurable"]["thread_id"]].append(what)
    return f"did {what[0]}"


@tool
def refund(order: str, amount: int, config: RunnableConfig) -> str:
    """Pays money back."""
    return did(config, "refund", order, amount)


@tool
def write(text: str, config: RunnableConfig) -> str:
    """Writes to the customer."""
    return did(config, "write", text)


@tool
def look_up(order: str, config: RunnableConfig) -> str:
    """Looks an order up, which nobody need allow."""
    return did(config, "look_up", order)


def agent(mode: Any = "batched", allowed: Any = None) -> CompiledStateGraph:
    decisions: Any = {"allowed_decisions": allowed or ALL}
    gate = HumanInTheLoopMiddleware({"refund": decisions, "write": decisions}, interrupt_mode=mode)
    return create_agent(Model(), [refund, write, look_up], middleware=[gate])


INBOX = [
    {
        "action_request": {"action": name, "args": {"n": number}},
        "config": {
            "allow_accept": True,
            "allow_edit": name == "pay",
            "allow_respond": True,
            "allow_ignore": name != "pay",
        },
        "description": f"May it {name}?",
    }
    for number, name in enumerate(["pay", "send", "close"])
]
WHOLE = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "amount": {"type": "integer", "maximum": 50}},
    "required": ["approved"],
    "additionalProperties": False,
}


def asks(question: Any, schema: Any = None) -> CompiledStateGraph:
    return chain(("ask", asking("ask", question, schema=schema)), ("send", step("send"))).compile()


GRAPHS: dict[str, Any] = {
    "batched": agent,
    "renaming": agent,
    "per_call": lambda: agent("per_call"),
    "strict": lambda: agent(allowed=["approve", "reject"]),
    "strict_per_call": lambda: agent("per_call", ["approve", "reject"]),
    "inbox": lambda: asks(INBOX),
    "raw": lambda: asks({"question": "What now?"}),
    "schema": lambda: asks("How much?", WHOLE),
}


def __getattr__(name: str) -> Any:
    if name not in GRAPHS:
        raise AttributeError(name)
    return GRAPHS[name]()


@pytest.fixture(autouse=True)
def graphs(clean: None, settings: Any, tmp_path: Any) -> Iterator[None]:
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    targets = {name: f"{__name__}:{name}" for name in GRAPHS}
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": targets}))
    settings.REVIEWS_TOML.write_text("".join(map(table, GRAPHS)))
    registry.cache_clear()
    yield
    registry.cache_clear()


def table(name: str) -> str:
    made = TABLE.format(name=name).replace('editable = ["draft", "amount"]', "editable = []")
    return f"{made}rename_tools = true\n" if name == "renaming" else made


# What is done with them

REFUND = ("refund", {"order": "A-1", "amount": 20})
WRITE = ("write", {"text": "Sorry."})
LOOK = ("look_up", {"order": "A-1"})
APPROVE = Choice("approve")


def start(name: str, *calls: Any, **given: Any) -> list[Review]:
    """The reviews of a new run, by their questions."""
    thread_id = f"{name}-{uuid4().hex[:8]}"
    config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": name}}
    told = {"messages": [("user", json.dumps(calls))]} if calls else {"log": []}
    joined(registry().graphs[name]).invoke({**told, **given}, config)
    capture_all()
    found = list(Review.objects.waiting().filter(thread_id=thread_id))
    return sorted(found, key=lambda one: json.dumps(one.pause["question"], sort_keys=True))


def order(review: Review, *choices: Choice) -> Order:
    return Order(review.digest, review.checkpoint_id, uuid4(), choices=choices)


def say(person: Any, review: Review, *choices: Choice) -> Decision:
    """Decides, and has the worker do its work and then once more."""
    decision = settle(decide(person, review, order(review, *choices)))
    assert reviews_of(review.thread_id) == (
        langgraphs_answer(state_of(review.graph, review.thread_id))
    )
    return settle(decision)


def refuses(person: Any, review: Review, *choices: Choice, because: str) -> None:
    """Nothing is recorded but the attempt, and the review waits on."""
    with pytest.raises(Invalid, match=because):
        decide(person, review, order(review, *choices))
    review.refresh_from_db()
    assert (review.status, Decision.objects.filter(review=review).count()) == ("waiting", 0)
    refused = AuditEntry.objects.filter(review=review, action="refused").latest("pk")
    assert because in refused.note
    assert DID[review.thread_id] == []


def results(review: Review) -> dict[str, ToolMessage]:
    messages = state_of(review.graph, review.thread_id).values["messages"]
    assert messages[-1].content == "done"
    return {one.tool_call_id: one for one in messages if isinstance(one, ToolMessage)}


def answers(review: Review) -> list[Any]:
    state = state_of(review.graph, review.thread_id)
    assert (state.next, state.values["log"]) == ((), ["ask", "send"])
    return list(state.values["answers"])


# LangChain's agents, all calls of a turn at once


def test_each_call_of_a_batch_gets_the_decision_in_its_place(cast):
    calls = [("write", {"text": str(number)}) for number in range(4)]
    (review,) = start("batched", *calls)
    decision = say(
        cast.rita,
        review,
        Choice("reject", text="Too curt."),
        Choice("edit", args={"text": "Better."}),
        Choice("respond", text="She was called."),
        APPROVE,
    )
    assert (decision.state, decision.action) == ("finished", "mixed")
    assert sorted(DID[review.thread_id]) == [("write", "3"), ("write", "Better.")]
    got = results(review)
    assert "Too curt." in got["c0"].content
    assert "did write" in got["c1"].content
    assert "She was called." in got["c2"].content
    assert (got["c3"].content, got["c0"].status) == ("did write", "error")


def test_decisions_of_a_batch_that_are_swapped_do_the_swapped_thing(cast):
    for approved in (0, 1):
        (review,) = start("batched", REFUND, WRITE)
        choices = [Choice("reject", text="No."), Choice("reject", text="No.")]
        choices[approved] = APPROVE
        assert say(cast.rita, review, *choices).state == "finished"
        expected = [("refund", "A-1", 20), ("write", "Sorry.")][approved]
        assert DID[review.thread_id] == [expected]


def test_a_call_that_needs_no_approval_runs_once_beside_those_that_do(cast):
    (review,) = start("batched", REFUND, LOOK, WRITE)
    assert DID[review.thread_id] == []
    assert say(cast.rita, review, APPROVE, APPROVE).state == "finished"
    ran = sorted(DID[review.thread_id], key=lambda one: one[0])
    assert ran == [("look_up", "A-1"), ("refund", "A-1", 20), ("write", "Sorry.")]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_takes_as_many_decisions_as_it_has_calls(count, cast):
    (review,) = start("batched", REFUND, WRITE)
    refuses(cast.rita, review, *[APPROVE] * count, because="Each of the 2 calls takes one decision")


@pytest.mark.parametrize("name", ["strict", "strict_per_call"])
@pytest.mark.parametrize("action", ["edit", "respond"])
def test_what_the_agent_does_not_allow_is_refused_and_can_be_decided_otherwise(name, action, cast):
    (review,) = start(name, REFUND)
    wish = Choice(action, args={"order": "A-1", "amount": 1}, text="Done by hand.")
    refuses(cast.rita, review, wish, because="Choose approve or reject")
    assert say(cast.rita, review, APPROVE).state == "finished"
    assert DID[review.thread_id] == [("refund", "A-1", 20)]


@pytest.mark.parametrize("name", ["batched", "per_call"])
@pytest.mark.parametrize(
    ("args", "because"),
    [
        ({"order": "A-1", "amount": "a lot"}, "“amount” must be a whole number"),
        ({"order": "A-1"}, "“amount” is missing"),
        ("A-1", "must be an object"),
        (None, "must be an object"),
    ],
    ids=["a text", "missing", "no object", "nothing"],
)
def test_arguments_that_the_tool_would_not_take_are_refused(name, args, because, cast):
    (review,) = start(name, REFUND)
    refuses(cast.rita, review, Choice("edit", args=args), because=because)


@pytest.mark.parametrize("name", ["batched", "per_call"])
@pytest.mark.parametrize("tool_name", ["write", "look_up", "rm"])
def test_the_tool_of_a_call_cannot_be_changed(name, tool_name, cast):
    (review,) = start(name, REFUND)
    renamed = Choice("edit", args={"text": "Hello."}, name=tool_name)
    refuses(cast.rita, review, renamed, because="The tool must stay “refund”")


def test_the_tool_can_be_changed_where_reviews_toml_says_so(cast):
    (review,) = start("renaming", REFUND)
    unknown = Choice("edit", args={"text": "Hello."}, name="rm")
    refuses(cast.rita, review, unknown, because="This agent has no tool “rm”")
    wrong = Choice("edit", args={"order": "A-1"}, name="write")
    refuses(cast.rita, review, wrong, because="“text” is missing")
    renamed = Choice("edit", args={"text": "Hello."}, name="write")
    assert say(cast.rita, review, renamed).state == "finished"
    assert DID[review.thread_id] == [("write", "Hello.")]


# One question for each call


@pytest.mark.parametrize("first", [0, 1])
def test_calls_that_ask_one_by_one_are_answered_in_any_order_and_run_once(first, cast):
    reviews = start("per_call", REFUND, WRITE)
    names = [review.pause["question"]["name"] for review in reviews]
    assert sorted(names) == ["refund", "write"]
    edited = {
        "refund": Choice("edit", args={"order": "A-1", "amount": 5}),
        "write": Choice("edit", args={"text": "Here you are."}),
    }
    one, other = reviews[first], reviews[1 - first]
    early = say(cast.rita, one, edited[names[first]])
    assert early.state == "paused"
    other.refresh_from_db()
    late = say(cast.tom, other, Choice("reject", text="Not this one."))
    assert late.state == "finished"
    settle(early)
    expected = {"refund": ("refund", "A-1", 5), "write": ("write", "Here you are.")}
    assert DID[one.thread_id] == [expected[names[first]]]
    rejected = {"refund": "c0", "write": "c1"}[names[1 - first]]
    assert "Not this one." in results(one)[rejected].content


def test_an_answer_to_one_call_is_not_taken_for_the_other(cast):
    refunds = [("refund", {"order": name, "amount": 20}) for name in ("A-1", "B-2")]
    first, second = start("per_call", *refunds)
    seen = order(first, APPROVE)
    moved = Order(seen.digest, seen.checkpoint_id, uuid4(), choices=seen.choices)
    if (first.digest, first.checkpoint_id) != (second.digest, second.checkpoint_id):
        with pytest.raises(Stale):
            decide(cast.rita, second, moved)
    assert say(cast.rita, first, APPROVE).state == "paused"
    assert DID[first.thread_id] == [("refund", first.pause["question"]["args"]["order"], 20)]
    second.refresh_from_db()
    assert say(cast.rita, second, Choice("respond", text="Paid by hand.")).state == "finished"
    assert len(DID[first.thread_id]) == 1


# Agent Inbox, and questions of no dialect


def test_agent_inbox_gets_its_answers_in_their_places(cast):
    (review,) = start("inbox")
    refuses(
        cast.rita, review, Choice("reject"), APPROVE, APPROVE, because="“pay” can't be rejected"
    )
    said = Choice("edit", args={"n": 7}), Choice("respond", text="Wait."), Choice("reject")
    assert say(cast.rita, review, *said).state == "finished"
    assert answers(review) == [
        [
            {"type": "edit", "args": {"action": "pay", "args": {"n": 7}}},
            {"type": "response", "args": "Wait."},
            {"type": "ignore", "args": None},
        ]
    ]


RAW = [None, False, True, 0, "", "yes", {}, [], {"a" * 32: {"b" * 32: 1}}, [[{}]], 1.5, "\u2028ü"]


def test_an_answer_of_any_json_arrives_as_it_was_given(cast):
    for value in RAW:
        (review,) = start("raw")
        assert say(cast.rita, review, Choice("respond", args=value)).state == "finished"
        (got,) = answers(review)
        assert (json.dumps(got), type(got)) == (json.dumps(value), type(value))


@pytest.mark.parametrize("action", ["approve", "edit", "reject"])
def test_a_plain_question_can_only_be_answered(action, cast):
    (review,) = start("raw")
    refuses(cast.rita, review, Choice(action, args={}, text="x"), because="can only be answered")


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ({}, "“approved” is missing"),
        ({"approved": "yes"}, "“approved” must be true or false"),
        ({"approved": True, "amount": 51}, "“amount” must be at most 50"),
        ({"approved": True, "more": 1}, "“more” is not known here"),
        ("yes", "must be an object"),
        (None, "must be an object"),
    ],
)
def test_an_answer_that_the_schema_has_no_room_for_is_refused(value, because, cast):
    (review,) = start("schema")
    refuses(cast.rita, review, Choice("respond", args=value), because=because)


def test_an_answer_that_fits_the_schema_arrives(cast):
    (review,) = start("schema")
    value = {"approved": False, "amount": -3}
    decision = say(cast.rita, review, Choice("respond", args=value))
    assert (decision.state, answers(review)) == ("finished", [value])
    noted = AuditEntry.objects.get(decision=decision, action="decided")
    assert noted.actor == cast.rita
    assert noted.after == {"answer": value}
    assert noted.before == {"question": "How much?"}
