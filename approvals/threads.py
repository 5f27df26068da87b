"""LangGraph's threads as rows: their lock, their head, whose checkpoints.

LangGraph's tables are only read; the notes for the capture loop are written."""

import datetime as dt

from django.db import connection


def lock_thread(thread_id: str) -> None:
    """Waits until this transaction alone captures, decides or applies on the thread.

    Capture, decide and apply all take it, so that none sees a thread in the middle of another's
    work. Ends with the transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [thread_id])


def head(thread_id: str, checkpoint_ns: str = "") -> str | None:
    """The newest checkpoint's id, as LangGraph's saver picks it; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = %s AND checkpoint_ns = %s "
            "ORDER BY checkpoint_id DESC LIMIT 1",
            [thread_id, checkpoint_ns],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def newest_of(thread_id: str, checkpoint_ns: str, decision_id: str) -> str | None:
    """The newest checkpoint that a decision's own run wrote: they carry its id, no others do."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = %s AND checkpoint_ns = %s "
            "AND metadata->>'decision_id' = %s ORDER BY checkpoint_id DESC LIMIT 1",
            [thread_id, checkpoint_ns, decision_id],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def forks(thread_id: str) -> list[tuple[str, str, str]]:
    """(decision, another program's checkpoint, the one that both follow) of forks not yet noted.

    An admin's run from an older checkpoint forks the thread on purpose, and is none.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORKS, {"thread": thread_id})
        found: list[tuple[str, str, str]] = cursor.fetchall()
    return found


# From the few checkpoints that more than one follows: a thread may have thousands.
_FORKS = """
  WITH here AS MATERIALIZED (
    SELECT checkpoint_ns AS ns, parent_checkpoint_id AS parent, checkpoint_id AS id,
      metadata->>'decision_id' AS decision
    FROM checkpoints WHERE thread_id = %(thread)s AND parent_checkpoint_id IS NOT NULL
  ), forked AS MATERIALIZED (
    SELECT ns, parent FROM here GROUP BY ns, parent
    HAVING bool_or(decision IS NULL) AND bool_or(decision IS NOT NULL)
  )
  SELECT DISTINCT ON (d.id) d.id, theirs.id, theirs.parent
  FROM forked JOIN here ours USING (ns, parent) JOIN here theirs USING (ns, parent)
  JOIN approvals_decision d ON d.id::text = ours.decision
    AND d.review_id IN (SELECT id FROM approvals_review WHERE thread_id = %(thread)s)
  WHERE theirs.decision IS NULL AND d.forked_at = '' AND d.action <> 'rerun'
    AND d.checkpoint_applied <> ''
  ORDER BY d.id, theirs.id
"""


def follows_alone(
    thread_id: str, ns: str, shown: str, checkpoint_id: str, decision_id: str
) -> bool:
    """Whether what a decision wrote begins at the checkpoint that was shown, with nothing of
    anybody else's between or beside it, and is the newest.

    Asked after the write, in its transaction: programs that know nothing of us may have written in
    the moment between our last look and the write itself.
    """
    place = {"thread": thread_id, "ns": ns, "shown": shown, "at": checkpoint_id}
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOWS_ALONE, {**place, "decision": decision_id})
        return bool(cursor.fetchone()[0])


_FOLLOWS_ALONE = """
  WITH RECURSIVE here AS (
    SELECT checkpoint_id, parent_checkpoint_id, metadata->>'decision_id' = %(decision)s AS ours
    FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s
  ), up AS (
    SELECT * FROM here WHERE checkpoint_id = %(at)s
    UNION ALL SELECT here.* FROM up JOIN here ON here.checkpoint_id = up.parent_checkpoint_id
    WHERE up.ours
  )
  SELECT EXISTS (SELECT FROM up WHERE checkpoint_id = %(shown)s)
    AND NOT EXISTS (
      SELECT FROM here WHERE parent_checkpoint_id = %(shown)s AND checkpoint_id > %(shown)s
        AND ours IS NOT TRUE)
    AND (SELECT max(checkpoint_id) FROM here) = %(at)s
"""


def note_unknown_threads() -> None:
    """Has threads of unknown graphs looked at again: their graph may be registered by now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO approvals_threadchange (thread_id) SELECT DISTINCT thread_id "
            "FROM approvals_review WHERE status = 'waiting' AND graph = ''"
        )


def note_later(thread_id: str, due: dt.datetime) -> None:
    """Has a quiet thread looked at again at `due`; one such note for each thread is enough."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM approvals_threadchange WHERE id IN (SELECT id FROM approvals_threadchange"
            " WHERE thread_id = %s AND attempts = 0 AND not_before > clock_timestamp()"
            " FOR UPDATE SKIP LOCKED)",
            [thread_id],
        )
        cursor.execute(
            "INSERT INTO approvals_threadchange (thread_id, not_before) VALUES (%s, %s)",
            [thread_id, due],
        )


def note_all_threads() -> None:
    """Puts every thread that has checkpoints, or a waiting review, before the capture loop."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO approvals_threadchange (thread_id) SELECT thread_id FROM checkpoints "
            "UNION SELECT thread_id FROM approvals_review WHERE status IN ('waiting', 'stalled')"
        )


def asked_since_it_failed(thread_id: str, ns: str, checkpoint_id: str, task_id: str) -> bool:
    """Which came last of a task's error and its question: LangGraph keeps both in fixed slots.

    The row that was written last belongs to the younger transaction. After a restore from a dump
    all rows are of one age, and the task counts as failed.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(age(xmin)) FILTER (WHERE channel = '__interrupt__')"
            " < min(age(xmin)) FILTER (WHERE channel = '__error__')"
            " FROM checkpoint_writes WHERE thread_id = %s AND checkpoint_ns = %s"
            " AND checkpoint_id = %s AND task_id = %s",
            [thread_id, ns, checkpoint_id, task_id],
        )
        row = cursor.fetchone()
    return bool(row and row[0])
