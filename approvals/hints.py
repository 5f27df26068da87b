"""What is said of a text while it is written: how long it is, and what reviews.toml watches for."""

import re
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import ngettext

from approvals.paths import pick
from approvals.redline import WORD
from approvals.saved_replies import placeholders
from graphs.registry import ReviewSettings

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)
# Patterns run on each pause in typing: a slow one must not be fed a book. reviews.toml is an
# operator's, who is told to keep them simple; nobody else can write one.
READ = 20_000  # characters
NEAR = 0.9


@dataclass(frozen=True)
class Hints:
    length: int = 0
    words: int = 0
    limit: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.limit > 0 and self.length > self.limit

    @property
    def left(self) -> int:
        return self.limit - self.length

    @property
    def over(self) -> int:
        return self.length - self.limit

    @property
    def is_near(self) -> bool:
        return self.limit > 0 and self.length >= self.limit * NEAR


def hints(settings: ReviewSettings | None, text: str, original: str = "") -> Hints:
    """The hints for a reply; `original` is the agent's, whose own braces are not a reviewer's."""
    if settings is None:
        return Hints()
    said = [hint.text for hint in settings.hints if hint.applies(text[:READ])]
    left = [name for name in placeholders(text) if name not in placeholders(original)]
    return Hints(len(text), len(WORD.findall(text)), settings.max_length, [*_unfilled(left), *said])


def _unfilled(names: list[str]) -> list[str]:
    if not names:
        return []
    told = ngettext(
        "%(names)s is not filled in: the customer would read it as it stands.",
        "%(names)s are not filled in: the customer would read them as they stand.",
        len(names),
    )
    return [told % {"names": ", ".join(names)}]


def language_of(values: Any, settings: ReviewSettings | None) -> str:
    """The conversation's language, for spelling; "" where the state names none that is one."""
    named = pick(values, settings.language) if settings and settings.language else None
    return named if isinstance(named, str) and LANGUAGE.fullmatch(named) else ""
