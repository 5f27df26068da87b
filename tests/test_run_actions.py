"""Runs that broke off: an admin continues, ends or deletes them; and runs any thread again."""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connections
from langchain_core.runnables import RunnableConfig
from pytest_django.asserts import assertContains, assertNotContains

from approvals import run_actions
from approvals.audit import Actor
from approvals.errors import AlreadyDecided, Conflict, Invalid, Moved, NotAllowed, Stale
from approvals.models import AuditEntry, Decision, Review
from approvals.registry import registry
from approvals.run_actions import Sight
from approvals.savers import joined
from tests.conftest import capture_all, direct, effects, form_of, pause, resume, waiting
from tests.contract.graphs import BROKEN, RAN, State, asking, beside, chain, step
from tests.shapes import decide, order_of, settle

pytestmark = pytest.mark.usefixtures("clean")
TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
ACTS = {
    "continue": run_actions.continue_run,
    "end": run_actions.end_run,
    "delete": run_actions.delete_thread,
}


def late(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Fails, if it does, after what runs beside it has ended."""
    time.sleep(0.3)
    return dict(step("finance")(state, config))


parallel = beside(legal=step("legal"), finance=late)
questioned = chain(("draft", step("draft")), ("ask", asking("ask", "send?")), ("out", step("out")))

REVIEWS = """
[graphs.parallel]
group = "scripted-reviewers"
stalled_after = 1
[graphs.questioned]
group = "scripted-reviewers"
undo_window = 0
"""


@pytest.fixture
def shaped(settings: Any, tmp_path: Any) -> Iterator[None]:
    """The graphs above, registered in place of the others."""
    settings.LANGGRAPH_JSON = tmp_path / "langgraph.json"
    settings.REVIEWS_TOML = tmp_path / "reviews.toml"
    targets = {name: f"{__name__}:{name}" for name in ("parallel", "questioned")}
    settings.LANGGRAPH_JSON.write_text(json.dumps({"graphs": targets}))
    settings.REVIEWS_TOML.write_text(REVIEWS)
    registry.cache_clear()
    yield
    BROKEN.clear()
    registry.cache_clear()


def config_of(thread_id: str, graph: str) -> Any:
    return {"configurable": {"thread_id": thread_id}, "metadata": {"graph_id": graph}}


def run(graph: str, thread_id: str, given: Any = None) -> None:
    """Another program runs the thread; what its nodes raise is its own concern."""
    with contextlib.suppress(RuntimeError):
        compiled = joined(registry().graphs[graph])
        asyncio.run(compiled.ainvoke(given, config_of(thread_id, graph)))


def stalled(fail: str = "the post office is closed") -> Review:
    """A run of an agent's own program that failed in deliver."""
    thread_id = pause("scripted", script={"fail": fail})
    run("scripted", thread_id)
    capture_all()
    return Review.objects.get(thread_id=thread_id)


def open_gate(review: Review) -> None:
    """What made deliver fail is mended."""
    direct("INSERT INTO gates VALUES (%s)", review.thread_id)


def actor(person: Any) -> Actor:
    return Actor(person, person.get_full_name())


def sight(review: Review) -> Sight:
    return Sight(review.digest, uuid.uuid4())


def state_of(review: Review) -> Any:
    return joined(registry().graphs[review.graph]).get_state(
        config_of(review.thread_id, review.graph)
    )


def rows(thread_id: str) -> dict[str, int]:
    return {
        name: direct(f"SELECT count(*) FROM {name} WHERE thread_id = %s", thread_id)[0][0]
        for name in TABLES
    }


def trail(review: Review) -> list[str]:
    entries = AuditEntry.objects.filter(thread_id=review.thread_id).order_by("id")
    return list(entries.exclude(action="opened").values_list("action", flat=True))


def another_admin() -> Any:
    return get_user_model().objects.create(
        username="otto", first_name="Otto", last_name="Bell", is_superuser=True
    )


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each gave or raised, all begun at the same moment on connections of their own."""
    start, given = threading.Barrier(len(acts)), [None] * len(acts)

    def work(at: int) -> None:
        start.wait()
        try:
            given[at] = acts[at]()
        except Conflict as error:
            given[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


# A stalled run


def test_a_run_that_failed_elsewhere_is_shown_to_admins_with_its_error(as_):
    review = stalled()
    assert (review.kind, review.status, review.node) == ("stalled", "stalled", "deliver")
    assert "the post office is closed" in review.pause["error"]
    assert trail(review) == ["stalled"]
    page = as_("mara").get(f"/reviews/{review.pk}/")
    assertContains(page, "the post office is closed")
    assertContains(as_("mara").get("/stalled/"), f"/reviews/{review.pk}/")
    for name in ("rita", "stan"):
        assert as_(name).get(f"/reviews/{review.pk}/").status_code == 404
        assertNotContains(as_(name).get("/"), f"/reviews/{review.pk}/")


@pytest.mark.usefixtures("shaped")
def test_a_run_that_nobody_runs_is_stalled_only_after_its_time():
    graph = joined(registry().graphs["parallel"])
    graph.update_state(config_of("quiet", "parallel"), {"log": []}, as_node="__start__")
    capture_all()
    assert not Review.objects.exists()
    time.sleep(1.1)
    capture_all()
    review = Review.objects.get()
    assert (review.status, sorted(review.pause["nodes"])) == ("stalled", ["finance", "legal"])
    assert review.pause["error"] == ""


def test_a_stalled_run_that_went_on_by_itself_leaves_the_list():
    review = stalled()
    open_gate(review)
    run("scripted", review.thread_id)
    capture_all()
    review.refresh_from_db()
    assert review.status == "superseded"
    assert len(effects(review.thread_id)) == 1


# Continue


def test_continue_runs_on_once_despite_the_error(cast):
    review = stalled()
    open_gate(review)
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    assert (decision.action, decision.state) == ("continue", "finished"), decision.error
    assert [row[0] for row in effects(review.thread_id)] == [str(decision.pk)]
    state = state_of(review)
    assert state.next == ()
    assert state.values["log"] == ["draft", "human_approval", "deliver"]
    assert trail(review) == ["stalled", "continued", "applied", "finished"]
    said = AuditEntry.objects.get(action="continued")
    assert (said.actor, said.review, said.decision) == (cast.mara, review, decision)
    assert said.checkpoint_before == review.checkpoint_id


def test_a_repeated_job_continues_nothing_twice(cast):
    review = stalled()
    open_gate(review)
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    resume(decision)
    resume(decision)
    assert len(effects(review.thread_id)) == 1
    assert AuditEntry.objects.filter(action="finished").count() == 1


def test_the_same_form_twice_is_one_continuation(cast):
    review = stalled()
    open_gate(review)
    form = sight(review)
    first = run_actions.continue_run(actor(cast.mara), review.pk, form)
    assert run_actions.continue_run(actor(cast.mara), review.pk, form) == first
    settle(first)
    assert run_actions.continue_run(actor(cast.mara), review.pk, form) == first
    assert Decision.objects.count() == 1
    assert AuditEntry.objects.filter(action="continued").count() == 1


def test_continue_by_its_page_asks_first_and_acts_on_its_post(as_):
    review = stalled()
    open_gate(review)
    page = as_("mara").get(f"/reviews/{review.pk}/continue")
    assertContains(page, review.digest)
    assert not Decision.objects.exists()
    form = {"digest": review.digest, "key": str(uuid.uuid4())}
    assert as_("mara").post(f"/reviews/{review.pk}/continue", form).status_code == 302
    settle(Decision.objects.get())
    assert len(effects(review.thread_id)) == 1


def test_a_continuation_that_fails_again_is_shown_and_can_be_retried(as_, cast):
    review = stalled()
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    assert (decision.state, decision.error_node) == ("failed", "deliver")
    assertContains(as_("mara").get("/"), "1 run failed")
    assertContains(as_("mara").get(f"/reviews/{review.pk}/"), ">Retry</button>")
    open_gate(review)
    assert as_("mara").post(f"/decisions/{decision.pk}/retry").status_code == 302
    settle(decision)
    assert decision.state == "finished", decision.error
    assert len(effects(review.thread_id)) == 1


@pytest.mark.parametrize("act", ["end", "delete"])
def test_a_run_whose_continuation_failed_can_still_be_ended_or_deleted(cast, act):
    review = stalled()
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    assert decision.state == "failed"
    ACTS[act](actor(cast.mara), review.pk, sight(review))
    capture_all()
    assert not state_of(review).next
    assert not Review.objects.filter(status__in=["stalled", "waiting"]).exists()
    decision.refresh_from_db()
    review.refresh_from_db()
    assert decision.state == "superseded"
    assert decision.error in {"Ended by Mara Quist.", "Deleted by Mara Quist."}


def test_what_was_continued_and_failed_again_is_not_continued_anew(cast):
    review = stalled()
    settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    with pytest.raises(Conflict, match="Retry it"):
        run_actions.continue_run(actor(cast.mara), review.pk, sight(review))
    assert Decision.objects.count() == 1


# A decision's run that failed is a stalled run as well


def failed(cast: Any) -> tuple[Decision, Review]:
    """An approval whose run failed, and the stalled run that admins are shown of it."""
    case = waiting("scripted", script={"fail": "closed"})
    decision = settle(decide(cast.rita, case, order_of(case)))
    assert decision.state == "failed"
    return decision, Review.objects.get(status="stalled")


@pytest.mark.parametrize("act", ACTS)
def test_once_an_admin_has_tended_it_nothing_is_listed_as_failed(as_, cast, act):
    decision, review = failed(cast)
    assertContains(as_("rita").get("/"), "1 run failed")
    open_gate(review)
    made = ACTS[act](actor(cast.mara), review.pk, sight(review))
    if made:
        assert settle(made).state == "finished"
    capture_all()
    assertNotContains(as_("rita").get("/"), "1 run failed")
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    settle(decision)
    assert len(effects(review.thread_id)) == (1 if act == "continue" else 0)


def test_a_retry_that_went_well_closes_the_stalled_run(as_, cast):
    decision, review = failed(cast)
    open_gate(review)
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 302
    settle(decision)
    review.refresh_from_db()
    assert (decision.state, review.status) == ("finished", "superseded")


def test_what_an_admin_continues_is_not_retried_beside_it(as_, cast):
    decision, review = failed(cast)
    open_gate(review)
    continued = run_actions.continue_run(actor(cast.mara), review.pk, sight(review))
    assert as_("rita").post(f"/decisions/{decision.pk}/retry").status_code == 409
    settle(continued)
    settle(decision)
    assert (continued.state, decision.state) == ("finished", "superseded")
    assert decision.error == "Mara Quist had the run go on."
    assert [row[0] for row in effects(review.thread_id)] == [str(continued.pk)]


def test_what_is_being_retried_is_not_continued_as_well(as_, cast):
    decision, review = failed(cast)
    open_gate(review)
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    with pytest.raises(Conflict, match="under way"):
        run_actions.continue_run(actor(cast.mara), review.pk, sight(review))
    settle(decision)
    assert [row[0] for row in effects(review.thread_id)] == [str(decision.pk)]


@pytest.mark.parametrize("act", ["end", "delete"])
def test_what_is_being_retried_is_neither_ended_nor_deleted(as_, cast, act):
    decision, review = failed(cast)
    as_("rita").post(f"/decisions/{decision.pk}/retry")
    with pytest.raises(Conflict, match="under way"):
        ACTS[act](actor(cast.mara), review.pk, sight(review))
    assert state_of(review).next == ("deliver",)


def test_a_run_that_is_continued_to_a_pause_waits_for_a_reviewer(cast):
    review = stalled_before_a_pause()
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    assert decision.state == "paused", decision.error
    assert effects(review.thread_id) == []
    following = Review.objects.waiting().get()
    assert (following.node, following.follows) == ("human_approval", decision)
    last = settle(decide(cast.rita, following, order_of(following)))
    assert last.state == "finished"
    assert len(effects(review.thread_id)) == 1


def stalled_before_a_pause() -> Review:
    """A run that another program left before `draft`, long ago."""
    thread_id = f"scripted-{uuid.uuid4().hex[:8]}"
    given = {"conversation_id": thread_id, "agent_response": "Dear Maeve", "log": []}
    graph = joined(registry().graphs["scripted"])
    asyncio.run(graph.aupdate_state(config_of(thread_id, "scripted"), given, as_node="__start__"))
    old = json.dumps("2026-01-01T00:00:00+00:00")
    direct(
        "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{ts}', %s) "
        "WHERE thread_id = %s",
        old,
        thread_id,
    )
    capture_all()
    return Review.objects.get(thread_id=thread_id)


@pytest.mark.usefixtures("shaped")
def test_what_had_ended_beside_the_node_that_failed_is_not_run_again(cast):
    BROKEN.add(("beside", "finance"))
    run("parallel", "beside", {"log": []})
    capture_all()
    review = Review.objects.get()
    assert (review.status, review.node) == ("stalled", "finance")
    assert sorted(RAN["beside"]) == ["finance", "legal"]
    BROKEN.clear()
    decision = settle(run_actions.continue_run(actor(cast.mara), review.pk, sight(review)))
    assert decision.state == "finished", decision.error
    assert sorted(RAN["beside"]) == ["finance", "finance", "legal", "send"]
    assert sorted(state_of(review).values["log"]) == ["finance", "legal", "send"]


# End


def test_an_ended_run_has_nothing_to_run_and_keeps_what_it_did(cast):
    review = stalled()
    run_actions.end_run(actor(cast.mara), review.pk, sight(review))
    state = state_of(review)
    assert state.next == ()
    assert state.values["log"] == ["draft", "human_approval"]
    review.refresh_from_db()
    assert (review.status, review.ended_because) == ("superseded", "Ended by Mara Quist.")
    said = AuditEntry.objects.get(action="ended")
    assert said.actor == cast.mara
    assert said.checkpoint_before == review.checkpoint_id
    assert said.checkpoint_after == state.config["configurable"]["checkpoint_id"]
    open_gate(review)
    run("scripted", review.thread_id)
    capture_all()
    assert effects(review.thread_id) == []
    assert not Review.objects.filter(status__in=["stalled", "waiting"]).exists()
    assert trail(review) == ["stalled", "ended"]


def test_a_run_is_ended_once(cast):
    review = stalled()
    form = sight(review)
    run_actions.end_run(actor(cast.mara), review.pk, form)
    with pytest.raises(Moved, match=r"Ended by Mara Quist\."):
        run_actions.end_run(actor(cast.mara), review.pk, form)
    assert AuditEntry.objects.filter(action="ended").count() == 1


# Delete


def test_a_deleted_thread_leaves_no_row_but_its_reviews_and_its_trail(cast):
    review = stalled()
    other = waiting("scripted")
    assert all(rows(review.thread_id).values())
    run_actions.delete_thread(actor(cast.mara), review.pk, sight(review))
    assert rows(review.thread_id) == dict.fromkeys(TABLES, 0)
    assert all(rows(other.thread_id).values())
    capture_all()
    review.refresh_from_db()
    assert (review.status, review.ended_because) == ("superseded", "Deleted by Mara Quist.")
    said = AuditEntry.objects.get(action="deleted")
    assert (said.actor, said.thread_id) == (cast.mara, review.thread_id)
    assert said.checkpoint_before == review.checkpoint_id
    assert trail(review) == ["stalled", "deleted"]


def test_a_thread_whose_graph_is_not_registered_any_more_can_be_deleted_and_not_ended(cast):
    review = stalled()
    Review.objects.filter(pk=review.pk).update(graph="gone")
    with pytest.raises(Invalid, match="not registered"):
        run_actions.end_run(actor(cast.mara), review.pk, sight(review))
    assert all(rows(review.thread_id).values())
    run_actions.delete_thread(actor(cast.mara), review.pk, sight(review))
    assert rows(review.thread_id) == dict.fromkeys(TABLES, 0)


def test_the_page_of_a_deleted_thread_still_tells_what_it_was(as_, cast):
    review = stalled()
    run_actions.delete_thread(actor(cast.mara), review.pk, sight(review))
    page = as_("mara").get(f"/reviews/{review.pk}/")
    assertContains(page, "Deleted by Mara Quist.")


# Who may, and when


@pytest.mark.parametrize("name", ["rita", "ada", "stan"])
@pytest.mark.parametrize("act", ACTS)
def test_only_admins_tend_runs(as_, cast, act, name):
    review = stalled()
    before = rows(review.thread_id)
    with pytest.raises(NotAllowed):
        ACTS[act](actor(getattr(cast, name)), review.pk, sight(review))
    assert AuditEntry.objects.get(action="refused").actor == getattr(cast, name)
    form = {"digest": review.digest, "key": str(uuid.uuid4())}
    assert as_(name).post(f"/reviews/{review.pk}/{act}", form).status_code == 404
    assert AuditEntry.objects.filter(action="refused").count() == 2
    review.refresh_from_db()
    assert (review.status, rows(review.thread_id)) == ("stalled", before)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("act", ACTS)
def test_an_admin_who_audits_tends_nothing(cast, act):
    review = stalled()
    cast.mara.groups.add(Group.objects.get(name="auditors"))
    with pytest.raises(NotAllowed):
        ACTS[act](actor(cast.mara), review.pk, sight(review))


@pytest.mark.parametrize("act", ACTS)
def test_a_run_that_moved_meanwhile_is_left_alone(as_, cast, act):
    review = stalled()
    open_gate(review)
    run("scripted", review.thread_id)
    with pytest.raises(Moved):
        ACTS[act](actor(cast.mara), review.pk, sight(review))
    form = {"digest": review.digest, "key": str(uuid.uuid4())}
    assert as_("mara").post(f"/reviews/{review.pk}/{act}", form).status_code == 409
    assert len(effects(review.thread_id)) == 1
    assert not Decision.objects.exists()
    assert rows(review.thread_id)["checkpoints"] > 0


@pytest.mark.parametrize("act", ACTS)
def test_a_run_that_was_not_seen_as_it_is_now_is_left_alone(cast, act):
    review = stalled()
    with pytest.raises(Stale):
        ACTS[act](actor(cast.mara), review.pk, Sight("0" * 64, uuid.uuid4()))
    assert state_of(review).next == ("deliver",)


@pytest.mark.parametrize("act", ACTS)
def test_a_case_that_waits_for_a_person_is_not_tended(cast, act):
    review = waiting("scripted")
    with pytest.raises(Invalid, match="waits for a person"):
        ACTS[act](actor(cast.mara), review.pk, sight(review))
    assert state_of(review).next == ("human_approval",)


@pytest.mark.parametrize("act", ["end", "delete"])
def test_a_run_that_is_being_continued_is_neither_ended_nor_deleted(cast, act):
    review = stalled()
    run_actions.continue_run(actor(cast.mara), review.pk, sight(review))
    with pytest.raises(AlreadyDecided):
        ACTS[act](actor(another_admin()), review.pk, sight(review))
    assert state_of(review).next == ("deliver",)


def test_a_continuation_whose_thread_moved_before_it_began_does_nothing(cast):
    review = stalled()
    decision = run_actions.continue_run(actor(cast.mara), review.pk, sight(review))
    open_gate(review)
    run("scripted", review.thread_id)
    settle(decision)
    assert decision.state == "superseded"
    assert len(effects(review.thread_id)) == 1


@pytest.mark.parametrize("turn", range(3))
def test_two_admins_who_continue_at_once_are_one_continuation(cast, turn):
    review = stalled()
    open_gate(review)
    people = [cast.mara, another_admin()]
    given = at_once(
        *(
            lambda p=person: run_actions.continue_run(actor(p), review.pk, sight(review))
            for person in people
        )
    )
    assert sorted(type(one).__name__ for one in given) == ["AlreadyDecided", "Decision"]
    settle(Decision.objects.get())
    assert len(effects(review.thread_id)) == 1


@pytest.mark.parametrize("turn", range(3))
def test_of_a_continuation_and_an_end_at_once_one_is_done(cast, turn):
    review = stalled()
    open_gate(review)
    other = another_admin()
    continued, ended = at_once(
        lambda: run_actions.continue_run(actor(cast.mara), review.pk, sight(review)),
        lambda: run_actions.end_run(actor(other), review.pk, sight(review)),
    )
    assert isinstance(continued, Conflict) != isinstance(ended, Conflict)
    for decision in Decision.objects.all():
        settle(decision)
    assert state_of(review).next == ()
    assert len(effects(review.thread_id)) == (1 if ended is not None else 0)


# Run again


def checkpoint(review: Review, *following: str) -> str:
    """The newest checkpoint after which these nodes came next."""
    history = joined(registry().graphs[review.graph]).get_state_history(
        config_of(review.thread_id, review.graph)
    )
    found = next(state for state in history if state.next == following)
    return str(found.config["configurable"]["checkpoint_id"])


def finished(cast: Any, **state: Any) -> Review:
    """A case that was approved and delivered."""
    review = waiting("scripted", **state)
    decision = settle(decide(cast.rita, review, order_of(review)))
    assert decision.state == "finished", decision.error
    return review


def again(cast: Any, review: Review, checkpoint_id: str, key: Any = None) -> Decision | None:
    return run_actions.run_again(actor(cast.mara), review.pk, checkpoint_id, key or uuid.uuid4())


def test_what_is_run_again_runs_from_there_once(cast):
    review = finished(cast)
    first = Decision.objects.get()
    decision = again(cast, review, checkpoint(review, "deliver"))
    head = state_of(review)
    assert (head.metadata["source"], head.next) == ("fork", ("deliver",))
    assert head.values["log"] == ["draft", "human_approval"]
    settle(decision)
    assert (decision.action, decision.state) == ("rerun", "finished"), decision.error
    resume(decision)
    assert [row[0] for row in effects(review.thread_id)] == [str(first.pk), str(decision.pk)]
    assert state_of(review).values["log"] == ["draft", "human_approval", "deliver"]
    assert not Review.objects.filter(status__in=["waiting", "stalled"]).exists()


def test_a_rerun_is_audited_with_both_checkpoints(cast):
    review = finished(cast)
    at = checkpoint(review, "deliver")
    decision = again(cast, review, at)
    said = AuditEntry.objects.get(action="forked")
    assert (said.actor, said.decision, said.note) == (cast.mara, decision, f"from {at}")
    assert said.thread_id == review.thread_id
    assert (said.checkpoint_before, said.checkpoint_after) == (at, decision.review.checkpoint_id)
    settle(decision)
    assert trail(review)[-3:] == ["forked", "applied", "finished"]


def test_what_is_run_again_pauses_where_it_paused_and_is_a_case_of_its_own(cast):
    review = finished(cast)
    decision = settle(again(cast, review, checkpoint(review, "draft")))
    assert decision.state == "paused", decision.error
    following = Review.objects.waiting().get()
    assert (following.node, following.follows) == ("human_approval", decision)
    assert following.pk != review.pk
    assert len(effects(review.thread_id)) == 1
    last = settle(decide(cast.tom, following, order_of(following)))
    assert last.state == "finished"
    assert [row[0] for row in effects(review.thread_id)][1:] == [str(last.pk)]


def test_a_fork_exactly_at_a_pause_runs_nothing_and_is_a_case(cast):
    review = finished(cast)
    decision = again(cast, review, review.checkpoint_id)
    assert (decision.state, decision.job_id) == ("paused", None)
    capture_all()
    following = Review.objects.waiting().get()
    assert (following.node, following.follows) == ("human_approval", decision)
    assert following.checkpoint_id == state_of(review).config["configurable"]["checkpoint_id"]
    assert len(effects(review.thread_id)) == 1
    said = AuditEntry.objects.get(action="forked")
    assert said.checkpoint_after == following.checkpoint_id
    last = settle(decide(cast.tom, following, order_of(following)))
    assert last.state == "finished"
    assert len(effects(review.thread_id)) == 2


@pytest.mark.usefixtures("shaped")
def test_a_fork_before_a_question_asks_it_again(cast):
    run("questioned", "asked", {"log": []})
    capture_all()
    review = Review.objects.get()
    settle(decide(cast.rita, review, order_of(review, "yes")))
    assert state_of(review).values["answers"] == ["yes"]
    decision = settle(again(cast, review, review.checkpoint_id))
    assert decision.state == "paused", decision.error
    following = Review.objects.waiting().get()
    assert following.pause["question"] == "send?"
    settle(decide(cast.rita, following, order_of(following, "no")))
    assert state_of(review).values["answers"] == ["no"]
    assert state_of(review).values["log"] == ["draft", "ask", "out"]


def test_a_case_that_waits_leaves_the_queue_when_its_thread_is_run_again(cast):
    review = waiting("scripted")
    decision = settle(again(cast, review, checkpoint(review, "draft")))
    assert decision.state == "paused", decision.error
    review.refresh_from_db()
    assert review.status == "superseded"
    assert Review.objects.waiting().get().pk != review.pk


def test_a_thread_is_not_run_again_while_a_decision_is_under_way(as_, cast):
    review = waiting("scripted")
    decide(cast.rita, review, order_of(review))
    head = state_of(review).config
    with pytest.raises(Conflict, match="under way"):
        again(cast, review, checkpoint(review, "draft"))
    place = f"/reviews/{review.pk}/again/{review.checkpoint_id}"
    assert as_("mara").post(place, {"key": str(uuid.uuid4())}).status_code == 409
    assert state_of(review).config == head
    assert not AuditEntry.objects.filter(action="forked").exists()


@pytest.mark.parametrize("unknown", ["1f0c4a10-0000-6000-8000-000000000000", "nonsense", ""])
def test_a_checkpoint_that_is_not_there_is_refused(cast, unknown):
    review = finished(cast)
    head = state_of(review).config
    with pytest.raises(Invalid, match="no such checkpoint"):
        again(cast, review, unknown)
    assert state_of(review).config == head
    assert Decision.objects.count() == 1


def test_a_checkpoint_of_another_thread_is_refused(cast):
    review, other = finished(cast), finished(cast)
    with pytest.raises(Invalid, match="no such checkpoint"):
        again(cast, review, checkpoint(other, "deliver"))


@pytest.mark.parametrize("name", ["rita", "ada", "stan"])
def test_only_admins_run_a_thread_again(as_, cast, name):
    review = finished(cast)
    at = checkpoint(review, "deliver")
    with pytest.raises(NotAllowed):
        run_actions.run_again(actor(getattr(cast, name)), review.pk, at, uuid.uuid4())
    place = f"/reviews/{review.pk}/again/{at}"
    assert as_(name).post(place, {"key": str(uuid.uuid4())}).status_code == 404
    assert len(effects(review.thread_id)) == 1
    assert Decision.objects.count() == 1


def test_the_same_form_twice_is_one_rerun(cast):
    review, key = finished(cast), uuid.uuid4()
    at = checkpoint(review, "deliver")
    first = again(cast, review, at, key)
    assert again(cast, review, at, key) == first
    settle(first)
    assert again(cast, review, at, key) == first
    assert len(effects(review.thread_id)) == 2
    assert AuditEntry.objects.filter(action="forked").count() == 1


def test_the_same_form_sent_twice_forks_once(cast):
    review, key = finished(cast), uuid.uuid4()
    made = [again(cast, review, review.checkpoint_id, key) for _ in range(2)]
    assert made[0] == made[1]
    capture_all()
    assert Review.objects.waiting().count() == 1
    assert AuditEntry.objects.filter(action="forked").count() == 1


def test_a_fork_after_the_end_runs_nothing(cast):
    review = finished(cast)
    end = state_of(review).config["configurable"]["checkpoint_id"]
    assert again(cast, review, end).state == "finished"
    capture_all()
    assert not Review.objects.filter(status__in=["waiting", "stalled"]).exists()
    assert len(effects(review.thread_id)) == 1


def test_a_rerun_that_fails_is_a_failed_decision_that_can_be_retried(as_, cast):
    review = waiting("scripted", script={"fail": "closed"})
    failed = settle(decide(cast.rita, review, order_of(review)))
    assert failed.state == "failed"
    decision = settle(again(cast, review, checkpoint(review, "deliver")))
    assert (decision.state, decision.error_node) == ("failed", "deliver")
    open_gate(review)
    assert as_("mara").post(f"/decisions/{decision.pk}/retry").status_code == 302
    settle(decision)
    assert decision.state == "finished", decision.error
    assert len(effects(review.thread_id)) == 1


def test_what_failed_on_the_branch_that_was_left_is_not_retried(as_, cast):
    review = waiting("scripted", script={"fail": "closed"})
    failed = settle(decide(cast.rita, review, order_of(review)))
    assert again(cast, review, review.checkpoint_id).state == "paused"
    capture_all()
    open_gate(review)
    assert as_("rita").post(f"/decisions/{failed.pk}/retry").status_code == 409
    settle(failed)
    assert failed.state == "superseded"
    assert effects(review.thread_id) == []
    assert Review.objects.waiting().get().node == "human_approval"


def test_an_old_page_decides_nothing_after_a_fork(as_, cast):
    review = waiting("scripted")
    again(cast, review, review.checkpoint_id)
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review))
    assert answer.status_code == 409
    assert effects(review.thread_id) == []
