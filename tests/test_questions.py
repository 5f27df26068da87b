"""What an interrupt asks and how it is answered: against LangChain's own middleware, and as tables.

The agents here are real, and so is what judges our answers: LangGraph resumes with them.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from approvals.plain import jsonable
from approvals.questions import (
    Choice,
    Question,
    QuestionError,
    answer,
    args_schema,
    read,
    summary,
)
from approvals.schema_words import fault

CONFIG: Any = {"configurable": {"thread_id": "t"}}
APPROVE = Choice("approve")
ALL = ("approve", "edit", "reject", "respond")


# Agents


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


class Account(BaseModel):
    iban: str
    holder: str | None = None


@dataclass
class Agent:
    """An agent of LangChain that is about to make `calls`, and waits before each of them."""

    mode: str = "batched"
    allowed: tuple[str, ...] = ALL
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("refund", {"order": "A-1", "amount": 20.0, "to": {"iban": "DE1"}}),
    )
    ran: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        @tool
        def refund(order: str, amount: float, to: Account) -> str:
            """Pays money back."""
            self.ran.append(("refund", order, amount, to.iban))
            return f"paid {amount}"

        @tool
        def note(text: str) -> str:
            """Writes a note."""
            self.ran.append(("note", text))
            return "noted"

        tools = [refund, note]
        calls = [
            {"name": name, "args": args, "id": f"c{i}"} for i, (name, args) in enumerate(self.calls)
        ]
        gate = HumanInTheLoopMiddleware(
            {name: {"allowed_decisions": list(self.allowed)} for name in ("refund", "note")},
            interrupt_mode=self.mode,
        )
        said = iter([AIMessage("", tool_calls=calls), AIMessage("done")])
        self.schemas = {t.name: t.tool_call_schema.model_json_schema() for t in tools}
        self.graph = create_agent(
            Scripted(messages=said), tools, middleware=[gate], checkpointer=InMemorySaver()
        )
        self.graph.invoke({"messages": [("user", "my parcel never came")]}, CONFIG)

    @property
    def questions(self) -> list[tuple[str, Question]]:
        return [
            (one.id, read(jsonable(one.value), jsonable(one.response_schema), self.schemas))
            for one in self.graph.get_state(CONFIG).interrupts
        ]

    @property
    def question(self) -> Question:
        ((_, question),) = self.questions
        return question

    def answered(self, *choices: Choice) -> dict[str, ToolMessage]:
        """Resumes with the answer; the messages that stand for the tools' results, by call."""
        ((id_, question),) = self.questions
        return self.resumed({id_: answer(question, choices)})

    def resumed(self, answers: dict[str, Any]) -> dict[str, ToolMessage]:
        sent = json.loads(json.dumps(answers))  # as it comes back from a database
        messages = self.graph.invoke(Command(resume=sent), CONFIG)["messages"]
        assert self.graph.get_state(CONFIG).next == ()
        assert messages[-1].content == "done"
        return {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}


ASKED = ("refund", "A-1", 20.0, "DE1")
LESS = {"order": "A-1", "amount": 5.0, "to": {"iban": "DE1"}}
modes = pytest.mark.parametrize("mode", ["batched", "per_call"])
BOTH = {
    "calls": (
        ("refund", {"order": "A-1", "amount": 20.0, "to": {"iban": "DE1"}}),
        ("note", {"text": "sorry"}),
    )
}


@modes
def test_langchains_request_is_read_with_its_call_and_what_is_allowed(mode):
    question = Agent(mode).question

    (call,) = question.calls
    assert question.dialect == {"batched": "hitl", "per_call": "tool_approval"}[mode]
    assert (call.name, call.allowed, question.allowed) == ("refund", ALL, ALL)
    assert call.args == {"order": "A-1", "amount": 20.0, "to": {"iban": "DE1"}}
    assert "Tool execution requires approval" in call.description
    assert not question.is_batch


@modes
@pytest.mark.parametrize(
    "allowed",
    [
        ("approve",),
        ("edit",),
        ("reject",),
        ("respond",),
        ("respond", "approve"),
        ("edit", "reject"),
    ],
)
def test_only_what_the_middleware_allows_is_allowed(mode, allowed):
    agent = Agent(mode, allowed)

    assert agent.question.calls[0].allowed == tuple(a for a in ALL if a in allowed)
    for action in set(ALL) - set(allowed):
        with pytest.raises(QuestionError, match=r"can't be .* here\. Choose"):
            answer(agent.question, [Choice(action, args=LESS, text="because")])


@modes
def test_approve_runs_the_tool_as_it_was_shown(mode):
    agent = Agent(mode)
    messages = agent.answered(APPROVE)

    assert agent.ran == [ASKED]
    assert messages["c0"].content == "paid 20.0"


@modes
def test_edit_runs_the_tool_with_the_changed_arguments(mode):
    agent = Agent(mode)
    messages = agent.answered(Choice("edit", args=LESS))

    assert agent.ran == [("refund", "A-1", 5.0, "DE1")]
    assert messages["c0"].content.endswith("paid 5.0")


@modes
def test_an_edit_that_changes_nothing_is_still_an_edit(mode):
    agent = Agent(mode)
    messages = agent.answered(Choice("edit", args=agent.question.calls[0].args))

    assert agent.ran == [ASKED]
    assert "a human reviewer replaced this tool call" in messages["c0"].content


@modes
def test_reject_does_not_run_the_tool_and_tells_the_agent_why(mode):
    agent = Agent(mode)
    messages = agent.answered(Choice("reject", text="Already paid on Monday."))

    assert agent.ran == []
    assert messages["c0"].status == "error"
    assert messages["c0"].content.endswith("with reason: Already paid on Monday.")


@modes
def test_respond_answers_in_the_tools_place(mode):
    agent = Agent(mode)
    messages = agent.answered(Choice("respond", text="It is paid."))

    assert agent.ran == []
    assert (messages["c0"].status, messages["c0"].content) == ("success", "It is paid.")


def test_each_call_of_a_batch_gets_its_own_decision_in_order():
    agent = Agent(**BOTH)
    assert agent.question.is_batch
    messages = agent.answered(
        Choice("reject", text="Too much."), Choice("edit", args={"text": "ok"})
    )

    assert agent.ran == [("note", "ok")]
    assert "Too much." in messages["c0"].content
    assert messages["c1"].content.endswith("noted")


def test_each_call_of_a_turn_is_a_question_of_its_own_per_call():
    agent = Agent("per_call", **BOTH)
    choices = {"refund": Choice("reject", text="Too much."), "note": APPROVE}
    asked = agent.questions
    assert sorted(q.calls[0].name for _, q in asked) == ["note", "refund"]
    messages = agent.resumed({id_: answer(q, [choices[q.calls[0].name]]) for id_, q in asked})

    assert agent.ran == [("note", "sorry")]
    assert "Too much." in messages["c0"].content


def test_a_batched_edit_may_name_another_tool_of_the_agent():
    agent = Agent()
    agent.answered(Choice("edit", args={"text": "pay by hand"}, name="note"))

    assert agent.ran == [("note", "pay by hand")]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("wire", LESS, "This agent has no tool “wire”. Choose one of: note, refund."),
        ("note", LESS, "“text” is missing"),
    ],
)
def test_another_tool_must_exist_and_get_its_own_arguments(name, args, says):
    with pytest.raises(QuestionError, match=says):
        answer(Agent().question, [Choice("edit", args=args, name=name)])


def test_the_tool_stays_where_it_is_pinned():
    agent = Agent("per_call")
    ((id_, question),) = agent.questions
    assert not question.calls[0].may_rename
    with pytest.raises(QuestionError, match="The tool must stay “refund”"):
        answer(question, [Choice("edit", args={"text": "x"}, name="note")])

    other = {"type": "edit", "edited_action": {"name": "note", "args": {"text": "x"}}}
    with pytest.raises(ValidationError):  # and LangGraph would not take it either
        agent.graph.invoke(Command(resume={id_: other}), CONFIG)


@modes
@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({**LESS, "amount": "lots"}, "“amount” must be a number"),
        ({"order": "A-1", "amount": 5.0}, "“to” is missing"),
        ({**LESS, "to": {"iban": 7}}, "“to.iban” must be text"),
        ({**LESS, "to": {"iban": "D", "holder": 7}}, "“to.holder” must be text or null"),
        ([LESS], "must be an object"),
        (None, "must be an object"),
    ],
)
def test_arguments_that_the_tool_would_not_take_are_refused(mode, args, says):
    agent = Agent(mode)
    with pytest.raises(QuestionError, match=says) as refused:
        answer(agent.question, [Choice("edit", args=args)])

    assert refused.value.index == 0
    assert agent.question.calls[0].allowed == ALL  # nothing was sent: it still waits


def test_what_the_schema_refuses_langgraph_refuses_too():
    agent = Agent("per_call")
    ((id_, question),) = agent.questions
    bad = {"type": "edit", "edited_action": {"name": "refund", "args": {**LESS, "to": {}}}}
    assert fault(bad, question.schema)
    with pytest.raises(ValidationError):
        agent.graph.invoke(Command(resume={id_: bad}), CONFIG)


@modes
def test_arguments_that_the_model_got_wrong_can_be_edited_right(mode):
    agent = Agent(mode, ("edit",), calls=(("refund", {"order": "A-1"}),))
    agent.answered(Choice("edit", args=LESS))

    assert agent.ran == [("refund", "A-1", 5.0, "DE1")]


@modes
def test_the_schema_of_the_arguments_is_known_and_stands_alone(mode):
    question = Agent(mode).question
    schema = args_schema(question, 0)

    assert fault(LESS, schema) == ""
    assert fault({**LESS, "to": {}}, schema) == "“to.iban” is missing."
    assert args_schema(question, 1) is None


def test_without_tool_schemas_batched_arguments_are_taken_as_they_are():
    agent = Agent()
    bare = read(agent.question.value, None)

    assert args_schema(bare, 0) is None
    assert not bare.calls[0].may_rename
    edited = answer(bare, [Choice("edit", args={"amount": "lots"})])
    assert edited["decisions"][0]["edited_action"] == {"name": "refund", "args": {"amount": "lots"}}


@modes
@pytest.mark.parametrize("blank", ["", "  \n"])
def test_reject_needs_a_reason_and_respond_needs_words(mode, blank):
    question = Agent(mode).question
    with pytest.raises(QuestionError, match="Say why “refund” is rejected"):
        answer(question, [Choice("reject", text=blank)])
    with pytest.raises(QuestionError, match="The response to “refund” is empty"):
        answer(question, [Choice("respond", text=blank)])


@modes
def test_an_approval_never_drops_or_carries_changes(mode):
    question = Agent(mode).question
    with pytest.raises(QuestionError, match="Choose edit"):
        answer(question, [Choice("approve", args=LESS)])
    with pytest.raises(QuestionError, match="must stay “refund”"):
        answer(question, [Choice("approve", name="note")])
    shown = question.calls[0].args
    assert answer(question, [Choice("approve", args=shown)]) == answer(question, [APPROVE])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_every_call_needs_its_decision(number):
    with pytest.raises(
        QuestionError, match=f"Each of the 2 calls .* and {number} arrived"
    ) as refused:
        answer(Agent(**BOTH).question, [APPROVE] * number)
    assert refused.value.index is None


def test_the_error_names_the_call_that_is_wrong():
    with pytest.raises(QuestionError) as refused:
        answer(Agent(**BOTH).question, [APPROVE, Choice("reject")])
    assert refused.value.index == 1
    assert "note" in refused.value.message


# HITLRequest of other hands


def hitl(*configs: Any, names: tuple[str, ...] = ("pay", "mail")) -> Question:
    requests = [{"name": name, "args": {}} for name in names]
    return read({"action_requests": requests, "review_configs": list(configs)}, None)


def rule(name: str, *words: Any) -> dict[str, Any]:
    return {"action_name": name, "allowed_decisions": list(words)}


@pytest.mark.parametrize(
    ("configs", "allowed"),
    [
        ([rule("pay", "approve"), rule("mail", "reject")], [("approve",), ("reject",)]),
        ([rule("mail", "reject"), rule("pay", "approve")], [("approve",), ("reject",)]),
        ([rule("pay", "respond", "approve")], [("approve", "respond"), ()]),
        ([rule("pay", "shrug", 7, None, {}, "edit"), rule("mail")], [("edit",), ()]),
        ([{"allowed_decisions": ["approve"]}, rule("mail", "edit")], [("approve",), ("edit",)]),
        ([None, "x"], [(), ()]),
        ([], [(), ()]),
    ],
)
def test_what_is_allowed_is_found_by_name_and_place(configs, allowed):
    assert [call.allowed for call in hitl(*configs).calls] == allowed


def test_two_calls_of_one_tool_may_be_allowed_different_things():
    question = hitl(rule("pay", "approve"), rule("pay", "reject"), names=("pay", "pay"))
    assert [call.allowed for call in question.calls] == [("approve",), ("reject",)]
    assert question.allowed == ()


def test_a_call_without_any_known_decision_says_that_it_cannot_be_answered():
    question = hitl(rule("pay", "approve"))

    assert question.unanswerable == (1,)
    with pytest.raises(QuestionError, match="no decision on “mail”") as refused:
        answer(question, [APPROVE, APPROVE])
    assert refused.value.index == 1


def test_a_config_may_carry_the_schema_of_the_arguments():
    own = {"properties": {"n": {"type": "integer"}}}
    value = {
        "action_requests": [{"name": "pay", "args": {"n": 1}}],
        "review_configs": [rule("pay", "edit") | {"args_schema": own}],
    }
    question = read(value, None, {"pay": {"type": "object"}})
    assert args_schema(question, 0) == own
    with pytest.raises(QuestionError, match="“n” must be a whole number"):
        answer(question, [Choice("edit", args={"n": 1.5})])


# Agent Inbox


def inbox(action: str = "pay", *flags: str, args: Any = None) -> dict[str, Any]:
    config = {f"allow_{flag}": flag in flags for flag in ("accept", "edit", "respond", "ignore")}
    asked = {"action": action, "args": {"amount": 3} if args is None else args}
    return {"action_request": asked, "config": config, "description": f"May I {action}?"}


EVERY = ("accept", "edit", "respond", "ignore")


@pytest.mark.parametrize(
    ("choice", "response"),
    [
        (APPROVE, {"type": "accept", "args": None}),
        (Choice("reject", text="for the audit"), {"type": "ignore", "args": None}),
        (Choice("reject"), {"type": "ignore", "args": None}),
        (Choice("respond", text="Ask Tom."), {"type": "response", "args": "Ask Tom."}),
        (
            Choice("edit", args={"amount": 2}),
            {"type": "edit", "args": {"action": "pay", "args": {"amount": 2}}},
        ),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_agent_inbox_is_answered_with_a_list(choice, response, several):
    request = inbox("pay", *EVERY)
    question = read([request] if several else request, None)

    assert (question.dialect, question.text) == ("agent_inbox", "May I pay?")
    assert answer(question, [choice]) == [response]


def test_agent_inbox_answers_several_requests_in_order():
    question = read([inbox("pay", *EVERY), inbox("mail", "ignore", "accept")], None)

    assert [call.allowed for call in question.calls] == [ALL, ("approve", "reject")]
    assert question.allowed == ("approve", "reject")
    answered = answer(question, [Choice("respond", text="no"), Choice("reject")])
    assert [one["type"] for one in answered] == ["response", "ignore"]


@pytest.mark.parametrize(
    ("flag", "action"), list(zip(EVERY, ("approve", "edit", "respond", "reject"), strict=True))
)
def test_agent_inbox_allows_what_its_config_says_and_nothing_else(flag, action):
    question = read(inbox("pay", flag), None)
    assert question.calls[0].allowed == (action,)
    for other in set(ALL) - {action}:
        with pytest.raises(QuestionError, match="can't be"):
            answer(question, [Choice(other, args={"amount": 1}, text="x")])


def test_agent_inbox_keeps_its_action_and_its_kind_of_arguments():
    question = read(inbox("pay", *EVERY), None)
    with pytest.raises(QuestionError, match="must stay “pay”"):
        answer(question, [Choice("edit", args={}, name="mail")])
    with pytest.raises(QuestionError, match="must be an object"):
        answer(question, [Choice("edit", args="2")])
    free = read(inbox("pay", *EVERY, args="all of it"), None)
    assert answer(free, [Choice("edit", args="half")])[0]["args"]["args"] == "half"


# Values with a schema, and those without anything


class Verdict(TypedDict):
    ok: bool
    note: str


def asking(value: Any, schema: Any = None) -> Any:
    """A paused graph that asks `value` and keeps the answer."""

    def ask(state: dict[str, Any]) -> dict[str, Any]:
        return {"kept": [interrupt(value, response_schema=schema)]}

    class State(TypedDict, total=False):
        kept: list[Any]

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({}, CONFIG)
    return graph


def kept(graph: Any, choices: list[Choice]) -> Any:
    """What the graph gets when the question it asks is answered so."""
    (asked,) = graph.get_state(CONFIG).interrupts
    question = read(jsonable(asked.value), jsonable(asked.response_schema))
    return graph.invoke(Command(resume={asked.id: answer(question, choices)}), CONFIG)["kept"][0]


def test_a_schema_is_answered_with_what_fits_it():
    verdict = {"ok": True, "note": "fine"}
    assert kept(asking("Is it right?", Verdict), [Choice("respond", args=verdict)]) == verdict


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (None, "The answer must be an object"),
        ({"ok": True}, "“note” is missing"),
        ({"ok": "yes", "note": ""}, "“ok” must be true or false"),
    ],
)
def test_an_answer_that_does_not_fit_the_schema_is_refused(args, says):
    (asked,) = asking("Is it right?", Verdict).get_state(CONFIG).interrupts
    question = read(asked.value, asked.response_schema)

    assert (question.dialect, question.allowed, question.text) == (
        "schema",
        ("respond",),
        "Is it right?",
    )
    with pytest.raises(QuestionError, match=says) as refused:
        answer(question, [Choice("respond", args=args)])
    assert refused.value.index == 0


@pytest.mark.parametrize(
    "given_", [None, False, "", 0, {}, [], "yes", {"decisions": []}, [{"a": 1}]]
)
def test_anything_may_answer_a_raw_question(given_):
    assert kept(asking({"anything": 1}), [Choice("respond", args=given_)]) == given_


def test_agent_inbox_answers_reach_the_node():
    graph = asking([inbox("pay", *EVERY)])
    assert kept(graph, [Choice("respond", text="Ask Tom.")]) == [
        {"type": "response", "args": "Ask Tom."}
    ]


@pytest.mark.parametrize("action", ["approve", "edit", "reject", "mystery"])
def test_a_question_without_calls_can_only_be_answered(action):
    with pytest.raises(QuestionError, match="This can only be answered"):
        answer(read("How many?", None), [Choice(action, args=1, text="x")])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("How many?", "How many?"),
        ({"question": "Who?", "message": "hm"}, "Who?"),
        ({"description": "", "text": "Where?"}, "Where?"),
        ({"message": 7}, ""),
        ([{"message": "in a list"}], "in a list"),
        ([["deeper"]], ""),
        (None, ""),
        (12, ""),
    ],
)
def test_the_text_is_what_people_read(value, text):
    question = read(value, None)
    assert (question.dialect, question.text, question.value) == ("raw", text, value)


# What only looks like a dialect


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"action_request": {"action": "pay", "args": {}}},
        {"action_request": {"action": 5, "args": {}}, "config": {}},
        {"action_request": {"action": "pay"}, "config": {}},
        [inbox("pay"), "and more"],
        {"action_requests": [], "review_configs": []},
        {"action_requests": [{"name": "pay", "args": {}}]},
        {"action_requests": [{"name": "pay", "args": {}}, 5], "review_configs": []},
        {"action_requests": {"name": "pay"}, "review_configs": []},
        {"type": "tool_approval", "name": "pay", "args": {}},
    ],
)
def test_what_is_not_quite_a_dialect_is_raw_or_has_a_schema(value):
    assert read(value, None).dialect == "raw"
    assert read(value, {"type": "string"}).dialect == "schema"


APPROVAL = {"type": "tool_approval", "tool_call_id": "c", "name": "pay", "args": {"n": 1}}


def branch(word: Any, **properties: Any) -> dict[str, Any]:
    named = {"type": word if isinstance(word, dict) else {"const": word}, **properties}
    return {"type": "object", "properties": named, "required": list(named)}


REASON = {"message": {"type": "string"}}


@pytest.mark.parametrize(
    ("schema", "dialect", "allowed"),
    [
        (branch("approve"), "tool_approval", ("approve",)),
        ({"anyOf": [branch("reject", **REASON), branch("approve")]}, "tool_approval", ALL[::2]),
        ({"oneOf": [branch("approve"), branch("escalate")]}, "tool_approval", ("approve",)),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": branch("approve")}}, "tool_approval", ALL[:1]),
        (branch({"enum": ["approve"]}), "tool_approval", ("approve",)),
        ({"anyOf": [{"anyOf": [branch("respond", **REASON)]}]}, "tool_approval", ("respond",)),
        (branch("approve", signature={"type": "string"}), "schema", ("respond",)),
        ({"oneOf": [branch("approve"), branch("reject", why={})]}, "schema", ("respond",)),
        (branch("edit", edited_action={"type": "object"}), "schema", ("respond",)),
        (branch("escalate"), "schema", ("respond",)),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "schema", ("respond",)),
        ({"$ref": "#"}, "schema", ("respond",)),
        ({}, "schema", ("respond",)),
    ],
)
def test_a_tool_approval_is_read_out_of_its_schema(schema, dialect, allowed):
    question = read(APPROVAL, schema)
    assert (question.dialect, question.allowed) == (dialect, allowed)


def test_a_tool_approval_may_leave_the_name_free():
    action = {
        "type": "object",
        "properties": {"name": {"enum": ["pay", "mail"]}, "args": {"type": "object"}},
    }
    question = read(APPROVAL, branch("edit", edited_action=action))

    assert question.calls[0].may_rename
    edited = answer(question, [Choice("edit", args={}, name="mail")])
    assert edited == {"type": "edit", "edited_action": {"name": "mail", "args": {}}}
    with pytest.raises(QuestionError, match=r"edited_action.name” must be one of pay, mail"):
        answer(question, [Choice("edit", args={}, name="wire")])


def test_a_response_schema_goes_before_the_shape_of_the_value():
    request = inbox("pay", *EVERY)
    assert read(request, {"type": "array"}).dialect == "agent_inbox"
    assert read(request, {"type": "boolean"}).dialect == "schema"


def test_the_whole_answer_must_fit_the_response_schema():
    most = {"type": "array", "items": {"properties": {"type": {"enum": ["accept", "ignore"]}}}}
    question = read(inbox("pay", *EVERY), most)
    with pytest.raises(QuestionError, match=r"must be one of accept, ignore"):
        answer(question, [Choice("respond", text="no")])


# Broken schemas are not the person's fault


@pytest.mark.parametrize(
    "schema",
    [{"type": 5}, {"type": "strnig"}, {"required": "ab"}, {"pattern": "("}, {"$schema": {}}],
)
def test_a_schema_that_is_none_leaves_a_raw_question(schema):
    question = read("How many?", schema)
    assert question.dialect == "raw"
    assert answer(question, [Choice("respond", args={"a": 1})]) == {"a": 1}


@pytest.mark.parametrize("ref", ["#/$defs/nowhere", "#", "other.json", "http://127.0.0.1:9/schema"])
def test_a_reference_that_leads_nowhere_refuses_nothing_and_fetches_nothing(ref, monkeypatch):
    fetched: list[Any] = []
    monkeypatch.setattr("socket.create_connection", lambda *args, **_: fetched.append(args))
    question = read("How many?", {"$ref": ref})

    assert answer(question, [Choice("respond", args=3)]) == 3
    assert fetched == []


@pytest.mark.parametrize(
    ("value", "schema", "says"),
    [
        (3, {"enum": ["a", None]}, "The answer must be one of a, null."),
        (3, {"maximum": 2}, "The answer must be at most 2."),
        ("", {"minLength": 1}, "The answer must have at least 1 characters."),
        ("soon", {"format": "date"}, "The answer must be a valid date."),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}, "“b” is not known"),
        ([{"a": 1}], {"items": {"required": ["b"]}}, "“0.b” is missing."),
        (True, {"type": "integer"}, "The answer must be a whole number."),
        ("x", {"anyOf": [{"type": "number"}, {"type": "null"}]}, "must be a number or null."),
        (1, {"not": {}}, "The answer does not fit"),
        (1, {"type": ["string", "null"]}, "The answer must be text or null."),
    ],
)
def test_a_fault_is_said_in_words(value, schema, says):
    assert says in fault(value, schema)


# Summaries


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (["approve"], "approve"),
        (["reject", "reject"], "reject"),
        (["approve", "edit"], "edit"),
        (["edit", "approve", "approve"], "edit"),
        (["approve", "reject"], "mixed"),
        (["approve", "edit", "respond"], "mixed"),
        ([], ""),
    ],
)
def test_the_decision_as_one_word(actions, said):
    assert summary([Choice(action) for action in actions]) == said


# Anything at all

KNOWN = st.sampled_from(
    [
        *(
            "action_request",
            "action_requests",
            "review_configs",
            "config",
            "allow_accept",
            "action",
        ),
        *("name", "args", "type", "tool_approval", "description", "action_name", "properties"),
        *("allowed_decisions", "approve", "edit", "edited_action", "message", "$ref", "#", "const"),
        *("anyOf", "oneOf", "enum", "$defs", "#/$defs/edit", "required", "args_schema", "pattern"),
    ]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | KNOWN
ANY = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KNOWN | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=25,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("tool_approval") | ANY,
        "name": st.just("pay") | ANY,
        "args": ANY,
        "action_request": st.fixed_dictionaries({}, optional={"action": LEAF, "args": ANY}) | ANY,
        "config": ANY,
        "action_requests": st.lists(
            st.fixed_dictionaries({}, optional={"name": LEAF, "args": ANY}) | ANY, max_size=3
        ),
        "review_configs": st.lists(
            st.fixed_dictionaries({}, optional={"action_name": LEAF, "allowed_decisions": ANY})
            | ANY,
            max_size=3,
        ),
    },
)
OBJECT = st.dictionaries(KNOWN | st.text(max_size=3), ANY, max_size=6)


@settings(max_examples=150)
@given(value=ANY | NEARLY | st.lists(NEARLY, max_size=2), schema=st.none() | OBJECT | NEARLY)
def test_reading_never_raises_and_knows_what_it_may_be_told(value, schema):
    question = read(value, schema)

    assert question.value == value
    assert bool(question.calls) == (question.dialect not in ("schema", "raw"))
    assert all(set(call.allowed) <= set(ALL) for call in question.calls)
    assert question.dialect != "schema" or schema is not None


@settings(max_examples=100)
@given(value=ANY)
def test_a_raw_answer_is_sent_as_it_was_given(value):
    assert answer(read(0, None), [Choice("respond", args=value)]) == value
