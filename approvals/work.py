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
from typing import Any

import psycopg
from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, capture
from approvals.errors import AWAY, first_line
from approvals.runner import in_thread

logger = logging.getLogger(__name__)

CAPTURE_EVERY = 0.25
SWEEP_EVERY = 2.0
# A worker whose heart has not beaten for DEAD_AFTER seconds has its jobs taken over.
HEARTBEAT = 2.0
DEAD_AFTER = 6.0
POOL_SIZE = 8
CONCURRENCY = 10
GRACE = 30.0

Away = (*AWAY, ConnectorException, PoolTimeout, OSError)


async def run(stop: asyncio.Event) -> None:
    """Works until `stop` is set; then running nodes have GRACE seconds to end."""
    connections.databases["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    # Nodes that are plain functions run on these threads, and so does the savers' packing, which
    # must not wait for them inside its transaction.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * CONCURRENCY))
    async with _pool() as pool:
        parts = (
            _keep(stop, "The queue", lambda: _queue(stop, pool)),
            _keep(stop, "The capture", lambda: _capture(stop)),
            _keep(stop, "The sweeper", lambda: _sweep(stop)),
        )
        await asyncio.gather(*parts)


@contextlib.asynccontextmanager
async def _pool() -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        kwargs={**connector_params(), "autocommit": True, "prepare_threshold": None},
        min_size=0,
        max_size=POOL_SIZE,
        timeout=10,
        open=False,
        check=AsyncConnectionPool.check_connection,
    )
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


async def _queue(stop: asyncio.Event, pool: AsyncConnectionPool[Any]) -> None:
    # Procrastinate's own pool, opened on a Postgres that is away, would go on trying for minutes.
    async with pool.connection(timeout=3):
        pass
    # with_connector, not replace_connector: there a defer that was rolled back left its job.
    connector = app.connector.get_worker_connector()  # type: ignore[attr-defined]
    async with app.with_connector(connector).open_async() as queue:
        queue.perform_import_paths()  # type: ignore[no-untyped-call]
        worker = queue._worker(
            concurrency=CONCURRENCY,
            install_signal_handlers=False,
            fetch_job_polling_interval=0.5,
            update_heartbeat_interval=HEARTBEAT,
            stalled_worker_timeout=DEAD_AFTER,
            shutdown_graceful_timeout=GRACE,
            additional_context={"pool": pool},
        )
        with _heart(worker):
            await _run_until(stop, worker, _rescue(queue))


async def _run_until(
    stop: asyncio.Event, worker: Worker, rescue: Coroutine[Any, Any, None]
) -> None:
    running: Any = worker.run()  # type: ignore[no-untyped-call]
    working, rescuing = asyncio.create_task(running), asyncio.create_task(rescue)
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({working, rescuing, stopped}, return_when="FIRST_COMPLETED")
    stopped.cancel()
    rescuing.cancel()
    working.cancel()  # graceful: Procrastinate lets running jobs end first
    with contextlib.suppress(asyncio.CancelledError):
        await working
    if rescuing in done:
        rescuing.result()


@contextlib.contextmanager
def _heart(worker: Worker) -> Iterator[None]:
    """Beats for the worker from a thread of its own.

    Procrastinate's heart beats on the loop that the nodes run on, and stops before the last jobs
    have ended: a node that blocks the loop, or outlives SIGTERM, would be taken over and run twice.
    """
    ended = threading.Event()
    threading.Thread(target=_beat, args=(worker, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _beat(worker: Worker, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(**connector_params(), autocommit=True) as conn,
        ):
            while not ended.wait(HEARTBEAT):
                if worker.worker_id is not None:
                    conn.execute("SELECT procrastinate_update_heartbeat_v1(%s)", [worker.worker_id])


async def _rescue(queue: Any) -> None:
    """Gives the jobs of dead workers to the living. Procrastinate only does so at a start."""
    while True:
        for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER):
            logger.warning("Taking over %s from a worker that died", job.call_string)
            await queue.job_manager.retry_job(job)
        await asyncio.sleep(SWEEP_EVERY)


async def _capture(stop: asyncio.Event) -> None:
    while not stop.is_set():
        while await in_thread(capture.capture_batch) and not stop.is_set():
            pass
        await _pause(stop, CAPTURE_EVERY)


async def _sweep(stop: asyncio.Event) -> None:
    while not stop.is_set():
        if lost := await in_thread(actions.requeue_lost):
            logger.warning("Queued %s decisions whose job was gone", lost)
        await _pause(stop, SWEEP_EVERY * 5)
