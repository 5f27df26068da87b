"""What a piece of work costs, whatever else the machine does."""

import time
from collections.abc import Callable


def effort(act: Callable[[], object]) -> float:
    """CPU time of `act`, in multiples of a loop over a million numbers in the same process."""
    loop = _cpu(lambda: sum(number % 7 for number in range(1_000_000)))
    return _cpu(act) / loop


def _cpu(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began
