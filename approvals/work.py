"""The worker process: one event loop that runs the queue, the capture loop and the sweeper.

Each part keeps itself alive: when Postgres goes away it says so once, waits, and goes on.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from approvals import actions, capture
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

Away = (psycopg.Error, DjangoDatabaseError, ConnectorException, PoolTimeout, OSError)


async def run(stop: asyncio.Event) -> None:
    """Works until `stop` is set; then running nodes have GRACE seconds to end."""
    connections.databases["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
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
    """Runs a part again whenever it ends early; a database that is away is said once."""
    away = False
    while not stop.is_set():
        try:
            await part()
            away = False
        except Away as error:
            if not away:
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                logger.warning("%s waits for Postgres: %s", name, first)
            away = True
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
        worker = asyncio.create_task(
            queue.run_worker_async(
                concurrency=CONCURRENCY,
                install_signal_handlers=False,
                fetch_job_polling_interval=0.5,
                update_heartbeat_interval=HEARTBEAT,
                stalled_worker_timeout=DEAD_AFTER,
                shutdown_graceful_timeout=GRACE,
                additional_context={"pool": pool},
            )
        )
        stopped = asyncio.create_task(stop.wait())
        rescue = asyncio.create_task(_rescue(queue))
        done, _ = await asyncio.wait({worker, stopped, rescue}, return_when="FIRST_COMPLETED")
        stopped.cancel()
        rescue.cancel()
        worker.cancel()  # graceful: Procrastinate lets running jobs end first
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        if rescue in done:
            rescue.result()


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
