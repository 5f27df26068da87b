"""Real processes of ours, forked from a parent that has other people's imports: see the nursery."""

import atexit
import functools
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.nursery import Nursery


@dataclass
class Child:
    """One of them, with the part of Popen's manners that the tests want."""

    nursery: Nursery
    pid: int

    def poll(self) -> int | None:
        state = self.nursery.state(self.pid)
        return state if isinstance(state, int) else None

    def wait(self, seconds: float = 60) -> int:
        """How it ended. Raises subprocess.TimeoutExpired when it has not."""
        by = time.monotonic() + seconds
        while (ended := self.poll()) is None:
            if time.monotonic() > by:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            time.sleep(0.02)
        return ended

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _nursery() -> tuple[Nursery, Path]:
    """One for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="countersign-children-"))
    nursery = Nursery(folder / "nursery.log")
    atexit.register(nursery.stop)
    return nursery, folder / "children.log"


def born(command: list[str], environment: dict[str, str]) -> Child:
    nursery, log = _nursery()
    return Child(nursery, nursery.start(command, environment, "", log))


def ran(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """A command (`manage.py …`, or a module) from its start to its end, within 60 seconds."""
    nursery, log = _nursery()
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        child = Child(nursery, nursery.start(command, environment, "", errors, out))
        try:
            code = child.wait()
        finally:
            child.kill()
        return subprocess.CompletedProcess(command, code, out.read_text(), errors.read_text())
