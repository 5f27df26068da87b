"""A run is taken from a worker that died, and from no other."""

import signal
import time

import pytest

from approvals.models import Decision
from tests.conftest import effects, eventually, form_of, waiting

pytestmark = pytest.mark.timeout(120)


def decided(as_, **script) -> Decision:
    review = waiting("scripted", script=script)
    assert as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review)).status_code == 302
    return Decision.objects.select_related("review").get(review=review)


def state(decision: Decision) -> str:
    decision.refresh_from_db()
    return decision.state


def test_a_node_that_holds_up_the_loop_does_not_lose_its_run(processes, as_):
    decision = decided(as_, block=9)  # longer than a dead worker is waited for
    processes.worker()
    processes.worker()
    eventually(lambda: state(decision) == "finished", 40)
    assert len(effects(decision.review.thread_id)) == 1
    assert decision.epoch == 1


def test_a_worker_that_is_told_to_stop_ends_its_node_and_nobody_repeats_it(processes, as_):
    decision = decided(as_, sleep=9)
    leaving = processes.worker()
    eventually(lambda: state(decision) == "applied", 20)
    processes.worker()
    leaving.send_signal(signal.SIGTERM)
    eventually(lambda: state(decision) == "finished", 40)
    assert leaving.wait(15) == 0
    time.sleep(1)
    assert len(effects(decision.review.thread_id)) == 1
    assert decision.epoch == 1
