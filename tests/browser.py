"""A Chromium for the tests and the screenshots: Playwright's own, else the system's.

`python -m tests.browser` makes sure that there is one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
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


def launch(playwright: Any) -> Any:
    """A headless Chromium. Root may not use Chromium's sandbox."""
    arguments = ARGUMENTS + (["--no-sandbox"] if os.geteuid() == 0 else [])
    own = Path(playwright.chromium.executable_path)
    path = None if own.exists() else system_chromium()
    return playwright.chromium.launch(executable_path=path, args=arguments)


def found() -> str | None:
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.exists() else system_chromium()


def install() -> str | None:
    """Playwright's download first; where it cannot be had, the system's package."""
    if path := found():
        return path
    playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(playwright, check=False, capture_output=True, timeout=300)
    if (path := found()) or shutil.which("apt-get") is None or os.geteuid() != 0:
        return path
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]):
        subprocess.run(command, check=False, capture_output=True, env=environment)
    return found()


if __name__ == "__main__":
    if not install():
        sys.exit(
            "No Chromium for the browser tests. Install one: "
            "python -m playwright install chromium, or your system's package chromium."
        )
