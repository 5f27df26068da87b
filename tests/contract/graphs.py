"""Small graphs, one for each way in which a run can come to wait. LangGraph only.

`SHAPES` is the table: a graph, what it starts with, where it pauses first and what it has done
when everybody has answered. Every node notes in `log` that it finished, and in `RAN` that it
began: a node that runs twice shows there, also when its first attempt left nothing in the state.
"""

import operator
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

Node = Callable[..., Any]
Nodes = list[str] | Literal["*"] | None

RAN: dict[str, list[str]] = defaultdict(list)
"""By thread: the nodes that began, in order."""

BROKEN: set[tuple[str, str]] = set()
"""(thread, node) that fail. What is written here is mended by taking it out again."""


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    answers: Annotated[list[Any], operator.add]
    draft: str
    amount: int
    approved: bool
    rounds: int


class Given(TypedDict, total=False):
    draft: str


class Refund(BaseModel):
    approved: bool
    amount: int


REFUND_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}},
    "required": ["approved"],
}


# Nodes

LATE = 0.5  # seconds: nodes beside one that breaks have ended by then, or are cut off


def begin(config: RunnableConfig, name: str) -> None:
    thread_id = config["configurable"]["thread_id"]
    RAN[thread_id].append(name)
    if (thread_id, name) in BROKEN:
        time.sleep(LATE)
        raise RuntimeError(f"{name} is broken")


def step(name: str, **changes: Any) -> Node:
    """A node that does nothing but say so."""

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, name)
        return {"log": [name], **changes}

    return node


def asking(name: str, *questions: Any, schema: Any = None) -> Node:
    """A node that asks one question after another. It can break after the last answer, too."""

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, name)
        answers = [interrupt(question, response_schema=schema) for question in questions]
        begin(config, f"{name} answered")
        return {"log": [name], "answers": answers}

    return node


def naming(name: str) -> Node:
    """A node that says which draft it was given: its own where it was reached by Send."""

    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, name)
        return {"log": [f"{name} {state.get('draft')}"]}

    return node


def asking_about_draft(state: State, config: RunnableConfig) -> dict[str, Any]:
    begin(config, "ask")
    answer = interrupt(f"send {state['draft']}?")
    return {"log": ["ask"], "answers": [[state["draft"], answer]]}


# Graphs


def chain(*nodes: tuple[str, Node], takes: Any = State) -> StateGraph:
    """One node after another."""
    graph = StateGraph(State, input_schema=takes)
    for name, node in nodes:
        graph.add_node(name, node)
    for before, after in zip(
        [START, *(name for name, _ in nodes)], [*(name for name, _ in nodes), END], strict=True
    ):
        graph.add_edge(before, after)
    return graph


def plain() -> StateGraph:
    return chain(
        ("draft", step("draft", draft="Dear Maeve")), ("gate", step("gate")), ("send", step("send"))
    )


def beside(**nodes: Node) -> StateGraph:
    """All of them at once, then `send`."""
    graph = StateGraph(State)
    graph.add_node("send", step("send"))
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
    graph.add_edge(list(nodes), "send")
    graph.add_edge("send", END)
    return graph


def joined_by_an_edge() -> StateGraph:
    graph = StateGraph(State)
    for name in ("left", "right", "gate", "send"):
        graph.add_node(name, step(name))
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_edge(["left", "right"], "gate")
    graph.add_edge("gate", "send")
    return graph


def deferred() -> StateGraph:
    graph = chain(("left", step("left")))
    graph.add_node("right", step("right"))
    graph.add_node("far", step("far"))
    graph.add_node("gate", step("gate"), defer=True)
    graph.add_edge(START, "right")
    graph.add_edge("right", "far")
    graph.add_edge("far", "gate")
    graph.add_edge("left", "gate")
    return graph


def gone_to() -> StateGraph:
    """The node before the pause routes with Command(goto=…), so no edge leads to the gate."""

    def draft(state: State, config: RunnableConfig) -> Command[Literal["gate"]]:
        begin(config, "draft")
        return Command(update={"log": ["draft"], "draft": "Dear Maeve"}, goto="gate")

    graph = StateGraph(State)
    graph.add_node("draft", draft)
    graph.add_node("gate", step("gate"))
    graph.add_node("send", step("send"))
    graph.add_edge(START, "draft")
    graph.add_edge("gate", "send")
    return graph


def routed() -> StateGraph:
    """The way out of `draft` asks the very field that an approval would set."""
    graph = StateGraph(State)
    for name in ("draft", "gate", "send"):
        graph.add_node(name, step(name))
    graph.add_edge(START, "draft")
    graph.add_conditional_edges(
        "draft", lambda state: "send" if state.get("approved") else "gate", ["gate", "send"]
    )
    graph.add_edge("gate", "send")
    return graph


def looping(gate: Node) -> StateGraph:
    """Comes back to its gate until it has been there `rounds` times."""
    graph = StateGraph(State)
    graph.add_node("draft", step("draft"))
    graph.add_node("gate", gate)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "gate")
    graph.add_conditional_edges(
        "gate",
        lambda state: "draft" if state["log"].count("gate") < state["rounds"] else END,
        ["draft", END],
    )
    return graph


def sending(node: Node) -> StateGraph:
    """Sends each draft to a gate of its own, and one more step beside."""
    graph = StateGraph(State)
    graph.add_node("draft", step("draft"))
    graph.add_node("gate", node)
    graph.add_node("send", step("send"))
    graph.add_edge(START, "draft")
    graph.add_conditional_edges(
        "draft", lambda state: [Send("gate", {"draft": name}) for name in ("a", "b")], ["gate"]
    )
    graph.add_edge("gate", "send")
    return graph


def inner(*nodes: tuple[str, Node], **options: Any) -> CompiledStateGraph:
    """A subgraph that takes no `log` in, or the reducer outside would count it twice."""
    return chain(*nodes, takes=Given).compile(**options)


def inner_static(**options: Any) -> CompiledStateGraph:
    return inner(("look", step("look")), ("gate", step("gate")), ("tidy", step("tidy")), **options)


def inner_asking(*questions: Any, **options: Any) -> CompiledStateGraph:
    return inner(("look", step("look")), ("ask", asking("ask", *questions)), **options)


def around(subgraph: Any) -> StateGraph:
    """A subgraph as a node."""
    return chain(("draft", step("draft")), ("sub", subgraph), ("send", step("send")))


def around_twice(subgraph: Any) -> StateGraph:
    return around(inner(("first", step("first")), ("deep", subgraph)))


def called(subgraph: Any) -> StateGraph:
    """A subgraph that a node's function invokes."""

    def sub(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, "sub")
        result = subgraph.invoke({"draft": "inside"})
        return {"log": [*result["log"], "sub"], "answers": result.get("answers", [])}

    return chain(("draft", step("draft")), ("sub", sub), ("send", step("send")))


def called_twice(subgraph: Any) -> StateGraph:
    """One node calls it, and then once more with what came out."""

    def sub(state: State, config: RunnableConfig) -> dict[str, Any]:
        begin(config, "sub")
        first = subgraph.invoke({"draft": "first"})
        second = subgraph.invoke({"draft": "second"})
        return {"log": ["sub"], "answers": [*first["answers"], *second["answers"]]}

    return chain(("draft", step("draft")), ("sub", sub), ("send", step("send")))


# The table


@dataclass(frozen=True)
class Shape:
    """A graph and its first pause."""

    build: Callable[[], StateGraph]
    waits: list[str]
    """The root's `next` at the first pause, sorted."""
    asks: list[Any] = field(default_factory=list)
    """The questions that are open there, sorted by their text."""
    does: list[str] = field(default_factory=lambda: ["draft", "gate", "send"])
    """The final `log`, sorted, when every pause was let pass and every question answered."""
    given: dict[str, Any] = field(default_factory=lambda: {"log": []})
    before: Nodes = None
    after: Nodes = None

    def compile(self, saver: Any = None) -> CompiledStateGraph:
        return self.build().compile(
            checkpointer=saver, interrupt_before=self.before, interrupt_after=self.after
        )


INSIDE = ["draft", "gate", "look", "send", "tidy"]
ASKED_INSIDE = ["ask", "draft", "look", "send"]
LOOPED = {"log": [], "rounds": 2}
STATIC_INSIDE = {"interrupt_before": ["gate"]}
STATIC_AFTER_INSIDE = {"interrupt_after": ["look"]}


def one_question(*questions: Any, schema: Any = None) -> Callable[[], StateGraph]:
    return lambda: chain(
        ("draft", step("draft")),
        ("ask", asking("ask", *questions, schema=schema)),
        ("send", step("send")),
    )


def two_gates() -> StateGraph:
    return chain(*((name, step(name)) for name in ("draft", "legal", "finance", "send")))


ASKED = ["ask", "draft", "send"]

SHAPES: dict[str, Shape] = {
    # static
    "before": Shape(plain, ["gate"], before=["gate"]),
    "before_any": Shape(plain, ["draft"], before="*"),
    "after": Shape(plain, ["gate"], after=["draft"]),
    "after_any": Shape(plain, ["gate"], after="*"),
    "after_last": Shape(plain, [], after=["send"]),
    "before_and_after": Shape(plain, ["gate"], before=["gate"], after=["draft"]),
    "join": Shape(
        joined_by_an_edge, ["gate"], does=["gate", "left", "right", "send"], before=["gate"]
    ),
    "deferred": Shape(deferred, ["gate"], does=["far", "gate", "left", "right"], before=["gate"]),
    "goto": Shape(gone_to, ["gate"], before=["gate"]),
    "routed": Shape(routed, ["gate"], before=["gate"]),
    "loop": Shape(
        lambda: looping(step("gate")),
        ["gate"],
        does=["draft", "draft", "gate", "gate"],
        given=LOOPED,
        before=["gate"],
    ),
    "two_gates": Shape(
        two_gates,
        ["legal"],
        does=["draft", "finance", "legal", "send"],
        before=["legal", "finance"],
    ),
    "gates_side_by_side": Shape(
        lambda: beside(legal=step("legal"), finance=step("finance")),
        ["finance", "legal"],
        does=["finance", "legal", "send"],
        before=["legal", "finance"],
    ),
    "gate_beside_another": Shape(
        lambda: beside(gate=step("gate"), other=step("other")),
        ["gate", "other"],
        does=["gate", "other", "send"],
        before=["gate"],
    ),
    "sent": Shape(
        lambda: sending(naming("gate")),
        ["gate", "gate"],
        does=["draft", "gate a", "gate b", "send"],
        before=["gate"],
    ),
    "subgraph_before": Shape(lambda: around(inner_static(**STATIC_INSIDE)), ["sub"], does=INSIDE),
    "subgraph_after": Shape(
        lambda: around(inner_static(**STATIC_AFTER_INSIDE)), ["sub"], does=INSIDE
    ),
    "deep_before": Shape(
        lambda: around_twice(inner_static(**STATIC_INSIDE)),
        ["sub"],
        does=sorted([*INSIDE, "first"]),
    ),
    "called_before": Shape(
        lambda: called(inner_static(**STATIC_INSIDE)), ["sub"], does=sorted([*INSIDE, "sub"])
    ),
    # questions
    "asks": Shape(one_question("send it?"), ["ask"], ["send it?"], ASKED),
    "asks_json": Shape(
        one_question({"text": ["ü", None, 1.5, True, {"deep": []}]}),
        ["ask"],
        [{"text": ["ü", None, 1.5, True, {"deep": []}]}],
        ASKED,
    ),
    "asks_nothing": Shape(one_question(None), ["ask"], [None], ASKED),
    "asks_a_model": Shape(one_question("refund?", schema=Refund), ["ask"], ["refund?"], ASKED),
    "asks_a_schema": Shape(
        one_question("refund?", schema=REFUND_SCHEMA), ["ask"], ["refund?"], ASKED
    ),
    "asks_in_turn": Shape(one_question("one?", "two?", "three?"), ["ask"], ["one?"], ASKED),
    "asks_side_by_side": Shape(
        lambda: beside(legal=asking("legal", "legal?"), finance=asking("finance", "finance?")),
        ["finance", "legal"],
        ["finance?", "legal?"],
        ["finance", "legal", "send"],
    ),
    "asks_beside_another": Shape(
        lambda: beside(ask=asking("ask", "send it?"), other=step("other")),
        ["ask"],
        ["send it?"],
        ["ask", "other", "send"],
    ),
    "asks_in_sends": Shape(
        lambda: sending(asking_about_draft),
        ["gate", "gate"],
        ["send a?", "send b?"],
        ["ask", "ask", "draft", "send"],
    ),
    "asks_in_loop": Shape(
        lambda: looping(asking("gate", "again?")),
        ["gate"],
        ["again?"],
        ["draft", "draft", "gate", "gate"],
        LOOPED,
    ),
    "asks_in_subgraph": Shape(
        lambda: around(inner_asking("inside?", "still?")), ["sub"], ["inside?"], ASKED_INSIDE
    ),
    "asks_deep": Shape(
        lambda: around_twice(inner_asking("deep?", "still?")),
        ["sub"],
        ["deep?"],
        sorted([*ASKED_INSIDE, "first"]),
    ),
    "asks_in_called": Shape(
        lambda: called(inner_asking("called?", "still?")),
        ["sub"],
        ["called?"],
        sorted([*ASKED_INSIDE, "sub"]),
    ),
    "asks_in_called_twice": Shape(
        lambda: called_twice(inner_asking("called?")),
        ["sub"],
        ["called?"],
        ["draft", "send", "sub"],
    ),
    "asks_in_keeping_subgraph": Shape(
        lambda: around(inner_asking("kept?", "still?", checkpointer=True)),
        ["sub"],
        ["kept?"],
        ASKED_INSIDE,
    ),
    "keeping_subgraph_before": Shape(
        lambda: around(inner_static(checkpointer=True, **STATIC_INSIDE)), ["sub"], does=INSIDE
    ),
    "before_and_asks": Shape(one_question("send it?"), ["ask"], does=ASKED, before=["ask"]),
}
