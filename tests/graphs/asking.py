"""A graph that asks whatever its state holds under `question`, and notes the answer."""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    conversation_id: str
    subject: str
    question: Any
    schema: dict[str, Any] | None
    answers: Annotated[list[Any], operator.add]


def ask(state: State) -> dict[str, Any]:
    return {"answers": [interrupt(state["question"], response_schema=state.get("schema"))]}


def send(state: State) -> dict[str, Any]:
    return {}


builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_node("send", send)
builder.add_edge(START, "ask")
builder.add_edge("ask", "send")
builder.add_edge("send", END)
