"""The worker process: one event loop that runs the queue, the capture loop and the sweeper.

Each part keeps itself alive: when Postgres goes away it says so once, waits, and goes on.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from approvals import actions, capture, desk_actions, ids, presence, queue_actions
from approvals.errors import AWAY, first_line
from approvals.pace import Pace
from approvals.runner import in_thread
from approvals.tasks import AT_ONCE

logger = logging.getLogger(__name__)

CAPTURE_EVERY = 0.25
SWEEP_EVERY = 5.0
RECONNECT_EVERY = 0.5
LAST_WORDS = 5.0  # seconds to note what was cut off
# Procrastinate forgets workers when it starts, by their hearts: after an outage, all that live.
NEVER = 10 * 365 * 86_400.0

Away = (*AWAY, PoolTimeout, OSError)


@dataclass
class Working:
    """What the parts of one worker share."""

    stop: asyncio.Event
    pace: Pace
    pool: AsyncConnectionPool[Any]
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)  # no more time: nodes are cut off
    cut_off: list[str] = field(default_factory=list)  # decisions whose nodes did not end by then
    ending: set[asyncio.Task[None]] = field(default_factory=set)  # queues that fetch no more

    def ended(self, queue: asyncio.Task[None]) -> None:
        self.ending.discard(queue)
        if not queue.cancelled() and (error := queue.exception()):
            logger.debug("A queue ended: %s", first_line(error))


async def run(stop: asyncio.Event, pace: Pace) -> list[str]:
    """Works until `stop` is set; then running nodes have `pace.grace` seconds to end.

    Returns the decisions that were handed back, whose nodes may still be running in a thread.
    """
    connections.databases["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    # Nodes that are plain functions run on these threads, and so does the savers' packing, which
    # must not wait for them inside its transaction.
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(4 * pace.concurrency))
    loop.set_exception_handler(_nobody_asked)
    async with _pool(pace) as pool:
        working = Working(stop, pace, pool)
        last = asyncio.create_task(_last_call(working))
        parts = (
            _keep(stop, "The queue", lambda: _queue(working)),
            _keep(stop, "The capture", lambda: _capture(stop)),
            _keep(stop, "The sweeper", lambda: _sweep(stop)),
        )
        await asyncio.gather(*parts)
        await _let_end(working)
        last.cancel()
    return working.cut_off


async def _let_end(working: Working) -> None:
    """Waits for the last runs. Not for what then cannot be noted, because Postgres is away: the
    next worker finds it as it is."""
    over = asyncio.create_task(working.over.wait())
    while working.ending and not over.done():
        await asyncio.wait({over, *working.ending}, return_when="FIRST_COMPLETED")
    over.cancel()
    if working.ending:
        await asyncio.wait(working.ending, timeout=LAST_WORDS)


def _nobody_asked(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A job of Procrastinate's that could not be marked as done: it is found again as it is."""
    error = context.get("exception")
    if isinstance(error, Away):
        logger.warning("A job's end could not be noted: %s", first_line(error))
    else:
        loop.default_exception_handler(context)


async def _last_call(working: Working) -> None:
    await working.stop.wait()
    await asyncio.sleep(working.pace.grace)
    working.over.set()


@contextlib.asynccontextmanager
async def _pool(pace: Pace) -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        kwargs={**connector_params(), "autocommit": True, "prepare_threshold": None},
        min_size=0,
        max_size=pace.connections,
        timeout=10,
        open=False,
        check=AsyncConnectionPool.check_connection,
    )
    # Its own pauses double: after an outage of half a minute it would be as long again in coming.
    AttemptWithBackoff.INITIAL_DELAY, AttemptWithBackoff.DELAY_BACKOFF = RECONNECT_EVERY, 1.0
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


async def _keep(stop: asyncio.Event, name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Runs a part again whenever it ends early. Each time the database goes away is said once."""
    away = False
    while not stop.is_set():
        began = time.monotonic()
        try:
            await part()
        except Away as error:
            if not away or time.monotonic() - began > 5:
                logger.warning("%s waits for Postgres: %s", name, first_line(error))
            away = True
        except Exception:
            logger.exception("%s broke off, and is started again", name)
        await _pause(stop, 0.5)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _queue(working: Working) -> None:
    """Fetches jobs until Postgres goes away or the worker is told to stop.

    Where runs are still under way when it fetches no more, they end beside the queue that is
    started in its place: a node of half a minute must not keep a restart of Postgres from being
    over.
    """
    # Procrastinate's own pool, opened on a Postgres that is away, would go on trying for minutes.
    async with working.pool.connection(timeout=3):
        pass
    fetched_last = asyncio.Event()
    queue = asyncio.create_task(_fetch(working, fetched_last))
    working.ending.add(queue)
    queue.add_done_callback(working.ended)
    waits = [asyncio.create_task(each.wait()) for each in (fetched_last, working.stop)]
    await asyncio.wait({queue, *waits}, return_when="FIRST_COMPLETED")
    for each in waits:
        each.cancel()
    if queue.done():
        queue.result()


async def _fetch(working: Working, fetched_last: asyncio.Event) -> None:
    pace = working.pace
    # with_connector, not replace_connector: there a defer that was rolled back left its job.
    connector = app.connector.get_worker_connector()  # type: ignore[attr-defined]
    async with app.with_connector(connector).open_async() as queue:
        queue.perform_import_paths()  # type: ignore[no-untyped-call]
        worker = queue._worker(
            concurrency=pace.concurrency,
            install_signal_handlers=False,
            fetch_job_polling_interval=0.5,
            update_heartbeat_interval=pace.heartbeat,
            stalled_worker_timeout=NEVER,
            # Ours is `over`: after an outage of Postgres, too, it waits for its running jobs, which
            # need not be hurried.
            shutdown_graceful_timeout=None,  # type: ignore[arg-type]
            additional_context={"working": working},
        )
        with _heart(worker, pace.heartbeat):
            await _run_until(working.stop, worker, _rescue(queue, pace), fetched_last)


async def _run_until(
    stop: asyncio.Event,
    worker: Worker,
    rescue: Coroutine[Any, Any, None],
    fetched_last: asyncio.Event,
) -> None:
    running: Any = worker.run()  # type: ignore[no-untyped-call]
    working, rescuing = asyncio.create_task(running), asyncio.create_task(rescue)
    # Procrastinate stops so when a part of it fails, and then waits for its running jobs.
    waits = [asyncio.create_task(each.wait()) for each in (stop, worker._stop_event)]
    done, _ = await asyncio.wait({working, rescuing, *waits}, return_when="FIRST_COMPLETED")
    fetched_last.set()
    for each in (*waits, rescuing):
        each.cancel()
    working.cancel()  # graceful: Procrastinate lets running jobs end first
    with contextlib.suppress(asyncio.CancelledError):
        await working
    if rescuing in done:
        rescuing.result()


@contextlib.contextmanager
def _heart(worker: Worker, every: float) -> Iterator[None]:
    """Beats for the worker from a thread of its own.

    Procrastinate's heart beats on the loop that the nodes run on, and stops before the last jobs
    have ended: a node that blocks the loop, or outlives SIGTERM, would be taken over and run twice.
    """
    ended = threading.Event()
    threading.Thread(target=_beat, args=(worker, every, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _beat(worker: Worker, every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(**connector_params(), autocommit=True) as conn,
        ):
            while worker.worker_id is not None:
                conn.execute("SELECT procrastinate_update_heartbeat_v1(%s)", [worker.worker_id])
                if ended.wait(every):
                    return


async def _rescue(queue: Any, pace: Pace) -> None:
    """Gives the jobs of dead workers to the living. Procrastinate only does so at a start.

    Not at once: after an outage nobody's heart has beaten for a while, and all live.
    """
    jobs = queue.job_manager
    await asyncio.sleep(2 * pace.heartbeat)
    while True:
        for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=pace.dead_after):
            await _take_over(jobs, job, pace)
        await asyncio.sleep(pace.heartbeat)


async def _take_over(jobs: Any, job: Any, pace: Pace) -> None:
    if job.task_name != actions.RESUME_TASK:
        await jobs.retry_job(job, retry_at=AT_ONCE)
        return
    decision_id = job.task_kwargs["decision_id"]
    if await in_thread(actions.rescue, job.id, decision_id, pace.dead_after):
        logger.warning("Taking over %s from a worker that died", job.call_string)


async def _capture(stop: asyncio.Event) -> None:
    while not stop.is_set():
        while await in_thread(capture.capture_batch) and not stop.is_set():
            pass
        await _pause(stop, CAPTURE_EVERY)


async def _sweep(stop: asyncio.Event) -> None:
    while not stop.is_set():
        await in_thread(ids.keep_time)
        if lost := await in_thread(actions.requeue_lost):
            logger.warning("Queued %s decisions whose job was gone", lost)
        await in_thread(desk_actions.free_ended)
        await in_thread(presence.forget_silent)
        await in_thread(queue_actions.wake_due)
        await _pause(stop, SWEEP_EVERY)
