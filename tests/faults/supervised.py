"""Workers as an operator's supervisor keeps them: one that ends is started again."""

import re
import threading
import time
from types import TracebackType
from typing import Self

from tests.faults.house import Child, House


class Supervised:
    """`with Supervised(house, 3, WORKER_CONCURRENCY="1") as workers:` keeps three alive."""

    def __init__(self, house: House, number: int, **env: str) -> None:
        self.house, self.env = house, {"QUEUE_LOG_LEVEL": "DEBUG", **env}
        self.workers: list[Child] = [house.worker(**self.env) for _ in range(number)]
        self.deaths = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """The workers live on, unwatched."""
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.03):
            for n, worker in enumerate(self.workers):
                if not worker.alive:
                    self.deaths += 1
                    self.workers[n] = self.house.worker(**self.env)

    def holder(self, review: int) -> Child | None:
        """The living worker that has the job of this review's decision in its hands."""
        found = self.house.sql(
            "SELECT j.worker_id FROM procrastinate_jobs j JOIN approvals_decision d "
            "ON d.job_id = j.id WHERE d.review_id = %s AND j.status = 'doing'",
            review,
        )
        ids = {row[0] for row in found} - {None}
        return next((w for w in list(self.workers) if registered(w) in ids and w.alive), None)


def registered(worker: Child) -> int | None:
    """The number under which the queue knows it, as its log tells."""
    told = re.findall(r"Registered worker (\d+)", worker.log.read_text())
    return int(told[-1]) if told else None


def wait_ready(worker: Child, seconds: float = 30) -> None:
    """Until the queue knows it. For workers with QUEUE_LOG_LEVEL=DEBUG."""
    deadline = time.monotonic() + seconds
    while registered(worker) is None:
        if time.monotonic() > deadline or not worker.alive:
            raise TimeoutError(f"the worker did not start: {worker.log.read_text()[-2000:]}")
        time.sleep(0.05)
