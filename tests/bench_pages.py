"""`make bench`: what pages and capture cost, as ratios to the same server's empty page.

Not collected by `make test`: a figure is measured here, never asserted.
"""

import statistics
import time
from collections.abc import Callable

import pytest

from approvals.models import Review
from tests.conftest import Processes, capture_all, pause, sign_in, waiting

REQUESTS = 60


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """(median, 95th percentile) of REQUESTS calls, after five that do not count."""
    taken = []
    for number in range(REQUESTS + 5):
        began = time.perf_counter()
        call()
        if number >= 5:
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def fill(total: int) -> None:
    """Reviews like one that was captured, up to `total`, each of a thread of its own."""
    one = Review.objects.first() or waiting()
    have = Review.objects.count()
    Review.objects.bulk_create(
        [
            Review(
                graph=one.graph,
                thread_id=f"bench-{n}",
                checkpoint_id=one.checkpoint_id,
                node=one.node,
                title=f"Case {n}",
                who=one.who,
                risk=one.risk,
                excerpt=one.excerpt,
                waiting_since=one.waiting_since,
                snapshot=one.snapshot,
                digest=one.digest,
            )
            for n in range(have, total)
        ],
        batch_size=1000,
    )


@pytest.mark.timeout(900)
def test_pages(processes: Processes, cast: object) -> None:
    shown = waiting()
    client = sign_in(processes.web(), "rita")
    empty, _ = milliseconds(lambda: client.get("/health"))
    print(f"\n\nempty page (/health): {empty:.1f} ms median; all else as a ratio to it")
    print(f"{'waiting':>9} {'inbox':>14} {'search':>14} {'review':>14}   median (p95)")
    for total in (5, 500, 5_000, 50_000):
        fill(total)
        figures = [
            milliseconds(lambda path=path: client.get(path).raise_for_status())  # type: ignore[misc]
            for path in ("/", "/?q=maeve", shown.get_absolute_url())
        ]
        cells = " ".join(f"{m / empty:6.1f} ({p / empty:5.1f})" for m, p in figures)
        print(f"{total:>9} {cells}")


@pytest.mark.usefixtures("clean")
def test_capture() -> None:
    began = time.perf_counter()
    for _ in range(200):
        pause("scripted")
    running = time.perf_counter() - began
    began = time.perf_counter()
    capture_all()
    capturing = time.perf_counter() - began
    print(f"\ncapture of 200 pauses: {capturing / running:.2f} of the time the runs took")
