"""A review's tags and its deadline, as reviews.toml finds them in the state. A leaf."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

MOST, LONGEST = 8, 40


def tags_of(value: Any) -> list[str]:
    """A list of texts, or a text with commas, as tags; whatever else has none."""
    listed: Iterable[Any] = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set):
        return []
    texts = [" ".join(each.split()).lower()[:LONGEST] for each in listed if isinstance(each, str)]
    return list(dict.fromkeys(filter(None, texts)))[:MOST]


def deadline_of(value: Any, since: dt.datetime, within: float | None) -> dt.datetime | None:
    """When an answer is due: at the state's own time, else `within` minutes after `since`."""
    own = _moment(value) if isinstance(value, str) else None
    if own is not None or within is None:
        return own
    return since + dt.timedelta(minutes=within)


def _moment(text: str) -> dt.datetime | None:
    text = text.strip()
    try:
        day = parse_date(text)
        found = dt.datetime.combine(day, dt.time(23, 59, 59)) if day else parse_datetime(text)
        if found is None:
            return None
        aware = found if found.tzinfo else timezone.make_aware(found)
        # At either end of the calendar there are times that other zones cannot tell.
        return aware.astimezone(dt.UTC) if 1 < aware.year < dt.MAXYEAR else None
    except (ValueError, OverflowError):
        return None
