from collections.abc import Iterator

import pytest

from tests.conftest import test_url
from tests.contract.graphs import BROKEN, RAN
from tests.contract.threads import connected, hang_up

TABLES = "checkpoints, checkpoint_writes, checkpoint_blobs, approvals_threadchange"


@pytest.fixture(autouse=True)
def _there(db: None) -> None:
    """The tests' database. Savers come with connections of their own, so what they write is
    committed; only a test that writes on Django's connection needs `clean`."""


@pytest.fixture(scope="module", autouse=True)
def _emptied() -> Iterator[None]:
    """Every thread has an id of its own, so the tables need not be empty between two tests."""
    yield
    RAN.clear()
    BROKEN.clear()
    connected(test_url()).execute(f"TRUNCATE {TABLES}")
    hang_up()
