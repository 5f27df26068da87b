"""The cases, what one of them tells, and the table of all."""

import importlib
import importlib.util
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults.house import House

FAMILIES = (
    *("workers", "webs", "captures"),
    *("databases", "statements", "clocks"),
    *("races", "machine", "thirty"),
)


@dataclass
class Result:
    """What the oracle, and the case itself, found."""

    rounds: int
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    other: list[str] = field(default_factory=list)
    repeats: int = 0
    """Effects that were tried again: the receiver's key made them one."""
    note: str = ""
    details: list[str] = field(default_factory=list)
    """What each count of lost, doubled and stuck stands for, in words."""

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.doubled or self.stuck or self.other)


class Play(Protocol):
    def __call__(self, house: House, rounds: int, chance: random.Random) -> Result: ...


@dataclass(frozen=True)
class Case:
    name: str
    rounds: int
    short: int
    play: Play

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.play.__module__.rpartition('.')[2]}: {self.name}"  # type: ignore[attr-defined]


CASES: dict[str, Case] = {}


def case(name: str, *, rounds: int, short: int) -> Callable[[Play], Play]:
    """Registers a case. With `rounds` or `short` 0 it is no part of the full, or the short, run."""

    def register(play: Play) -> Play:
        assert name not in CASES, name
        CASES[name] = Case(name, rounds, short, play)
        return play

    return register


def catalogue() -> list[Case]:
    """All cases, family by family."""
    for family in FAMILIES:
        name = f"tests.faults.{family}"
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    return list(CASES.values())


# The table

HEAD = ("case", "rounds", "lost", "doubled", "stuck", "other", "repeats", "seconds")


def row(name: str, result: Result, seconds: float) -> tuple[str, ...]:
    r = result
    numbers = (r.rounds, r.lost, r.doubled, r.stuck, len(r.other), r.repeats)
    return (name, *map(str, numbers), f"{seconds:.1f}")


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[n]) for line in [HEAD, *rows]) for n in range(len(HEAD))]
    lines = []
    for line in [HEAD, tuple("-" * w for w in widths), *rows]:
        first, *rest = zip(line, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(t.rjust(w) for t, w in rest)]))
    return "\n".join(lines)
