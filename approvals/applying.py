"""A decision into its thread: the values of a static pause, or the answer to a question.

Run inside a transaction that holds the thread. `rehearse` does it and takes it back, so that what
LangGraph would not do is refused before anything is recorded.
"""

from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction

from approvals.answering import NotAsked, put_answer
from approvals.answers import Effect, level_of
from approvals.errors import AWAY, Invalid, Moved
from approvals.models import Review
from approvals.pauses import waiting
from approvals.plain import jsonable
from approvals.savers import joined
from approvals.update import Dropped, SentApart, update
from graphs.registry import Compiled, Graph

# What LangGraph itself writes in a checkpoint's metadata, and what is ours.
RESERVED = {
    *("source", "step", "parents", "writes", "run_id", "thread_id", "checkpoint_ns"),
    *("checkpoint_id", "checkpoint_map", "graph_id", "decision_id"),
}


@dataclass(frozen=True)
class Applied:
    """The checkpoint that now holds the decision, and what it changed."""

    checkpoint_id: str
    before: dict[str, Any]
    after: dict[str, Any]


def run_config(thread_id: str, decision_id: str, graph: Graph, metadata: Any, ns: str = "") -> Any:
    """The config of the agent's own run, as its checkpoints tell it, with the decision's id.

    LangGraph keeps the plain values of `configurable` in each checkpoint's metadata: a node that
    asks for its `user_id` finds it after an approval too.
    """
    kept = {k: v for k, v in (metadata or {}).items() if k not in RESERVED}
    return {
        "configurable": {
            **{k: v for k, v in kept.items() if not k.startswith(("langgraph_", "__"))},
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "decision_id": decision_id,
        },
        "metadata": {"decision_id": decision_id, "graph_id": graph.id},
    }


def apply(graph: Graph, review: Review, decision_id: str, effect: Effect) -> Applied:
    """Raises NotAsked, Dropped, SentApart; whatever the graph's own edges and reducers raise."""
    compiled = joined(graph)
    root = compiled.get_state({"configurable": {"thread_id": review.thread_id}}, subgraphs=True)
    held = {one.key for one in waiting(graph, root)}
    if (review.checkpoint_ns, review.checkpoint_id, review.interrupt_id) not in held:
        raise NotAsked
    if review.is_question:
        return _answer(compiled, review, effect)
    config = run_config(
        review.thread_id, decision_id, graph, root.metadata, ns=review.checkpoint_ns
    )
    return _update(compiled, graph, review, config, effect)


def _answer(compiled: Compiled, review: Review, effect: Effect) -> Applied:
    saver: Any = compiled.checkpointer
    put_answer(saver, review.thread_id, review.interrupt_id, effect.answer)
    asked = {"question": review.pause.get("question")}
    return Applied(review.checkpoint_id, asked, {"answer": effect.answer})


def _update(
    compiled: Compiled, graph: Graph, review: Review, config: Any, effect: Effect
) -> Applied:
    before = compiled.get_state(config)
    applied, after = update(compiled, level_of(graph, review), config, effect.update)
    keys = [*effect.update.values, *effect.update.edits]
    return Applied(applied, _only(before, keys), _only(after, keys))


def _only(state: Any, keys: list[str]) -> dict[str, Any]:
    return {key: jsonable(state.values.get(key)) for key in keys}


class _TakeBack(Exception):
    """Ends a rehearsal."""


def rehearse(graph: Graph, review: Review, effect: Effect) -> None:
    """Raises Invalid, with the reason, for what could not be applied; Moved for what is not asked
    any more. Leaves nothing behind."""
    try:
        with transaction.atomic():
            apply(graph, review, "rehearsal", effect)
            raise _TakeBack
    except _TakeBack:
        if connection.needs_rollback:  # Django swallows it when the way back itself is cut off
            raise OperationalError("The connection broke.") from None
    except NotAsked:
        raise Moved from None
    except AWAY:
        raise
    except Exception as error:
        raise Invalid(in_words(error)) from error


def in_words(error: BaseException) -> str:
    if isinstance(error, Dropped | SentApart):
        return " ".join((type(error).__doc__ or "").split())
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(jsonable(str(error)))[:4000]
    return str(jsonable(f"{type(error).__name__}: {error}"))[:4000]
