"""The whole table of shapes: where each run waits, and that it can be brought to its end."""

from typing import Any

import pytest

from tests.contract.graphs import SHAPES
from tests.contract.threads import DURABILITIES, Thread


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("name", SHAPES)
def test_waits_where_it_should(name: str, durability: Any) -> None:
    thread = Thread(name)
    thread.start(durability=durability)
    assert thread.next() == thread.shape.waits
    assert [question.value for question in thread.open()] == thread.shape.asks
    assert not any(task.error for task in thread.state().tasks)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_pause_left_by_any_durability_goes_on_with_sync(name: str, durability: Any) -> None:
    thread = Thread(name)
    thread.start(durability=durability)
    thread.to_the_end()
    assert thread.log() == thread.shape.does
