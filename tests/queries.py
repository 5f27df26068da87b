"""Counting SQL, whoever sends it, and the crowds among which it is counted."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from approvals.models import Review

COLUMNS = {  # of LangGraph's tables, beside thread_id and checkpoint_ns
    "checkpoints": "checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "channel, version, type, blob",
    "checkpoint_writes": "checkpoint_id, task_id, idx, channel, type, blob, task_path",
}


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    """Every statement of every psycopg cursor: Django's as well as those of LangGraph's saver."""
    seen: list[str] = []

    def counting(method: Any) -> Any:
        def execute(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(query if isinstance(query, str) else str(query))
            return method(cursor, query, *args, **kwargs)

        return execute

    with pytest.MonkeyPatch.context() as patch:
        for name in ("execute", "executemany"):
            patch.setattr(psycopg.Cursor, name, counting(getattr(psycopg.Cursor, name)))
        yield seen


def listed(seen: list[str]) -> str:
    """The statements as a failed assertion shows them."""
    return "\n".join(f"{number}. {query[:160]}" for number, query in enumerate(seen, 1))


def crowd(number: int, **fields: Any) -> list[Review]:
    """Reviews that wait, without runs behind them, each a minute younger than the one before."""
    since = timezone.now() - dt.timedelta(minutes=number)
    rows = [
        Review(
            **{
                "graph": "support",
                "thread_id": f"crowd-{place}",
                "checkpoint_id": f"checkpoint-{place}",
                "node": "human_approval",
                "title": f"Case {place}",
                "who": f"Person {place}",
                "risk": "low",
                "excerpt": f"Dear person {place}",
                "waiting_since": since + dt.timedelta(minutes=place),
                "snapshot": {},
                "digest": "0" * 64,
                **fields,
            }
        )
        for place in range(number)
    ]
    return Review.objects.bulk_create(rows)


def copies_of(thread_id: str, number: int) -> None:
    """That many more threads with the same checkpoints; their triggers note them as any others."""
    with connection.cursor() as cursor:
        for table, columns in COLUMNS.items():
            cursor.execute(
                f"INSERT INTO {table} (thread_id, checkpoint_ns, {columns}) "
                f"SELECT thread_id || '-copy-' || number, checkpoint_ns, {columns} "
                f"FROM {table}, generate_series(1, %s) AS number WHERE thread_id = %s",
                [number, thread_id],
            )
