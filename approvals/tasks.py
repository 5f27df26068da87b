"""Procrastinate's tasks. Thin: the work is the runner's."""

from asyncio import CancelledError

from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job

from approvals import actions, runner
from approvals.errors import AWAY


class ResumeRetry(BaseRetryStrategy):
    """Tries again what was interrupted, not what ended: an exception of a node is an outcome."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, actions.NotYet):
            return RetryDecision(retry_at=exception.at)
        if isinstance(exception, (runner.CannotReach, *AWAY)):
            return RetryDecision(retry_in={"seconds": min(2**job.attempts, 30)})
        if isinstance(exception, CancelledError | JobAborted):  # this worker is shutting down
            return RetryDecision()
        return None


@app.task(name=actions.RESUME_TASK, retry=ResumeRetry(), pass_context=True)
async def resume(context: JobContext, decision_id: str) -> None:
    await runner.resume(decision_id, context.additional_context["pool"])


# A periodic task must exist: without one Procrastinate's failure monitor disarms itself.
@app.periodic(cron="17 3 * * *")
@app.task(name="approvals.forget_old_jobs", pass_context=True)
async def forget_old_jobs(context: JobContext, timestamp: int) -> None:
    """Ended jobs are kept for a week; what they did is in the audit trail for good."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=24 * 7, include_failed=True, include_cancelled=True, include_aborted=True
    )
