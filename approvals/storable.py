"""What a person types, refused where a checkpoint or Postgres could not hold it."""

import math
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from approvals.plain import MAX_DEPTH, clean

TOO_DEEP = _("This is nested too deeply to be kept. Make it flatter.")
TOO_LARGE = _("This holds a number that is too large to be stored. Make it smaller.")
NUL = _("This holds a NUL character, which cannot be stored. Remove it.")
BROKEN = _("This holds a character that arrived broken (half of an emoji, often). Type it again.")
_LIMITS = {int: 2**63, float: math.inf}


class Refused(ValueError):
    """The message says what is wrong with a text and what to do."""

    def __str__(self) -> str:
        return gettext(super().__str__())


def one_newline(text: str) -> str:
    """Browsers send CRLF from a textarea; agents write LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_unstorable(value: Any, depth: int = 0) -> None:
    """Raises Refused for a JSON value that cannot be kept."""
    if depth > MAX_DEPTH - 10:  # the value itself lies within a state
        raise Refused(TOO_DEEP)
    if isinstance(value, dict | list):
        for item in [*value, *(value.values() if isinstance(value, dict) else ())]:
            refuse_unstorable(item, depth + 1)
    elif isinstance(value, str):
        _refuse_characters(value)
    elif is_number(value) and not abs(value) < _LIMITS[type(value)]:  # NaN is neither
        raise Refused(TOO_LARGE)


def refuse_broken_text(text: str, original: str = "") -> None:
    """Raises Refused for a typed text that cannot be kept, or lost a character on its way: Django
    writes U+FFFD for what is no UTF-8, and only an original may have it."""
    _refuse_characters(text)
    if "\ufffd" in text and "\ufffd" not in original:
        raise Refused(BROKEN)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_characters(text: str) -> None:
    if "\x00" in text:
        raise Refused(NUL)
    if text != clean(text):
        raise Refused(BROKEN)
