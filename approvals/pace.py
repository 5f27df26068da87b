"""How a worker works, from its environment."""

import os
from dataclasses import dataclass
from typing import Self

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Pace:
    """Times are in seconds."""

    concurrency: int = 10  # runs at once
    dead_after: float = 6  # a worker whose heart has not beaten for so long is taken for dead
    grace: float = 30  # what running nodes have to end after SIGTERM

    @property
    def heartbeat(self) -> float:
        """Two beats may be late before anybody thinks ill of it."""
        return self.dead_after / 3

    @property
    def connections(self) -> int:
        """The most that its runs share; a run takes one for each read and write, not for good."""
        return min(self.concurrency, 8)

    @classmethod
    def from_environment(cls) -> Self:
        """Raises ImproperlyConfigured that names the variable."""
        return cls(
            int(_number("WORKER_CONCURRENCY", cls.concurrency, 1, 200)),
            _number("WORKER_DEAD_AFTER", cls.dead_after, 0.5, 600),
            _number("WORKER_GRACE", cls.grace, 0, 86_400),
        )


def _number(name: str, default: float, least: float, most: float) -> float:
    given = os.environ.get(name, "").strip()
    try:
        number = float(given or default)
    except ValueError:
        number = -1
    if not least <= number <= most:
        raise ImproperlyConfigured(f"{name} must be a number from {least:g} to {most:g}.")
    return number
