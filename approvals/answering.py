"""A person's answer into a thread that asked with `interrupt()`, in our own transaction.

LangGraph keeps the answers that a task has had as one write of its checkpoint. Put there by us, the
answer commits together with the decision and its audit entry; the run is then resumed with nothing
in its hands, so that whatever is repeated, no later question can be given this answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from langgraph._internal._constants import ERROR, INTERRUPT, NULL_TASK_ID, RESUME
from langgraph.types import _interrupt_id

from approvals.savers import JoiningSaver


class NotAsked(Exception):
    """The question is not asked any more: another program answered it, or moved the thread."""


@dataclass(frozen=True)
class Asking:
    """The task that asks, wherever in the thread's subgraphs it is."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    task_path: str

    @property
    def config(self) -> Any:
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.checkpoint_ns,
                "checkpoint_id": self.checkpoint_id,
            }
        }


# Writes at the newest checkpoint of each namespace: older ones keep theirs for good.
_WRITES_AT_HEADS = """
  checkpoint_writes w JOIN (
    SELECT checkpoint_ns, max(checkpoint_id) AS checkpoint_id FROM checkpoints
    WHERE thread_id = %(thread)s GROUP BY checkpoint_ns
  ) h USING (checkpoint_ns, checkpoint_id)
"""
_ASKED = f"""
  SELECT checkpoint_ns, checkpoint_id, w.task_id, w.task_path, w.type, w.blob
  FROM {_WRITES_AT_HEADS} WHERE w.thread_id = %(thread)s AND w.channel = %(channel)s
  ORDER BY length(checkpoint_ns) DESC
"""  # noqa: S608
_RESUMED = f"""
  SELECT count(*) FILTER (WHERE w.task_id = %(nobody)s),
         count(*) FILTER (WHERE w.task_id <> %(nobody)s)
  FROM {_WRITES_AT_HEADS} WHERE w.thread_id = %(thread)s AND w.channel = %(channel)s
"""  # noqa: S608
_FORGET = f"""
  DELETE FROM checkpoint_writes WHERE (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) IN (
    SELECT w.thread_id, checkpoint_ns, checkpoint_id, w.task_id, w.idx FROM {_WRITES_AT_HEADS}
    WHERE w.thread_id = %(thread)s AND w.channel = %(channel)s AND w.task_id = %(nobody)s)
"""  # noqa: S608


_FORGET_ERRORS = f"""
  DELETE FROM checkpoint_writes WHERE (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) IN (
    SELECT w.thread_id, checkpoint_ns, checkpoint_id, w.task_id, w.idx FROM {_WRITES_AT_HEADS}
    WHERE w.thread_id = %(thread)s AND w.channel = %(channel)s)
"""  # noqa: S608


def forget_errors(thread_id: str) -> None:
    """Inside a transaction that has the thread run on: what failed there is about to run again.

    LangGraph leaves the error of a task in its step, also when the task is run again and ends well.
    With the old ones gone, an error that a later taker finds is one of the run under way.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_ERRORS, {"thread": thread_id, "channel": ERROR})


def put_answer(saver: JoiningSaver, thread_id: str, interrupt_id: str, value: Any) -> None:
    """Inside a transaction that holds the thread. Raises NotAsked."""
    asking = _asking(saver, thread_id, interrupt_id)
    _drop_bare_resumes(thread_id)
    saver.put_writes(
        asking.config,
        [(RESUME, [*_answers(saver, asking), value])],
        asking.task_id,
        asking.task_path,
    )


def give_again(saver: JoiningSaver, asking: Asking, node: str, given: Mapping[str, Any]) -> None:
    """Inside a transaction, before a run: puts back what a run that failed threw away.

    LangGraph keeps of a node that fails only the answers that it had come to: one that fails, or is
    cut off, between two questions loses those after. `given` are people's answers by interrupt id.
    """
    answers = had = _answers(saver, asking)
    while (asked := _asked_with(asking, node, len(answers))) in given:
        answers = [*answers, given[asked]]
    if len(answers) > len(had):
        saver.put_writes(asking.config, [(RESUME, answers)], asking.task_id, asking.task_path)


def _asked_with(asking: Asking, node: str, answers: int) -> str:
    """The id of the question that a task asks when it has had so many answers."""
    inside = f"{asking.checkpoint_ns}|" if asking.checkpoint_ns else ""
    return _interrupt_id(f"{inside}{node}:{asking.task_id}", answers)


def take_answer_out(saver: JoiningSaver, thread_id: str, interrupt_id: str, node: str) -> None:
    """Inside a transaction: after a node refused the answer as it was read, asks again.

    Nothing of the run is kept but the answers before; the errors go with it, up to the root.
    """
    asking = _asking(saver, thread_id, interrupt_id)
    answers = _answers(saver, asking)
    # LangGraph has dropped it already where the node had read an answer before it.
    places = [n for n in range(len(answers)) if _asked_with(asking, node, n) == interrupt_id]
    kept = answers[: places[0]] if places else answers
    if kept:
        saver.put_writes(asking.config, [(RESUME, kept)], asking.task_id, asking.task_path)
    else:
        _delete(thread_id, asking.checkpoint_ns, asking.task_id, RESUME)
    inner, task_id = asking.checkpoint_ns, asking.task_id
    while True:
        _delete(thread_id, inner, task_id, ERROR)
        if not inner:
            return
        inner, _, last = inner.rpartition("|")
        task_id = last.split(":")[-1]


def _asking(saver: JoiningSaver, thread_id: str, interrupt_id: str) -> Asking:
    """A question of a subgraph is noted by each graph around it as well; the innermost asks."""
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, {"thread": thread_id, "channel": INTERRUPT})
        rows = cursor.fetchall()
    for *place, kind, blob in rows:
        asked = saver.serde.loads_typed((kind, bytes(blob)))
        if any(one.id == interrupt_id for one in asked):
            return Asking(thread_id, *place)
    raise NotAsked


def _answers(saver: JoiningSaver, asking: Asking) -> list[Any]:
    found = saver.get_tuple(asking.config)
    writes = found.pending_writes or [] if found else []
    had: Any = next((v for task, c, v in writes if (task, c) == (asking.task_id, RESUME)), [])
    return had if isinstance(had, list) else [had]


def _drop_bare_resumes(thread_id: str) -> None:
    """Raises NotAsked when a bare `Command(resume=…)` of another program is on its way.

    One that has arrived stays in the checkpoint, and LangGraph would give it to a later question of
    the same step once more.
    """
    named = {"thread": thread_id, "channel": RESUME, "nobody": NULL_TASK_ID}
    with connection.cursor() as cursor:
        cursor.execute(_RESUMED, named)
        bare, arrived = cursor.fetchone()
        if bare and not arrived:
            raise NotAsked
        if bare:
            cursor.execute(_FORGET, named)


def _delete(thread_id: str, ns: str, task_id: str, channel: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM checkpoint_writes WHERE thread_id = %s AND checkpoint_ns = %s"
            " AND task_id = %s AND channel = %s",
            [thread_id, ns, task_id, channel],
        )
