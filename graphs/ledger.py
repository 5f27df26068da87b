"""Where the refunds agent's actions end up: one row per action, however often it is tried."""

import os
from decimal import Decimal
from typing import NamedTuple

import psycopg

from graphs.support import libpq_url


class Entry(NamedTuple):
    """`subject` is the order refunded or the customer whose account was closed."""

    conversation_id: str
    action: str
    subject: str
    reason: str
    amount: Decimal | None = None
    currency: str | None = None


def create_ledger(conn: psycopg.Connection) -> None:
    conn.execute(
        "CREATE TABLE IF NOT EXISTS refunds_ledger ("
        " idempotency_key text PRIMARY KEY, conversation_id text NOT NULL, action text NOT NULL,"
        " subject text NOT NULL, reason text NOT NULL, amount numeric(12, 2), currency text,"
        " entered_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL DEFAULT 1)"
    )


def enter(key: str, entry: Entry) -> None:
    """Writes to the database that REFUNDS_LEDGER names; without it, nothing is written."""
    if not (url := os.environ.get("REFUNDS_LEDGER")):
        return
    with psycopg.connect(libpq_url(url), connect_timeout=10) as conn:
        conn.execute(
            "INSERT INTO refunds_ledger"
            " (idempotency_key, conversation_id, action, subject, reason, amount, currency)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (idempotency_key)"
            " DO UPDATE SET attempts = refunds_ledger.attempts + 1",
            (key, *entry),
        )
