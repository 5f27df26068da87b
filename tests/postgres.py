"""The tests' Postgres: DATABASE_URL where it is set, else an embedded one that ends with the run.

Loaded with `-p` before pytest-django reads the settings.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".data" / "test-postgres"

os.environ["COUNTERSIGN_DATA"] = str(ROOT / ".data" / "test")
os.environ["LANGGRAPH_JSON"] = str(ROOT / "tests" / "langgraph.json")
os.environ["REVIEWS_TOML"] = str(ROOT / "tests" / "reviews.toml")
os.environ["SECRET_KEY"] = "only for the tests"
os.environ["LANGSMITH_TRACING"] = "false"
# Sync Playwright keeps an event loop in the main thread, where the tests use the ORM.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
os.environ.pop("SUPPORT_MODEL", None)
os.environ.pop("REFUNDS_MODEL", None)
embedded_here = not os.environ.get("DATABASE_URL")

if embedded_here:
    from console import embedded

    # Nothing here must outlive a power cut, so Postgres need not wait for the disk. A kill -9 of
    # a process loses nothing all the same.
    fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    os.environ["DATABASE_URL"] = embedded.start(DATA, settings=fast)


def pytest_unconfigure(config: pytest.Config) -> None:
    if embedded_here:
        embedded.stop(DATA)
