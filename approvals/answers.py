"""What a person may say to a pause, and what that does to the thread."""

import datetime as dt
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

from approvals.errors import Invalid
from approvals.models import Decision, Review
from approvals.plain import clean
from approvals.questions import Choice, Question, QuestionError, answer, read, summary
from approvals.snapshots import holds_cut, is_cut, undecodable
from approvals.update import Update
from graphs.fields import tool_schemas
from graphs.registry import Answer, Compiled, Graph, subgraph

Action = Decision.Action
STATIC = (Action.APPROVE, Action.REJECT, Action.SEND_BACK, Action.RESPOND)
WORDS_FOR = {  # see approvals/sentences.py
    Action.REJECT: "Say why you reject it: the reason goes on record with the decision.",
    Action.SEND_BACK: "Say what should be different: the agent drafts again by what you write.",
    Action.RESPOND: "Write the answer that should stand in for the agent's.",
}


NONE = dt.timedelta()


@dataclass(frozen=True)
class Order:
    """What a reviewer's form says: the state they were shown, and what they want done.

    `action` is of a static pause; a question is answered by `choices`, one for each call.
    """

    digest: str
    checkpoint_id: str
    key: UUID
    action: str = Action.APPROVE
    edits: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    choices: tuple[Choice, ...] = ()
    more_time: dt.timedelta = NONE  # to take it back, where there is any

    @property
    def said(self) -> dict[str, Any]:
        """All of it as it is kept with the decision, the edits only where they go nowhere else."""
        choices = [asdict(choice) for choice in self.choices]
        unsent = {} if self.action == Action.APPROVE else self.edits
        return {
            "action": str(self.action),
            "text": self.text,
            "choices": choices,
            "unsent": unsent,
        }

    @property
    def told(self) -> dict[str, Any]:
        """What the person wrote, for the record of an attempt that is refused."""
        text = {"said": self.text} if self.text else {}
        return {**self.edits, **text, **({"choices": self.said["choices"]} if self.choices else {})}


@dataclass(frozen=True)
class Effect:
    """What a decision does: `update` to the state, or `answer` to the question that was asked."""

    action: Decision.Action
    update: Update = field(default_factory=Update)
    answer: Any = None


def level_of(graph: Graph, review: Review) -> Compiled:
    """The graph, or the subgraph, that the review's pause is in."""
    ns = review.checkpoint_ns
    return (subgraph(graph.compiled, ns) if ns else None) or graph.compiled


def question_of(graph: Graph, review: Review) -> Question:
    """A tool's name can be changed only where reviews.toml, or the question's own schema, says so:
    LangChain would run any tool of the agent by that name, also one that needs no approval."""
    schemas = tool_schemas(level_of(graph, review))
    found = read(review.pause.get("question"), review.pause.get("schema"), schemas)
    if found.dialect != "hitl" or graph.review.rename_tools:
        return found
    return replace(found, calls=tuple(replace(call, may_rename=False) for call in found.calls))


def offered(graph: Graph, review: Review) -> list[str]:
    """The actions that a static pause offers: those that reviews.toml configures, as far as the
    graph that pauses, which may be a subgraph, has the fields and nodes they name."""
    level = level_of(graph, review)
    fits = [name for name, one in graph.review.answers().items() if _fits(level, one)]
    response = graph.review.response in level.channels
    return [Action.APPROVE, *(name for name in fits if name != Action.RESPOND or response)]


def _fits(level: Compiled, one: Answer) -> bool:
    fields = {*one.set, *filter(None, [one.reason])}
    nodes = set(filter(None, [one.goto])) - {"__end__"}
    return fields <= set(level.channels) and nodes <= set(level.nodes)


def editable(graph: Graph, review: Review) -> list[str]:
    """The fields that may be edited here. A node reached by Send would not see a changed state."""
    sent = any(task.get("kind") == "send" for task in review.snapshot.get("tasks", []))
    if review.is_question or sent or not review.pause_is_known:
        return []
    channels = level_of(graph, review).channels
    shown = review.values
    return [
        name
        for name in graph.review.editable_fields
        if name in channels and not holds_cut(shown.get(name))
    ]


def approval_values(graph: Graph, review: Review) -> dict[str, Any]:
    """What approving sets, as far as the graph that pauses has such fields."""
    channels = level_of(graph, review).channels
    return {name: value for name, value in graph.review.approve.items() if name in channels}


def unreadable(review: Review) -> str:
    """Why a state that cannot be shown whole cannot be decided here; "" when it can."""
    if wrong := undecodable(review.snapshot):
        place, why = wrong[0]
        return (
            f"This state holds something that this installation cannot read ({place}): {why} "
            "Nobody can approve here what nobody can see."
        )
    asked = [review.pause.get("question"), review.pause.get("schema")]
    if is_cut(review.snapshot.get("pause")) or holds_cut(asked):
        return "The question is too long to be shown whole, so it cannot be answered here."
    return ""


def effect(graph: Graph, review: Review, order: Order) -> Effect:
    """What the order does to this pause. Raises Invalid with what to do."""
    if why := unreadable(review):
        raise Invalid(why)
    if review.is_question:
        return _answered(question_of(graph, review), order)
    if order.action not in offered(graph, review):
        raise Invalid("This graph does not offer that here. Nothing was recorded.")
    if order.action == Action.APPROVE:
        made = Action.EDIT if order.edits else Action.APPROVE
        return Effect(made, Update(approval_values(graph, review), order.edits))
    return _directed(graph, review, Action(order.action), order.text)


def _directed(graph: Graph, review: Review, action: Decision.Action, text: str) -> Effect:
    if not text.strip():
        raise Invalid(WORDS_FOR[action])
    if text != clean(text):
        raise Invalid("This holds a character that cannot be stored. Remove it, then send it.")
    told = graph.review.answers()[action]
    values: dict[str, Any] = dict(told.set)
    if told.reason:
        values[told.reason] = text
    edits = {graph.review.response: text} if action == Action.RESPOND else {}
    nodes = tuple(review.pause.get("nodes") or [review.node])
    return Effect(action, Update(values, edits, told.goto, nodes))


def _answered(question: Question, order: Order) -> Effect:
    try:
        value = answer(question, order.choices)
    except QuestionError as error:
        raise Invalid(str(error)) from None
    return Effect(Action(summary(order.choices)), answer=value)
