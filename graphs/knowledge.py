"""What the bank has written down: topics, passages and compliance rules, read from one file."""

import re
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import BaseModel, ConfigDict

Language = Literal["en", "de"]
Risk = Literal["low", "medium", "high"]
Severity = Literal["breach", "warning"]

FILE = Path(__file__).parent / "data" / "knowledge.toml"
GENERAL = "general"
PASSAGES_PER_LETTER = 2


class Passage(TypedDict):
    """A passage as the state of a run carries it."""

    id: str
    title: str
    text: str
    reference: str
    reviewed: str


class Finding(TypedDict):
    """One thing the compliance check holds against a draft, in words a reviewer can act on."""

    rule: str
    severity: Severity
    text: str
    quote: str | None


class Shipped(BaseModel):
    """A table of the knowledge file; an unknown key is a typing error and refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Letters(Shipped):
    greeting: str
    opening: str
    holding: str
    closing: str
    signature: str


class Wording(Shipped):
    keywords: list[str]
    opening: str
    opening_with_amount: str | None = None


class Topic(Shipped):
    id: str
    risk: Risk
    en: Wording
    de: Wording

    def wording(self, language: Language) -> Wording:
        return self.de if language == "de" else self.en


class Entry(Shipped):
    """A passage as it is filed: `words` in a message speak for it."""

    id: str
    topic: str
    language: Language
    title: str
    reference: str
    reviewed: str
    words: list[str]
    text: str

    def as_passage(self) -> Passage:
        return {
            "id": self.id,
            "title": self.title,
            "text": self.text,
            "reference": self.reference,
            "reviewed": self.reviewed,
        }


class Rule(Shipped):
    """Applies to its topics and to messages with its signal; with neither, to every letter."""

    id: str
    severity: Severity
    text: str
    topics: list[str] = []
    signal: str | None = None
    language: Language | None = None
    forbids: list[str] = []
    requires: list[str] = []
    flags: bool = False
    remedy: dict[Language, str] = {}

    def applies(self, topic: str, language: Language, signals: Collection[str]) -> bool:
        if self.language not in (None, language):
            return False
        everywhere = not self.topics and self.signal is None
        return everywhere or topic in self.topics or self.signal in signals

    def findings(self, letter: str, signals: dict[str, str]) -> Iterator[Finding]:
        """`signals` are the ones found in the message, with the words that gave them away."""
        trigger = signals.get(self.signal or "")
        for found in _any(self.forbids).finditer(letter) if self.forbids else ():
            yield self._finding(found[0])
        if self.flags or (self.requires and not _any(self.requires).search(letter)):
            yield self._finding(trigger)

    def _finding(self, quote: str | None) -> Finding:
        return {"rule": self.id, "severity": self.severity, "text": self.text, "quote": quote}


class Knowledge(Shipped):
    notice: str
    current_since: str
    letters: dict[Language, Letters]
    signals: dict[str, list[str]]
    topics: list[Topic]
    passages: list[Entry]
    rules: list[Rule]

    def topic(self, topic_id: str) -> Topic | None:
        return next((topic for topic in self.topics if topic.id == topic_id), None)

    def rule(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def signals_in(self, text: str) -> dict[str, str]:
        found = {name: _any(patterns).search(text) for name, patterns in self.signals.items()}
        return {name: match[0] for name, match in found.items() if match}

    def classify(self, text: str, language: Language) -> str:
        def score(topic: Topic) -> int:
            return _hits(topic.wording(language).keywords, text)

        best = max(self.topics, key=score)
        return best.id if score(best) else GENERAL

    def retrieve(self, topic: str, text: str, language: Language) -> list[Passage]:
        """The topic's passages that the text speaks for, or else its first one."""
        filed = [e for e in self.passages if e.topic == topic and e.language == language]
        ranked = sorted(filed, key=lambda entry: _hits(entry.words, text), reverse=True)
        spoken_for = [entry for entry in ranked if _hits(entry.words, text)]
        chosen = spoken_for[:PASSAGES_PER_LETTER] or filed[:1]
        return [entry.as_passage() for entry in chosen]

    def is_current(self, passage: Passage) -> bool:
        return passage["reviewed"] >= self.current_since


@cache
def knowledge() -> Knowledge:
    return Knowledge.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


def language_of(code: str) -> Language:
    """The language to answer in: the file holds two, and English serves everybody else."""
    return "de" if code.lower().startswith("de") else "en"


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def _hits(words: list[str], text: str) -> int:
    """How many of the words begin a word of the text; a phrase counts once per word."""
    return sum(
        len(word.split()) for word in words if re.search(rf"\b{re.escape(word)}", text, re.I)
    )
