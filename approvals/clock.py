"""One clock for every process: the database's."""

import datetime as dt

from django.db import connection


def database_now() -> dt.datetime:
    """The time now, not the transaction's start: a wait for a lock must not eat an undo window."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: dt.datetime = cursor.fetchone()[0]
    return now
