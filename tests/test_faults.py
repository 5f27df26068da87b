"""Every case of the fault suite with a few rounds. `make faults` runs them at length."""

import random
from collections.abc import Iterator

import pytest

from tests.faults.catalogue import Case, catalogue
from tests.faults.house import House

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    built, failed = House(), request.session.testsfailed
    yield built
    built.stop(keep=request.session.testsfailed > failed)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in catalogue() if c.short])
def test_nothing_is_lost_doubled_or_stuck(house: House, case: Case):
    house.clean()
    result = case.play(house, case.short, random.Random(case.name))
    logs = f"The logs of all processes are in {house.folder}"
    assert not result.bad, "\n".join([*result.details, *result.other, logs])
