"""Procrastinate's tasks. Thin: the work is the runner's."""

import asyncio
import datetime as dt
from uuid import uuid4

from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job

from approvals import actions, draft_actions, runner
from approvals.errors import AWAY

UNHEARD = 2.0  # seconds that a node has to take note that it is cut off
# In the past by everybody's clock. Procrastinate's own "now" is this machine's: written to the
# database by one that is ahead, a job would wait until the others have caught up.
AT_ONCE = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class ResumeRetry(BaseRetryStrategy):
    """Tries again what was interrupted, not what ended: an exception of a node is an outcome."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, actions.NotYet | runner.HandedBack):
            return RetryDecision(retry_at=exception.at)
        if isinstance(exception, (*AWAY, asyncio.CancelledError, JobAborted)):
            return RetryDecision(retry_at=AT_ONCE)
        return None


@app.task(name=actions.RESUME_TASK, retry=ResumeRetry(), pass_context=True)
async def resume(context: JobContext, decision_id: str) -> None:
    """Until its end, or until the worker's time to stop is over, which `cut_off` then names."""
    working = context.additional_context["working"]
    holder = uuid4()
    run = asyncio.create_task(runner.resume(decision_id, working.pool, working.alone, holder))
    over = asyncio.create_task(working.over.wait())
    try:
        await asyncio.wait({run, over}, return_when="FIRST_COMPLETED")
    finally:
        over.cancel()
        if not run.done():
            run.cancel()
            working.cut_off.append(decision_id)
    await asyncio.wait({run}, timeout=UNHEARD if decision_id in working.cut_off else None)
    if not run.done():  # a node that would not hear of its end, which the process is about to meet
        raise runner.HandedBack(await runner.in_thread(actions.let_go, decision_id, holder))
    await run


# A periodic task must exist: without one Procrastinate's failure monitor disarms itself.
@app.periodic(cron="17 3 * * *")
@app.task(name="approvals.forget_old_jobs", pass_context=True)
async def forget_old_jobs(context: JobContext, timestamp: int) -> None:
    """Ended jobs are kept for a week; what they did is in the audit trail for good. So are the rows
    of workers that died. Drafts of cases that were decided are kept for a month."""
    await runner.in_thread(draft_actions.forget_old)
    await context.app.job_manager.prune_stalled_workers(7 * 86_400)
    await context.app.job_manager.delete_old_jobs(
        nb_hours=24 * 7, include_failed=True, include_cancelled=True, include_aborted=True
    )
