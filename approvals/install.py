"""What `migrate` adds beside Django's tables: LangGraph's own tables, and the capture triggers.

Runs after every migrate, on a connection of its own: LangGraph's `setup()` builds indexes
CONCURRENTLY, which no transaction allows, and six of them at once on an empty database fail.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.db import connections
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import Connection
from psycopg.rows import DictRow, dict_row

LOCK_SECONDS = 30
MIGRATE_LOCK = "countersign migrate"
SETUP_LOCK = "countersign checkpointer setup"
CHECKPOINT_TABLES = [
    "checkpoints",
    "checkpoint_writes",
    "checkpoint_blobs",
    "checkpoint_migrations",
]
TRIGGERS = ["countersign_put", "countersign_gone", "countersign_emptied", "countersign_write"]

# SECURITY DEFINER: agents write with a role of their own, which need not know our tables.
# No pg_notify here: its commit lock would cut concurrent agents to a third.
_TRIGGERS_SQL = """
CREATE OR REPLACE FUNCTION {schema}.countersign_note() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO {schema}.approvals_threadchange (thread_id) VALUES (NEW.thread_id);
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION {schema}.countersign_note_gone() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO {schema}.approvals_threadchange (thread_id) SELECT DISTINCT thread_id FROM gone;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION {schema}.countersign_note_emptied() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO {schema}.approvals_threadchange (thread_id)
    SELECT DISTINCT thread_id FROM {schema}.approvals_review WHERE status = 'waiting';
  RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER countersign_put AFTER INSERT OR UPDATE ON {schema}.checkpoints
  FOR EACH ROW EXECUTE FUNCTION {schema}.countersign_note();
CREATE OR REPLACE TRIGGER countersign_gone AFTER DELETE ON {schema}.checkpoints
  REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION {schema}.countersign_note_gone();
CREATE OR REPLACE TRIGGER countersign_emptied AFTER TRUNCATE ON {schema}.checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION {schema}.countersign_note_emptied();
-- __interrupt__ and __error__ come as writes, after the checkpoint; their idx is negative,
-- and the first real write of a task is 0.
CREATE OR REPLACE TRIGGER countersign_write AFTER INSERT OR UPDATE ON {schema}.checkpoint_writes
  FOR EACH ROW WHEN (NEW.idx <= 1) EXECUTE FUNCTION {schema}.countersign_note();
"""


_UNINSTALL_SQL = """
DROP FUNCTION IF EXISTS countersign_note() CASCADE;
DROP FUNCTION IF EXISTS countersign_note_gone() CASCADE;
DROP FUNCTION IF EXISTS countersign_note_emptied() CASCADE;
"""


def after_migrate(sender: Any, using: str = "default", **kwargs: Any) -> None:
    """post_migrate: right in `migrate`, in tests, and after an upgrade of LangGraph."""
    with alone(using, SETUP_LOCK) as conn:
        if not conn.execute("SELECT to_regclass('approvals_threadchange') AS t").fetchone()["t"]:  # type: ignore[index]
            conn.execute(_UNINSTALL_SQL)
            return  # migrated to zero, or in part: agents must not write into what is not there
        PostgresSaver(conn).setup()
        mend_indexes(conn)
        install_triggers(conn)


def connect(using: str, **options: Any) -> Connection[DictRow]:
    """A plain autocommit connection to the database of a Django alias."""
    params = connections[using].get_connection_params()
    for name in ("cursor_factory", "context", "row_factory", "autocommit", "prepare_threshold"):
        params.pop(name, None)
    return psycopg.connect(
        **{**params, **options}, autocommit=True, row_factory=dict_row, prepare_threshold=None
    )


@contextmanager
def alone(using: str, name: str) -> Iterator[Connection[DictRow]]:
    """A connection that holds the advisory lock `name`. Waits at most LOCK_SECONDS for it.

    Raises CommandError that names the holder when the lock, or one that a statement inside
    needs, cannot be had in that time.
    """
    with connect(using) as conn:
        if not _lock(conn, name):
            raise CommandError(_waited(name, _holders(using, name, [])))
        conn.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            yield conn
        except psycopg.errors.LockNotAvailable as error:
            own = f"process {conn.info.backend_pid} "
            holders = _holders(using, name, CHECKPOINT_TABLES)
            others = [one for one in holders if not one.startswith(own)]
            raise CommandError(_waited(name, others)) from error


def _lock(conn: Connection[DictRow], name: str) -> bool:
    # Asked again and again, not waited for: a statement that waits holds a snapshot, and CREATE
    # INDEX CONCURRENTLY in the process that has the lock would wait for that in turn.
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        got = conn.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS got", [name])
        if got.fetchone()["got"]:  # type: ignore[index]
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _holders(using: str, name: str, tables: list[str]) -> list[str]:
    """Who has the advisory lock, or a lock on one of `tables` that a statement waits for."""
    with connect(using) as conn:
        rows = conn.execute(
            """
            SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed') AS program
            FROM pg_locks l JOIN pg_stat_activity a USING (pid),
                 (SELECT hashtextextended(%s, 0) AS key) k
            WHERE l.granted AND l.pid <> pg_backend_pid()
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (l.locktype = 'advisory' AND l.objsubid = 1
                   AND l.classid::bigint = (k.key >> 32) & 4294967295
                   AND l.objid::bigint = k.key & 4294967295
                OR l.relation IN (SELECT oid FROM pg_class WHERE relname = ANY(%s))
                   AND l.mode <> 'AccessShareLock')
            """,
            [name, tables],
        ).fetchall()
    return [f"process {row['pid']} ({row['program']})" for row in rows]


def _waited(name: str, holders: list[str]) -> str:
    held = f"Held by {', '.join(holders)}. " if holders else ""
    return (
        f"Waited {LOCK_SECONDS} s for a lock of the database ({name}). {held}"
        "Let that end, then migrate again."
    )


def mend_indexes(conn: Connection[DictRow]) -> None:
    """Builds indexes again that a CREATE INDEX CONCURRENTLY, cut off, left invalid.

    LangGraph's setup() counts such a step as done and never comes back to it.
    """
    for name in invalid_indexes(conn):
        conn.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
    for step in PostgresSaver.MIGRATIONS:
        if "CREATE INDEX CONCURRENTLY IF NOT EXISTS" in step:
            conn.execute(step)


def invalid_indexes(conn: Any) -> list[str]:
    """Names of invalid indexes on LangGraph's tables."""
    with conn.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.relname AS name FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
            WHERE NOT i.indisvalid AND t.relname = ANY(%s)
              AND t.relnamespace = current_schema()::regnamespace
            """,
            [CHECKPOINT_TABLES],
        )
        return [r["name"] if isinstance(r, dict) else r[0] for r in cursor.fetchall()]


def missing_triggers(conn: Any) -> list[str]:
    """Capture triggers that are not there, or are disabled."""
    with conn.cursor() as cursor:
        cursor.execute(
            """
            SELECT tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE tgname = ANY(%s) AND tgenabled <> 'D'
              AND c.relnamespace = current_schema()::regnamespace
            """,
            [TRIGGERS],
        )
        found = {r["name"] if isinstance(r, dict) else r[0] for r in cursor.fetchall()}
    return [name for name in TRIGGERS if name not in found]


def install_triggers(conn: Connection[DictRow]) -> None:
    """Installs the triggers; the first time, notes every thread that was there before us."""
    first = bool(missing_triggers(conn))
    schema = conn.execute("SELECT quote_ident(current_schema()) AS s").fetchone()["s"]  # type: ignore[index]
    with conn.transaction():
        conn.execute(_TRIGGERS_SQL.format(schema=schema))
        if first:
            conn.execute(
                "INSERT INTO approvals_threadchange (thread_id) "
                "SELECT DISTINCT thread_id FROM checkpoints"
            )
