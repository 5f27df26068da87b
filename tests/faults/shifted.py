"""`manage.py` on a machine whose clock is off: `python -m tests.faults.shifted SECONDS worker`.

Python's own clocks are shifted, before any module of the program has had a look at them. Not by
libfaketime: under its 0.9.10, `time.sleep` of Python 3.11 fails or never ends, and a node that
sleeps is no fault of a clock.
"""

import datetime
import os
import runpy
import sys
import time
from typing import Any

HERE = "--here"


def main(seconds: str, *arguments: str) -> None:
    """Becomes the process that was asked for, with the same pid."""
    if seconds == HERE:
        shift(float(arguments[0]))
        sys.argv = ["manage.py", *arguments[1:]]
        runpy.run_path("manage.py", run_name="__main__")
        return
    # A new interpreter: the one that was forked has imported `datetime` already.
    command = [sys.executable, "-m", "tests.faults.shifted", HERE, seconds, *arguments]
    os.execv(sys.executable, command)  # noqa: S606


def shift(seconds: float) -> None:
    """Everybody who imports `time` and `datetime` from now on lives so many seconds ahead."""
    real_time, real_ns, real = time.time, time.time_ns, datetime.datetime
    away = datetime.timedelta(seconds=seconds)
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)

    class Kind(type):
        def __instancecheck__(cls, thing: object) -> bool:
            return isinstance(thing, real)

    class Shifted(real, metaclass=Kind):
        """Makes datetimes of the usual kind."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real(*args, **kwargs)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + away

        @classmethod
        def utcnow(cls) -> Any:
            return real.now(datetime.UTC).replace(tzinfo=None) + away

    datetime.datetime = Shifted  # type: ignore[misc]


if __name__ == "__main__":
    main(*sys.argv[1:])
