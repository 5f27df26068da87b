"""A graph that does what its state tells it to, and leaves a row in `effects` for each delivery.

`received` is the other side of a delivery: a receiver that knows each key once, and counts how
often it was tried.

`script` may hold: `fail` (the message of an exception in deliver, until a row in `gates` for this
conversation lets it pass), `sleep` or `block` (seconds in human_approval, the latter holding up the
loop), `linger` (seconds in deliver, a plain function, before it sends), `kill` (how often
human_approval ends its own process by SIGKILL), `ask` (a question it puts with interrupt()),
`rounds` (how often it pauses).
"""

import asyncio
import operator
import os
import signal
import time
from typing import Annotated, Any, TypedDict

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

EFFECTS = """
CREATE TABLE IF NOT EXISTS effects (
  id bigserial PRIMARY KEY, conversation_id text, decision_id text, body text, pid int,
  at timestamptz DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS received (
  key text PRIMARY KEY, conversation_id text, body text, attempts int);
CREATE TABLE IF NOT EXISTS gates (conversation_id text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS kills (
  conversation_id text, pid int, at timestamptz DEFAULT clock_timestamp());
"""


class State(TypedDict, total=False):
    conversation_id: str
    title: str
    who: str
    risk: str
    agent_response: str
    amount: int
    agent_type: str
    is_compliant: bool
    note: str
    status: str
    script: dict[str, Any]
    log: Annotated[list[str], operator.add]


def draft(state: State) -> dict[str, Any]:
    """Drafts again by the note of whoever sent the last draft back."""
    again = {"agent_response": f"By your note: {state['note']}"} if state.get("note") else {}
    return {"log": ["draft"], "is_compliant": False, **again}


async def human_approval(state: State) -> dict[str, Any]:
    script = state.get("script", {})
    await act_out(script, state.get("conversation_id", ""))
    if "ask" in script:
        interrupt(script["ask"])
    return {"log": ["human_approval"]}


async def act_out(script: dict[str, Any], conversation: str) -> None:
    await asyncio.sleep(script.get("sleep", 0))
    time.sleep(script.get("block", 0))  # as careless agents do
    if "kill" in script:
        kill(script["kill"], conversation)


def kill(times: int, conversation: str) -> None:
    """Ends this process, unless this conversation has ended that many before."""
    with psycopg.connect(database_url(), autocommit=True) as conn:
        if conn.execute(
            "INSERT INTO kills (conversation_id, pid) SELECT %s, %s WHERE "
            "(SELECT count(*) FROM kills WHERE conversation_id = %s) < %s RETURNING pid",
            [conversation, os.getpid(), conversation, times],
        ).fetchone():
            os.kill(os.getpid(), signal.SIGKILL)


def deliver(state: State, config: RunnableConfig) -> dict[str, Any]:
    key, script = state["conversation_id"], state.get("script", {})
    time.sleep(script.get("linger", 0))
    with psycopg.connect(database_url(), autocommit=True) as conn:
        if (
            "fail" in script
            and not conn.execute("SELECT 1 FROM gates WHERE conversation_id = %s", [key]).fetchone()
        ):
            raise RuntimeError(script["fail"])
        send(conn, config["configurable"].get("decision_id"), key, state["agent_response"])
    return {"log": ["deliver"]}


def send(conn: Any, decision_id: str | None, conversation: str, body: str) -> None:
    """The effect: a message that is logged here, and a receiver who takes each key once."""
    with conn.transaction():
        conn.execute(
            "INSERT INTO effects (conversation_id, decision_id, body, pid) VALUES (%s, %s, %s, %s)",
            [conversation, decision_id, body, os.getpid()],
        )
        conn.execute(
            "INSERT INTO received VALUES (%s, %s, %s, 1) "
            "ON CONFLICT (key) DO UPDATE SET attempts = received.attempts + 1",
            [decision_id or f"no decision: {conversation}", conversation, body],
        )


def again(state: State) -> str:
    rounds = state.get("script", {}).get("rounds", 1)
    return "draft" if state["log"].count("deliver") < rounds else END


def database_url() -> str:
    """The tests' database, which in the test process is not the one that DATABASE_URL names."""
    return os.environ.get("EFFECTS_URL") or os.environ["DATABASE_URL"]


builder = StateGraph(State)
builder.add_node("draft", draft)
builder.add_node("human_approval", human_approval)
builder.add_node("deliver", deliver)
builder.add_edge(START, "draft")
builder.add_edge("draft", "human_approval")
builder.add_edge("human_approval", "deliver")
builder.add_conditional_edges("deliver", again, ["draft", END])
