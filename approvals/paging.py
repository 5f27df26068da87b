"""Pages of long lists, by key: as fast at the end as at the start, whatever came in between."""

import datetime as dt
from typing import Any

from approvals.models import Review

ROWS = 30
MOST_ROWS = 90  # of a page that is refreshed, with the rows that new ones have pushed down
COUNTED = 1000


def capped(rows: Any) -> str:
    """How many, as the page says it: exact to COUNTED, then "1,000+"."""
    number = rows.order_by()[: COUNTED + 1].count()
    return f"{COUNTED:,}+" if number > COUNTED else f"{number:,}"


def as_int(text: str) -> int | None:
    """A key out of an address; None for whatever is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def cursor(text: str) -> tuple[dt.datetime, int] | None:
    """The (waiting_since, id) after which a page begins; None for the first."""
    moment, _, number = text.rpartition("_")
    try:
        since = dt.datetime.fromisoformat(moment)
        return (since.astimezone(dt.UTC), int(number)) if since.tzinfo else None
    except (ValueError, OverflowError):
        return None


def next_cursor(rows: list[Review]) -> str:
    """Where the next page begins, of ROWS + 1 rows asked for; "" when this is the last."""
    return (
        f"{rows[ROWS - 1].waiting_since.isoformat()}_{rows[ROWS - 1].pk}"
        if len(rows) > ROWS
        else ""
    )
