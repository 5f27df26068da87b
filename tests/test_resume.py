"""Resuming: a decision is applied once, whatever dies in between, and its outcome is recorded."""

import asyncio
import datetime as dt
import json
import operator
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from django.utils import timezone
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from procrastinate.contrib.django.utils import connector_params
from psycopg_pool import AsyncConnectionPool
from pytest_django.asserts import assertContains, assertNotContains

from approvals import actions, runner
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.savers import LeaseLost, joined
from tests.conftest import capture_all, direct, effects, form_of, resume, take_up, waiting
from tests.shapes import decide as decided_by
from tests.shapes import order_of

pytestmark = pytest.mark.usefixtures("clean")
YES = "Dear Maeve, yes."


def decide(client, review: Review, text: str | None = None) -> Decision:
    answer = client.post(f"/reviews/{review.pk}/decide", form_of(review, text))
    assert answer.status_code == 302, answer.content.decode()[:2000]
    return Decision.objects.get(review=review)


def checkpoints(thread_id: str) -> list[tuple[str, str]]:
    """(source, id) of the thread's checkpoints, oldest first."""
    return direct(
        "SELECT metadata->>'source', checkpoint_id FROM checkpoints "
        "WHERE thread_id = %s AND checkpoint_ns = '' ORDER BY checkpoint_id",
        thread_id,
    )


def updates(thread_id: str) -> list[str]:
    return [pk for source, pk in checkpoints(thread_id) if source == "update"]


def actions_of(review: Review) -> list[str]:
    entries = AuditEntry.objects.filter(review=review).order_by("id")
    return list(entries.exclude(action="opened").values_list("action", flat=True))


def run_on(lease: runner.Lease) -> BaseException | None:
    """The run of a worker that then dies before it can say how the run ended."""

    async def run() -> BaseException | None:
        kwargs = {**connector_params(), "autocommit": True, "prepare_threshold": None}
        async with AsyncConnectionPool(kwargs=kwargs, min_size=0, max_size=4, open=False) as pool:
            return await runner._run_on(lease, pool)

    return asyncio.run(run())


def open_gate(review: Review) -> None:
    """What made deliver fail is mended."""
    direct("INSERT INTO gates VALUES (%s)", review.thread_id)


# Applied, and run to its end


def test_an_approval_is_applied_with_its_evidence(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED, decision.error
    assert updates(review.thread_id) == [decision.checkpoint_applied]
    assert checkpoints(review.thread_id)[-1][1] == decision.checkpoint_after
    applied = AuditEntry.objects.get(action="applied")
    assert applied.decision_id == decision.pk
    assert applied.checkpoint_before == review.checkpoint_id
    assert applied.checkpoint_after == decision.checkpoint_applied
    assert (applied.before, applied.after) == ({"agent_type": None}, {"agent_type": "human_admin"})
    finished = AuditEntry.objects.get(action="finished")
    assert finished.checkpoint_before == decision.checkpoint_applied
    assert finished.checkpoint_after == decision.checkpoint_after
    assert actions_of(review) == ["paused", "decided", "applied", "finished"]


def test_the_update_carries_the_decisions_id(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review, YES)
    resume(decision)
    ids = direct(
        "SELECT metadata->>'decision_id' FROM checkpoints "
        "WHERE thread_id = %s AND checkpoint_id > %s",
        review.thread_id,
        review.checkpoint_id,
    )
    assert {row[0] for row in ids} == {str(decision.pk)}
    assert effects(review.thread_id) == [(str(decision.pk), YES)]


def test_an_edit_is_in_the_audit_with_both_texts(as_):
    review = waiting("scripted")
    resume(decide(as_("rita"), review, YES))
    applied = AuditEntry.objects.get(action="applied")
    assert applied.before["agent_response"] == review.values["agent_response"]
    assert applied.after["agent_response"] == YES


def test_the_approval_node_itself_runs(as_):
    review = waiting("scripted")
    resume(decide(as_("rita"), review))
    state = joined(registry().graphs["scripted"]).get_state(
        {"configurable": {"thread_id": review.thread_id}}
    )
    assert state.values["log"] == ["draft", "human_approval", "deliver"]
    assert state.next == ()


def test_the_page_says_that_it_finished_and_which_nodes_ran(as_):
    review = waiting("scripted")
    resume(decide(as_("rita"), review))
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "Approved, and the run finished")
    for node in ("human_approval", "deliver"):
        assertContains(page, f'<li class="done"><code>{node}</code>')


def test_a_resumption_before_the_window_ends_waits_for_its_end(as_):
    review = waiting()
    decision = decide(as_("rita"), review)
    with pytest.raises(actions.NotYet) as early:
        resume(decision)
    assert early.value.at == decision.apply_after
    assert updates(review.thread_id) == []
    decision.refresh_from_db()
    assert decision.state == Decision.State.PENDING


def test_an_undone_decision_is_never_applied(as_):
    review = waiting()
    decision = decide(as_("rita"), review)
    as_("rita").post(f"/decisions/{decision.pk}/undo")
    later = timezone.now() - dt.timedelta(seconds=1)
    Decision.objects.update(apply_after=later)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.UNDONE
    assert updates(review.thread_id) == []


# It fails


def failed(as_) -> tuple[Review, Decision]:
    review = waiting("scripted", script={"fail": "the post office is <b>closed</b>"})
    decision = decide(as_("rita"), review, YES)
    resume(decision)
    decision.refresh_from_db()
    return review, decision


def test_a_failure_is_shown_with_its_node_its_error_and_a_retry(as_):
    review, decision = failed(as_)
    assert (decision.state, decision.error_node) == ("failed", "deliver")
    assert "the post office is <b>closed</b>" in decision.error
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "Approved, but the run failed")
    assertContains(page, "<code>deliver</code>: ")
    assertContains(page, "the post office is &lt;b&gt;closed&lt;/b&gt;")
    assertContains(page, ">Retry</button>")
    assertContains(page, '<li class="failed"><code>deliver</code>')
    assertContains(as_("rita").get("/"), "1 run failed after approval")
    entry = AuditEntry.objects.get(action="failed")
    assert entry.note.startswith("deliver: ")
    assert effects(review.thread_id) == []


def test_a_failed_run_is_no_review_that_waits(as_):
    failed(as_)
    capture_all()
    assert not Review.objects.waiting().exists()


def test_a_repeated_job_does_not_run_a_failed_node_again_by_itself(as_):
    review, decision = failed(as_)
    open_gate(review)
    resume(decision)
    assert effects(review.thread_id) == []


def test_a_retry_goes_on_from_the_failure_and_delivers_once(as_):
    review, decision = failed(as_)
    open_gate(review)
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    resume(decision)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error) == ("finished", "")
    assert effects(review.thread_id) == [(str(decision.pk), YES)]
    assert updates(review.thread_id) == [decision.checkpoint_applied]
    assert actions_of(review) == ["paused", "decided", "applied", "failed", "retried", "finished"]
    assertNotContains(as_("rita").get("/"), "failed after approval")


def test_a_retry_that_fails_again_says_so_again(as_):
    _, decision = failed(as_)
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error_node) == ("failed", "deliver")
    assert AuditEntry.objects.filter(action="failed").count() == 2


def test_two_people_retrying_are_one_retry(as_):
    _, decision = failed(as_)
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    answer = as_("tom").post(f"/decisions/{decision.pk}/retry")
    assertContains(answer, "This run is not failed any more", status_code=409)
    assert AuditEntry.objects.filter(action="retried").count() == 1


def test_an_auditor_may_not_retry(as_):
    review, decision = failed(as_)
    assertNotContains(as_("ada").get(f"/reviews/{review.pk}/"), ">Retry</button>")
    assert as_("ada").post(f"/decisions/{decision.pk}/retry").status_code == 403
    decision.refresh_from_db()
    assert decision.state == "failed"


# It pauses again


def test_a_second_pause_is_a_review_of_its_own(as_):
    review = waiting("scripted", script={"rounds": 2})
    decision = decide(as_("rita"), review, YES)
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    assert decision.state == Decision.State.PAUSED
    second = Review.objects.waiting().get()
    assert (second.thread_id, second.pk == review.pk) == (review.thread_id, False)
    assert effects(review.thread_id) == [(str(decision.pk), YES)]
    assertContains(as_("rita").get(f"/reviews/{review.pk}/"), "Approved; the run paused again")
    again = decide(as_("tom"), second, "Dear Maeve, and this.")
    resume(again)
    again.refresh_from_db()
    assert again.state == Decision.State.FINISHED
    assert [row[0] for row in effects(review.thread_id)] == [str(decision.pk), str(again.pk)]


def test_a_repeated_job_never_answers_the_second_question(as_):
    review = waiting("scripted", script={"rounds": 2})
    decision = decide(as_("rita"), review)
    for _ in range(3):
        resume(decision)
    assert len(effects(review.thread_id)) == 1
    assert len(updates(review.thread_id)) == 1
    assert AuditEntry.objects.filter(action="paused_again").count() == 1


# Its worker dies


def test_a_worker_that_dies_after_applying_leaves_the_rest_to_the_next(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review, YES)
    assert take_up(decision) is not None
    capture_all()
    assert not Review.objects.waiting().exists()  # it looks paused, and is ours
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED
    assert updates(review.thread_id) == [decision.checkpoint_applied]
    assert effects(review.thread_id) == [(str(decision.pk), YES)]
    assert actions_of(review) == ["paused", "decided", "applied", "finished"]


def test_a_worker_that_dies_after_the_run_leaves_only_its_outcome_to_record(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    assert run_on(take_up(decision)) is None
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED
    assert len(effects(review.thread_id)) == 1


def test_a_worker_that_dies_after_the_second_pause_does_not_have_it_answered(as_):
    review = waiting("scripted", script={"rounds": 2})
    decision = decide(as_("rita"), review)
    run_on(take_up(decision))
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.PAUSED
    assert len(effects(review.thread_id)) == 1
    assert len(updates(review.thread_id)) == 1


def test_a_worker_that_dies_after_a_failure_leaves_it_failed(as_):
    review = waiting("scripted", script={"fail": "closed"})
    decision = decide(as_("rita"), review)
    assert isinstance(run_on(take_up(decision)), RuntimeError)
    open_gate(review)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error_node) == ("failed", "deliver")
    assert effects(review.thread_id) == []


def test_a_worker_that_was_taken_over_writes_nothing_more(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    stalled = take_up(decision)
    taker = take_up(decision)
    assert (stalled.epoch, taker.epoch) == (1, 2)
    before = checkpoints(review.thread_id)
    with pytest.raises(LeaseLost):
        run_on(stalled)
    assert checkpoints(review.thread_id) == before
    assert effects(review.thread_id) == []
    runner.record_outcome(stalled, RuntimeError("I was asleep"))
    decision.refresh_from_db()
    assert decision.state == Decision.State.APPLIED
    assert run_on(taker) is None
    runner.record_outcome(taker, None)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED
    assert len(effects(review.thread_id)) == 1


def test_what_another_program_makes_of_an_applied_thread_is_not_approved_with_it(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review)
    assert take_up(decision) is not None
    config: Any = {"configurable": {"thread_id": review.thread_id}}
    graph = joined(registry().graphs["scripted"])
    asyncio.run(graph.aupdate_state(config, {"agent_response": "Nobody has read this."}))
    resume(decision)
    capture_all()
    decision.refresh_from_db()
    assert decision.state == Decision.State.SUPERSEDED
    assert decision.error == "It was applied; another program then moved the thread."
    assert actions_of(review) == ["paused", "decided", "applied", "superseded"]
    assert effects(review.thread_id) == []
    assert Review.objects.waiting().get().values["agent_response"] == "Nobody has read this."


def test_an_applied_thread_that_another_program_runs_on_is_told_as_its_turn(as_):
    review = waiting("scripted")
    decision = decide(as_("rita"), review, YES)
    assert take_up(decision) is not None
    config: Any = {"configurable": {"thread_id": review.thread_id}}
    asyncio.run(joined(registry().graphs["scripted"]).ainvoke(None, config))
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.SUPERSEDED
    assert decision.error == "It was applied; another program then moved the thread."
    assert [body for _, body in effects(review.thread_id)] == [YES]
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "another program then moved the thread")


# Graphs in which an approval, applied plainly, would lead past the approval node


class Routed(TypedDict, total=False):
    conversation_id: str
    agent_response: str
    is_compliant: bool
    log: Annotated[list[str], operator.add]


def _log(name: str) -> Any:
    return lambda state: {"log": [name]}


def _route(state: Routed) -> str:
    return "deliver" if state.get("is_compliant") else "human_approval"


def _built(draft: Any = None) -> StateGraph:
    builder = StateGraph(Routed)
    builder.add_node("draft", draft or _log("draft"))
    builder.add_node("human_approval", _log("human_approval"))
    builder.add_node("deliver", _log("deliver"))
    builder.add_edge(START, "draft")
    builder.add_edge("human_approval", "deliver")
    return builder


def _goes(state: Routed) -> Command[Literal["human_approval"]]:
    return Command(update={"log": ["draft"]}, goto="human_approval")


# Its router looks at what an approval sets.
by_router = _built().add_conditional_edges("draft", _route, ["human_approval", "deliver"])
# Its draft says itself where to go, which LangGraph forgets after an update.
by_command = _built(_goes)
# Its router does so as well, and every node leads on: there is no way to apply an approval.
by_circle = (
    _built()
    .add_conditional_edges("draft", _route, ["human_approval", "deliver"])
    .add_edge("deliver", "draft")
)

REVIEWS = """
[graphs.routed]
approval_nodes = ["human_approval"]
response = "agent_response"
group = "scripted-reviewers"
undo_window = 0

[graphs.routed.approve]
is_compliant = true
"""


@pytest.fixture
def routed(settings, tmp_path) -> Iterator[Callable[[str], Review]]:
    """A review of a graph of this file, by its name here, as the only one registered."""
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"

    def paused(name: str) -> Review:
        deploy(settings, name)
        config: Any = {"configurable": {"thread_id": name}, "metadata": {"graph_id": "routed"}}
        given = {"conversation_id": name, "agent_response": "Dear Maeve, we will see.", "log": []}
        joined(registry().graphs["routed"]).invoke(given, config)
        capture_all()
        return Review.objects.waiting().get(thread_id=name)

    yield paused
    registry.cache_clear()


def deploy(settings: Any, name: str = "") -> None:
    """The graph `routed` is from now on the one of this name in this file; of none, there is no
    such graph any more."""
    graphs = dict.fromkeys(["routed"] if name else [], f"{__name__}:{name}")
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": graphs}))
    settings.REVIEWS_TOML.write_text(REVIEWS if name else "")
    registry.cache_clear()


def values_of(review: Review) -> dict[str, Any]:
    graph = joined(registry().graphs["routed"])
    return graph.get_state({"configurable": {"thread_id": review.thread_id}}).values


@pytest.mark.parametrize("name", ["by_router", "by_command"])
@pytest.mark.parametrize("text", [None, YES])
def test_the_approval_node_runs_once_wherever_the_edges_lead(as_, routed, name, text):
    review = routed(name)
    decision = decide(as_("rita"), review, text)
    resume(decision)
    decision.refresh_from_db()
    assert decision.state == Decision.State.FINISHED, decision.error
    values = values_of(review)
    assert values["log"] == ["draft", "human_approval", "deliver"]
    assert values["is_compliant"] is True
    assert values["agent_response"] == (text or "Dear Maeve, we will see.")
    assert updates(review.thread_id) == [decision.checkpoint_applied]


@pytest.mark.parametrize("text", [None, YES])
def test_an_approval_that_langgraph_would_drop_is_refused_and_nothing_recorded(as_, routed, text):
    review = routed("by_circle")
    before = checkpoints(review.thread_id)
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, text))
    assertContains(answer, "so nothing was written", status_code=422)
    assertContains(answer, text or review.values["agent_response"], status_code=422)
    assert not Decision.objects.exists()
    assert checkpoints(review.thread_id) == before
    assert actions_of(review) == ["paused", "refused"]
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING
    refused = AuditEntry.objects.get(action="refused")
    assert refused.after == ({"agent_response": text} if text else None)


def test_a_field_with_a_reducer_is_replaced_by_an_edit(cast, routed, settings):
    review = routed("by_router")
    settings.REVIEWS_TOML.write_text(REVIEWS.replace("group", 'editable = ["log"]\ngroup'))
    registry.cache_clear()
    order = order_of(review, edits={"log": ["as Rita wrote it"]})
    decision = decided_by(cast.rita, review, order)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error) == ("finished", "")
    assert values_of(review)["log"] == ["as Rita wrote it", "human_approval", "deliver"]


# Stuck: what could be applied when it was decided cannot be any more


def stuck(as_, routed, settings, deployed: str = "") -> tuple[Review, Decision]:
    """The agent was deployed anew between a decision and its resumption."""
    review = routed("by_router")
    decision = decide(as_("rita"), review, YES)
    deploy(settings, deployed)
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.checkpoint_applied) == ("failed", "")
    return review, decision


def test_a_decision_that_cannot_be_applied_any_more_leaves_the_thread_as_it_was(
    as_, routed, settings
):
    review, _ = stuck(as_, routed, settings, "by_circle")
    assert [source for source, _ in checkpoints(review.thread_id)] == ["input", "loop", "loop"]
    assert values_of(review)["log"] == ["draft"]
    assert actions_of(review) == ["paused", "decided", "failed"]
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "Approved, but it could not be applied")
    assertContains(page, "so nothing was written")


def test_a_decision_of_a_graph_that_is_gone_waits_for_it_to_come_back(as_, routed, settings):
    review, decision = stuck(as_, routed, settings)
    assert decision.error == "The graph 'routed' is not registered here any more."
    deploy(settings, "by_router")
    assert as_("tom").post(f"/decisions/{decision.pk}/retry").status_code == 302
    resume(decision)
    decision.refresh_from_db()
    assert (decision.state, decision.error) == ("finished", "")
    assert values_of(review)["agent_response"] == YES
    assert values_of(review)["log"] == ["draft", "human_approval", "deliver"]
    assert actions_of(review) == ["paused", "decided", "failed", "retried", "applied", "finished"]


def test_a_decision_that_could_not_be_applied_can_be_taken_back_with_its_text(
    as_, routed, settings
):
    review, decision = stuck(as_, routed, settings, "by_circle")
    page = as_("tom").get(f"/reviews/{review.pk}/")
    assertContains(page, "Take back")
    assertContains(page, ">Retry</button>")
    assert as_("tom").post(f"/decisions/{decision.pk}/undo").status_code == 302
    review.refresh_from_db()
    assert review.status == Review.Status.WAITING
    assertContains(as_("rita").get(f"/reviews/{review.pk}/"), YES)
    deploy(settings, "by_router")
    again = Decision.objects.exclude(pk=decision.pk)
    decide_again = as_("tom").post(f"/reviews/{review.pk}/decide", form_of(review))
    assert decide_again.status_code == 302
    resume(again.get())
    assert again.get().state == Decision.State.FINISHED


def test_a_decision_that_failed_after_it_was_applied_cannot_be_taken_back(as_):
    review = waiting("scripted", script={"fail": "no post today"})
    decision = decide(as_("rita"), review, YES)
    resume(decision)
    assert as_("rita").post(f"/decisions/{decision.pk}/undo").status_code == 409
    decision.refresh_from_db()
    assert decision.state == Decision.State.FAILED
