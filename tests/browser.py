"""A Chromium for the tests and the screenshots: Playwright's own, else the system's.

`python -m tests.browser` makes sure that there is one.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

NAMES = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
]
ARGUMENTS = [
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
]


def system_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright: Any, *more: str) -> Any:
    """A headless Chromium. Root may not use Chromium's sandbox."""
    arguments = [*ARGUMENTS, *more] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    own = Path(playwright.chromium.executable_path)
    path = None if own.exists() else system_chromium()
    return playwright.chromium.launch(executable_path=path, args=arguments)


class Chromium:
    """One for many people, that does not outlive its standing still.

    Once in some hundred times Chromium never answers that a context is to be closed.
    """

    PATIENCE = 20.0  # seconds

    def __init__(self, playwright: Any) -> None:
        self.playwright = playwright
        self.mark = f"--countersign-tests={uuid.uuid4()}"
        self.browser = launch(playwright, self.mark)

    def context(self, **options: Any) -> Any:
        if not self.browser.is_connected():
            self.browser = launch(self.playwright, self.mark)
        return self.browser.new_context(**options)

    def close(self, context: Any = None) -> None:
        """Closes this context, or all of it."""
        watchdog = threading.Timer(self.PATIENCE, self.kill)
        watchdog.start()
        with suppress(PlaywrightError):  # that its browser is gone
            (context or self.browser).close()
        watchdog.cancel()

    def kill(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)


def found() -> str | None:
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.exists() else system_chromium()


def install() -> str | None:
    """Playwright's download first; where it cannot be had, the system's package."""
    path = found()
    if path is None:
        _run(sys.executable, "-m", "playwright", "install", "chromium")
        path = found()
    if path and Path(path).name not in NAMES[1:]:
        return path
    if shutil.which("apt-get") and os.geteuid() == 0:
        # The shell first: it draws nothing on a screen, and takes less than half of the time.
        _apt(NAMES[0]) or path or _apt("chromium")
    return found()


def _apt(package: str) -> bool:
    get = ["apt-get", "install", "-y", package]
    return _run(*get) or (_run("apt-get", "update") and _run(*get))


def _run(*command: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, env=environment)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    if not install():
        sys.exit(
            "No Chromium for the browser tests. Install one: "
            "python -m playwright install chromium, or your system's package chromium."
        )
