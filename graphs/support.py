"""A customer care agent of a bank: it drafts the answer, and a person approves what is not routine.

classify → retrieve → draft → compliance_check → human_approval → deliver. The graph pauses before
`human_approval`; a compliant answer of low risk goes from the check to `deliver` by itself.
"""

import os
import re
from typing import Annotated, Any, Literal, TypedDict
from uuid import NAMESPACE_URL, uuid5

import psycopg
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

from graphs import drafting
from graphs.knowledge import GENERAL, Finding, Passage, Risk, knowledge, language_of

DATE = re.compile(
    r"\b\d{1,2}(?:st|nd|rd|th)? (?:January|February|March|April|May|June|July|August|September"
    r"|October|November|December)\b|\b\d{1,2}\. ?(?:Januar|Februar|März|April|Mai|Juni|Juli"
    r"|August|September|Oktober|November|Dezember|\d{1,2}\.)",
    re.IGNORECASE,
)


class Customer(TypedDict):
    name: str
    email: str
    product: str
    language: str
    reference: str


class Incoming(TypedDict):
    """What a run begins with; `conversation_id` is the thread's id."""

    conversation_id: str
    customer: Customer
    subject: str
    messages: Annotated[list[AnyMessage], add_messages]


class SupportState(Incoming, total=False):
    """`agent_type` says who stands behind the answer, `drafted_by` who wrote its first version."""

    topic: str
    risk: Risk
    passages: list[Passage]
    agent_response: str
    is_compliant: bool
    compliance_findings: list[Finding]
    agent_type: str
    drafted_by: str
    reviewer_note: str


def classify(state: SupportState) -> dict[str, Any]:
    said = what_was_said(state)
    topic = knowledge().classify(said, language_of(state["customer"]["language"]))
    return {"topic": topic, "risk": risk_of(topic, set(knowledge().signals_in(said)))}


def retrieve(state: SupportState) -> dict[str, Any]:
    language = language_of(state["customer"]["language"])
    return {"passages": knowledge().retrieve(state["topic"], what_was_said(state), language)}


def draft(state: SupportState) -> dict[str, Any]:
    written = drafting.write(state)
    return {
        "agent_response": written.text,
        "agent_type": written.agent_type,
        "drafted_by": written.drafted_by,
    }


def compliance_check(state: SupportState) -> dict[str, Any]:
    findings = [*rule_findings(state), *source_findings(state)]
    return {"compliance_findings": findings, "is_compliant": not has_breach(findings)}


def human_approval(state: SupportState) -> dict[str, Any]:
    """The run pauses before this node: whoever lets it go on has approved the answer."""
    return {"agent_type": "human_admin"}


def deliver(state: SupportState, config: RunnableConfig) -> dict[str, Any]:
    """Answer the customer, once: run again with the same decision, it replaces its own message."""
    conversation_id = state["conversation_id"]
    key = str(config.get("configurable", {}).get("decision_id") or conversation_id)
    if outbox := os.environ.get("SUPPORT_OUTBOX"):
        post(outbox, key, conversation_id, state["agent_response"])
    message_id = str(uuid5(NAMESPACE_URL, f"{conversation_id}/{key}"))
    return {"messages": [AIMessage(state["agent_response"], id=message_id)]}


def route(state: SupportState) -> Literal["human_approval", "deliver"]:
    """Decided by the findings, not by `is_compliant`.

    A reviewer's edit makes LangGraph ask this edge again. If it then answered `deliver`, the
    approval node would drop out of the run that is waiting before it.
    """
    people = state["agent_type"] == "human_admin" or bool(state.get("reviewer_note"))
    routine = state["risk"] == "low" and not has_breach(state["compliance_findings"])
    return "deliver" if routine and not people else "human_approval"


def what_was_said(state: Incoming | SupportState) -> str:
    turns = [message.text for message in state["messages"] if message.type == "human"]
    return "\n".join([state["subject"], *turns])


def risk_of(topic_id: str, signals: set[str]) -> Risk:
    topic = knowledge().topic(topic_id)
    if signals & {"vulnerability", "software"}:
        return "high"
    if topic is None or (topic.risk == "low" and signals):
        return "medium"
    return topic.risk


def rule_findings(state: SupportState) -> list[Finding]:
    language = language_of(state["customer"]["language"])
    signals = knowledge().signals_in(what_was_said(state))
    return [
        finding
        for rule in knowledge().rules
        if rule.applies(state["topic"], language, signals)
        for finding in rule.findings(state["agent_response"], signals)
    ]


def source_findings(state: SupportState) -> list[Finding]:
    """What the letter rests on: no passage, an old passage, or a figure that no passage names."""
    letter, passages = state["agent_response"], state["passages"]
    if state["topic"] == GENERAL or not passages:
        text = "No passage answers this message. Somebody who knows the subject has to."
        return [{"rule": "no-source", "severity": "breach", "text": text, "quote": None}]
    findings: list[Finding] = [
        {
            "rule": "old-source",
            "severity": "warning",
            "text": f"Uses the passage “{p['title']}”, last reviewed in {p['reviewed']}.",
            "quote": None,
        }
        for p in passages
        if p["text"] in letter and not knowledge().is_current(p)
    ]
    current = " ".join(p["text"] for p in passages if knowledge().is_current(p))
    text = "No current passage names this figure. Check it against the account before it is sent."
    findings += [
        {"rule": "unverified-figure", "severity": "breach", "text": text, "quote": figure}
        for figure in dict.fromkeys([*drafting.AMOUNT.findall(letter), *DATE.findall(letter)])
        if figure not in current
    ]
    return findings


def has_breach(findings: list[Finding]) -> bool:
    return any(finding["severity"] == "breach" for finding in findings)


def libpq_url(url: str) -> str:
    """The URL as libpq reads it, without the `+driver` of SQLAlchemy."""
    return re.sub(r"^(\w+)\+\w+://", r"\1://", url)


def create_outbox(conn: psycopg.Connection) -> None:
    conn.execute(
        "CREATE TABLE IF NOT EXISTS support_outbox ("
        " idempotency_key text PRIMARY KEY, conversation_id text NOT NULL, body text NOT NULL,"
        " delivered_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL DEFAULT 1)"
    )


def post(url: str, key: str, conversation_id: str, body: str) -> None:
    with psycopg.connect(libpq_url(url), connect_timeout=10) as conn:
        conn.execute(
            "INSERT INTO support_outbox (idempotency_key, conversation_id, body)"
            " VALUES (%s, %s, %s) ON CONFLICT (idempotency_key)"
            " DO UPDATE SET attempts = support_outbox.attempts + 1",
            (key, conversation_id, body),
        )


def build() -> StateGraph[SupportState, None, Incoming, SupportState]:
    builder = StateGraph(SupportState, input_schema=Incoming)
    for node in (classify, retrieve, draft, compliance_check, human_approval, deliver):
        builder.add_node(node)
    builder.add_edge(START, "classify")
    builder.add_edge("classify", "retrieve")
    builder.add_edge("retrieve", "draft")
    builder.add_edge("draft", "compliance_check")
    builder.add_conditional_edges("compliance_check", route)
    builder.add_edge("human_approval", "deliver")
    builder.add_edge("deliver", END)
    return builder


def compile_graph(
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CompiledStateGraph[SupportState, None, Incoming, SupportState]:
    return build().compile(
        checkpointer=checkpointer, interrupt_before=["human_approval"], name="support"
    )


graph = compile_graph()
