"""A thread's history as a tree, and two checkpoints compared. Every thread is LangGraph's own."""

import asyncio
import re
import uuid

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.urls import reverse
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from pytest_django.asserts import assertContains, assertNotContains

from approvals.history import MAX_TEXT, PAGE, comparison, history
from approvals.models import AuditEntry, Review
from approvals.registry import registry
from approvals.savers import joined
from graphs.registry import Graph
from tests.conftest import capture_all, form_of, pause, resume, waiting
from tests.graphs.scripted import State
from tests.queries import counted_queries, listed

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def graph(graph_id="scripted"):
    return registry().graphs[graph_id]


def config(review, checkpoint_id=""):
    here = {"thread_id": review.thread_id}
    return {"configurable": {**here, "checkpoint_id": checkpoint_id} if checkpoint_id else here}


def update(review, checkpoint_id="", as_node=None, **values) -> str:
    """`update_state`, on an old checkpoint if its id is given; returns the new checkpoint's id."""
    made = joined(graph()).aupdate_state(config(review, checkpoint_id), values or None, as_node)
    return asyncio.run(made)["configurable"]["checkpoint_id"]


def run(review, checkpoint_id="", given=None) -> None:
    asyncio.run(joined(graph()).ainvoke(given, config(review, checkpoint_id)))


def steps(review, before=""):
    return history(review, graph(), before).steps


def shape(review) -> list[tuple[int, str, str, int]]:
    return [(step.step, step.kind, step.said, step.branch) for step in steps(review)]


def at(review, step: int, branch: int = 1) -> str:
    return next(s.checkpoint_id for s in steps(review) if (s.step, s.branch) == (step, branch))


def drawn(answer) -> list[tuple[str, str]]:
    """(class, kind) of each row."""
    found = r'<li class="(\w+)( gone)?"[^>]*>\s*<svg class="lanes"'
    return re.findall(found, answer.content.decode())


def compare(client, review, a, b):
    return client.get(f"/reviews/{review.pk}/compare", {"a": a, "b": b})


# What LangGraph writes, told as what happened


def test_a_run_that_pauses_is_one_line():
    review = waiting("scripted")
    assert shape(review) == [
        (1, "loop", "draft", 1),
        (0, "loop", "__start__", 1),
        (-1, "input", "starts a run", 1),
    ]
    assert history(review, graph()).lanes == 1
    assert all(step.current for step in steps(review))


def test_an_update_of_the_newest_checkpoint_goes_on_the_line():
    review = waiting("scripted")
    update(review, amount=61)
    assert shape(review)[0] == (2, "update", "another program", 1)
    assert history(review, graph()).lanes == 1


def test_an_update_of_an_old_checkpoint_is_a_fork_and_leaves_a_branch_behind():
    review = waiting("scripted")
    old = at(review, 0)
    update(review, old, amount=61)
    assert shape(review) == [
        (1, "fork", "from step 0", 1),
        (1, "loop", "draft", 2),
        (0, "loop", "__start__", 1),
        (-1, "input", "starts a run", 1),
    ]
    fork, left, *_ = steps(review)
    assert (fork.parent_id, left.parent_id) == (old, old)
    assert (fork.current, left.current) == (True, False)
    assert (fork.place, left.place) == (
        "current line, forked from step 0",
        "abandoned branch 2",
    )


def test_what_a_fork_changed_is_told_against_its_parent_not_the_row_below():
    """Below the fork lies what `draft` wrote on the branch it leaves."""
    review = waiting("scripted")
    update(review, at(review, 0), amount=61)
    assert [(c.key, c.before, c.after) for c in steps(review)[0].changes] == [("amount", 60, 61)]


def test_an_update_without_values_of_an_old_checkpoint_is_a_fork_too():
    review = waiting("scripted")
    update(review, at(review, 0))
    assert shape(review)[0] == (1, "fork", "from step 0", 1)
    assert steps(review)[0].changes == []


def test_a_replay_hangs_on_the_checkpoint_that_it_ran_again_from(clean):
    review = waiting("scripted")
    run(review)  # through the pause, to the end
    old = at(review, 1)
    run(review, old)
    told = shape(review)
    assert told[:3] == [
        (4, "loop", "deliver", 1),
        (3, "loop", "human_approval", 1),
        (2, "replay", "from step 1", 1),
    ]
    assert [(kind, branch) for _, kind, _, branch in told[3:5]] == [("loop", 2), ("loop", 2)]
    assert steps(review)[2].parent_id == old
    assert steps(review)[2].place == "current line, replayed from step 1"


def test_a_copy_hangs_beside_what_it_copied_and_names_it():
    review = waiting("scripted")
    old, above = at(review, 1), at(review, 0)
    update(review, old, as_node="__copy__")
    copy = steps(review)[0]
    assert (copy.kind, copy.said, copy.parent_id) == ("fork", "copy of step 1", above)
    assert copy.place == "current line, copied from step 1"
    assert copy.loaded.values == steps(review)[1].loaded.values


def test_new_input_on_an_old_checkpoint_parts_from_the_line():
    review = waiting("scripted")
    run(review, at(review, 0), {"amount": 7})
    entered = next(s for s in steps(review) if s.kind == "input" and s.step == 1)
    assert entered.from_step == 0
    assert [s.branch for s in steps(review) if not s.current] == [2]


def test_an_answer_to_an_old_interrupt_parts_from_the_line_without_a_word_from_langgraph(clean):
    """`Command(resume=…)` at an old checkpoint writes source "loop" and no fork of its own."""
    review = waiting("scripted", script={"ask": "Sure?"})
    run(review)
    asked = steps(review)[0].checkpoint_id
    run(review, given=Command(resume="yes"))
    run(review, asked, Command(resume="no"))
    newest = steps(review)[:4]
    assert [(s.kind, s.branch, s.from_step) for s in newest] == [
        ("loop", 1, None),
        ("loop", 1, 1),
        ("loop", 2, None),
        ("loop", 2, None),
    ]


def test_two_forks_of_one_checkpoint_are_three_branches():
    review = waiting("scripted")
    old = at(review, 0)
    update(review, old, amount=61)
    update(review, old, amount=62)
    assert [(s.kind, s.branch) for s in steps(review)[:3]] == [
        ("fork", 1),
        ("fork", 2),
        ("loop", 3),
    ]
    assert history(review, graph()).lanes == 3


def test_going_on_with_an_abandoned_branch_makes_it_the_line():
    review = waiting("scripted")
    left = at(review, 1)
    update(review, at(review, 0), amount=61)
    update(review, left, amount=62)
    newest, fork, old, *_ = steps(review)
    assert (newest.kind, newest.parent_id, newest.from_step) == ("fork", left, 1)
    assert (newest.current, fork.current, old.current) == (True, False, True)


def test_our_own_decision_is_told_from_another_program(clean, as_):
    review = waiting("scripted")
    as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review, "Yes."))
    resume(review.decisions.get())
    assert ("update", "decision") in [(s.kind, s.said) for s in steps(review)]


def test_only_nodes_on_the_line_to_the_newest_checkpoint_count_as_visited():
    review = waiting("scripted")
    assert history(review, graph()).visited == {"__start__", "draft"}
    update(review, at(review, 0), amount=61)
    assert history(review, graph()).visited == {"__start__"}


def test_a_checkpoint_whose_parent_was_deleted_says_so_and_claims_no_changes(as_):
    review = waiting("scripted")
    gone = at(review, 0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM checkpoints WHERE checkpoint_id = %s", [gone])
    orphan = steps(review)[0]
    assert orphan.orphan
    assert orphan.changes == []
    assert not orphan.row.goes_on
    page = as_("rita").get(f"/reviews/{review.pk}/?part=history", headers=HTMX)
    assertContains(page, "The checkpoint before it was deleted")


# A subgraph's own checkpoints


def paused_in_a_subgraph() -> tuple[Review, Graph]:
    """A run that waits inside a subgraph, as a review of that subgraph's namespace."""
    inner, outer = StateGraph(State), StateGraph(State)
    inner.add_node("look", lambda state: {"log": ["look"]})
    inner.add_node("sign", lambda state: {"log": ["sign"]})
    inner.add_edge(START, "look").add_edge("look", "sign")
    outer.add_node("draft", lambda state: {"log": ["draft"]})
    outer.add_node("desk", inner.compile(interrupt_before=["sign"]))
    outer.add_edge(START, "draft").add_edge("draft", "desk")
    found = Graph("nested", outer.compile(), graph().review)
    thread_id = f"nested-{uuid.uuid4()}"
    here = {"configurable": {"thread_id": thread_id}}
    joined(found).invoke({"amount": 60, "log": []}, here)
    [task] = joined(found).get_state(here, subgraphs=True).tasks
    inside = task.state.config["configurable"]
    review = Review(thread_id=thread_id, graph="nested", checkpoint_ns=inside["checkpoint_ns"])
    return review, found


def test_a_pause_in_a_subgraph_has_the_subgraph_s_history():
    review, nested = paused_in_a_subgraph()
    assert [(s.step, s.said, s.next) for s in history(review, nested).steps] == [
        (1, "look", ["sign"]),
        (0, "__start__", ["look"]),
        (-1, "starts a run", ["__start__"]),
    ]
    outside = Review(thread_id=review.thread_id, graph="nested")
    assert history(outside, nested).steps[0].said == "draft"


def test_a_fork_in_a_subgraph_is_one_and_can_be_compared():
    review, nested = paused_in_a_subgraph()
    newest, older, _ = history(review, nested).steps
    place = {"thread_id": review.thread_id, "checkpoint_ns": review.checkpoint_ns}
    here = {"configurable": {**place, "checkpoint_id": older.checkpoint_id}}
    joined(nested).update_state(here, {"amount": 61})
    fork = history(review, nested).steps[0]
    assert (fork.kind, fork.from_step, fork.branch) == ("fork", 0, 1)
    found = comparison(review, nested, newest.checkpoint_id, fork.checkpoint_id)
    assert {c.key for c in found.changes} == {"amount", "log"}
    assert (found.base.step, found.to_older.nodes) == (0, ["look"])


def test_a_namespace_that_the_graph_does_not_know_is_read_with_the_graph_s_own_fields(as_):
    """The subgraph was renamed since, or a tool calls it."""
    review = waiting("scripted")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO checkpoints SELECT thread_id, 'desk:1', checkpoint_id, NULL, type, "
            "checkpoint, metadata FROM checkpoints WHERE thread_id = %s",
            [review.thread_id],
        )
    Review.objects.filter(pk=review.pk).update(checkpoint_ns="desk:1")
    page = as_("rita").get(f"/reviews/{review.pk}/?part=history", headers=HTMX)
    assert len(drawn(page)) == 3


# Pages


def long_thread(updates: int) -> Review:
    thread_id = pause("scripted")
    review = Review(thread_id=thread_id, graph="scripted")
    for number in range(updates):
        update(review, amount=number)
    capture_all()
    return Review.objects.waiting().get(thread_id=thread_id)


def test_a_fork_is_drawn_through_every_page_between_it_and_what_it_left():
    review = long_thread(PAGE + 6)
    first = steps(review)[-1]
    deep = steps(review, first.checkpoint_id)[-1].checkpoint_id
    update(review, deep, amount=999)
    newest = history(review, graph())
    older = history(review, graph(), newest.older)
    fork = newest.steps[0]
    assert (fork.kind, fork.from_step, fork.branch) == ("fork", -1, 1)
    assert {step.branch for step in newest.steps[1:]} == {2}
    assert all(0 in {line.lane for line in s.row.passes} for s in newest.steps[1:])
    assert {step.branch for step in older.steps[:-1]} == {2}
    assert (older.steps[-1].branch, len(older.steps[-1].row.joins)) == (1, 2)
    # Its parent lies on the other page, and still is what it is compared with.
    assert "amount" in {change.key for change in fork.changes}
    assert "agent_response" not in {change.key for change in fork.changes}


def test_pages_neither_repeat_nor_lose_a_checkpoint():
    review = long_thread(2 * PAGE)
    update(review, at(review, 30), amount=999)
    seen, before = [], ""
    while True:
        page = history(review, graph(), before)
        seen += [step.checkpoint_id for step in page.steps]
        before = page.older
        if not before:
            break
    assert len(seen) == len(set(seen)) == 2 * PAGE + 4
    assert seen == sorted(seen, reverse=True)


def test_a_thread_longer_than_its_drawn_tree_is_paged_to_its_end_and_compared(monkeypatch):
    monkeypatch.setattr("approvals.history.OUTLINE", PAGE + 10)
    review = long_thread(60)
    seen, before = [], ""
    while True:
        page = history(review, graph(), before)
        seen += page.steps
        before = page.older
        if not before:
            break
    assert [step.step for step in seen] == list(range(61, -2, -1))
    ends = seen[-1].checkpoint_id, seen[-PAGE].checkpoint_id
    assert comparison(review, graph(), *ends).descends


def test_a_page_costs_the_same_queries_for_five_steps_and_for_sixty_with_forks(as_):
    few, many = long_thread(2), long_thread(57)
    assert len(steps(few)) == 5
    for step in steps(many)[1:12]:
        update(many, step.parent_id, amount=1_000 + step.step)
    deep = steps(many, history(many, graph()).older)
    for step in deep[:6]:
        update(many, step.checkpoint_id, amount=2_000)
    counts = []
    for review in (few, many):
        with counted_queries() as seen:
            found = history(review, graph())
            assert [d.key for step in found.steps for d in step.differences]
        counts.append(seen)
    assert len(found.steps) == PAGE
    assert len(counts[0]) == len(counts[1]) == 2, listed(counts[1])


# What the page shows


def test_the_page_draws_the_tree_and_says_in_words_what_it_draws(as_):
    review = waiting("scripted")
    update(review, at(review, 0), amount=61)
    page = as_("rita").get(f"/reviews/{review.pk}/?part=history", headers=HTMX)
    assert drawn(page) == [("fork", ""), ("loop", " gone"), ("loop", ""), ("input", "")]
    assertContains(page, 'class="log wide-2"')
    assertContains(page, '<span class="sr">current line, forked from step 0</span>')
    assertContains(page, '<span class="sr">abandoned branch 2</span>')
    assertContains(page, "Current line, forked from step 0; another program.")
    assertContains(page, '<circle class="halo"', count=1)


def test_only_whoever_may_is_offered_to_run_again_from_a_step(as_):
    review = waiting("scripted")
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertNotContains(page, "Run again from here")


def test_every_step_is_where_an_admin_may_run_again_from():
    review = waiting("scripted")
    found = history(review, graph())
    context = {"review": review, "history": found, "may_run_again": True}
    text = render_to_string("_history.html", context)
    links = [reverse("run_again", args=[review.pk, s.checkpoint_id]) for s in found.steps]
    assert re.findall(r'href="([^"]+)">Run again from here', text) == links


def test_the_form_compares_the_two_newest_until_somebody_chooses(as_):
    review = waiting("scripted")
    text = as_("rita").get(f"/reviews/{review.pk}/").content.decode()
    chosen = dict(re.findall(r'type="radio" name="(\w)"[^>]* value="([^"]+)" checked', text))
    assert chosen == {"a": at(review, 0), "b": at(review, 1)}
    assert text.count('id="compare"') == 1
    assert f'action="{reverse("compare", args=[review.pk])}"' in text


def test_an_older_page_that_is_added_below_shares_the_form_of_the_first(as_):
    review = long_thread(PAGE + 2)
    older = history(review, graph()).older
    rita = as_("rita")
    part = rita.get(f"/reviews/{review.pk}/?part=history&before={older}", headers=HTMX)
    whole = rita.get(f"/reviews/{review.pk}/?before={older}")
    assertNotContains(part, 'id="compare"')
    assertContains(part, 'form="compare"')
    assertContains(whole, 'id="compare"', count=1)


# Two checkpoints compared


def test_two_checkpoints_of_one_line_are_compared_field_by_field(as_):
    review = waiting("scripted")
    update(review, agent_response="Dear Maeve,\n\nWe have cancelled your plan.\n\nCustomer Care")
    page = compare(as_("rita"), review, at(review, 0), at(review, 2))
    assert page.status_code == 200
    assertContains(page, "Step 2 descends from step 0.")
    assertContains(page, "draft → update (another program)")
    assertContains(page, "<del>noted</del><ins>cancelled</ins>")
    text = page.content.decode()
    fields = re.findall(r'<b class="mono">(\w+)</b><span>(\w+)</span>', text)
    assert dict(fields) == {
        "agent_response": "changed",
        "is_compliant": "added",
        "log": "appended",
    }
    assert re.search(r"The same in both: .*\bamount\b", text)


def test_the_older_one_comes_first_whichever_was_chosen_first(as_):
    review, rita = waiting("scripted"), as_("rita")
    one, other = at(review, 0), at(review, 1)
    texts = [
        page.content.decode().split("<main")[1]
        for page in (compare(rita, review, one, other), compare(rita, review, other, one))
    ]
    assert texts[0] == texts[1]
    assert "Older: step 0" in texts[0]
    assert "Newer: step 1" in texts[0]


def test_two_branches_are_compared_with_what_ran_on_each(as_):
    review = waiting("scripted")
    left = at(review, 1)
    fork = update(review, at(review, 0), amount=61)
    page = compare(as_("rita"), review, left, fork)
    assertContains(page, "They lie on two branches, which part at step 0.")
    assertContains(page, '<span class="mono">draft</span>')
    assertContains(page, "fork (from step 0)")
    found = comparison(review, graph(), left, fork)
    assert {c.key: c.kind for c in found.changes} == {
        "amount": "changed",
        "log": "changed",
        "is_compliant": "removed",
    }


def test_a_long_way_is_told_in_part():
    review = long_thread(2 * PAGE)
    found = comparison(review, graph(), at(review, 41), start := _oldest(review))
    assert found.older.checkpoint_id == start
    assert (len(found.to_newer.steps), found.to_newer.left_out) == (PAGE, PAGE + 2)


def _oldest(review) -> str:
    page = history(review, graph())
    while page.older:
        page = history(review, graph(), page.older)
    return page.steps[-1].checkpoint_id


def test_what_is_too_long_is_cut_around_the_first_change_and_what_is_too_much_is_named(as_):
    review = waiting("scripted")
    long = "word " * 4_000
    before = update(review, agent_response=long + "old end", script={})
    after = update(review, agent_response=long + "new end")
    [one] = comparison(review, graph(), before, after).differences
    assert one.cut
    assert sum(len(piece.text) for piece in one.diff) <= 2 * MAX_TEXT
    assert [p.text for p in one.diff if p.kind != "same"] == ["old", "new"]
    page = compare(as_("rita"), review, before, after)
    assertContains(page, "too long to show whole")
    assert len(page.content) < 20_000


def test_a_state_of_many_fields_shows_some_and_names_the_rest(as_, monkeypatch):
    monkeypatch.setattr("approvals.history.MAX_FIELDS", 2)
    review = waiting("scripted")
    ends = at(review, -1), at(review, 1)
    found = comparison(review, graph(), *ends)
    assert len(found.changes) > 3
    assert [d.key for d in found.differences] == [c.key for c in found.changes[:2]]
    assert found.more == [c.key for c in found.changes[2:]]
    assertContains(
        compare(as_("rita"), review, *ends), f'Also changed: <span class="mono">{found.more[0]}'
    )
    entered = steps(review)[-2]
    assert (len(entered.differences), entered.more) == (2, len(entered.changes) - 2)


def test_a_number_that_became_its_own_text_is_shown_as_changed():
    review = waiting("scripted")
    before = update(review, amount=5)
    after = update(review, amount="5")
    [one] = comparison(review, graph(), before, after).differences
    assert [(piece.kind, piece.text) for piece in one.diff] == [("del", "5"), ("ins", '"5"')]


def test_what_agents_write_is_escaped_on_both_pages(as_):
    review, rita = waiting("scripted"), as_("rita")
    before = at(review, 1)
    after = update(review, agent_response="<script>alert(1)</script>")
    for page in (
        compare(rita, review, before, after),
        rita.get(f"/reviews/{review.pk}/?part=history", headers=HTMX),
    ):
        assertNotContains(page, "<script>alert")
        assertContains(page, "&lt;script&gt;")


# Bad choices and other people's threads


def test_one_checkpoint_twice_and_none_chosen_say_what_to_do(as_):
    review, rita = waiting("scripted"), as_("rita")
    one = at(review, 1)
    assertContains(compare(rita, review, one, one), "That is one checkpoint twice.")
    assertContains(rita.get(f"/reviews/{review.pk}/compare"), "Choose two checkpoints")
    assertContains(compare(rita, review, one, ""), "Choose two checkpoints")


@pytest.mark.parametrize("other", ["unknown", "\x00", "x" * 5_000, "' OR 1=1 --"])
def test_an_unknown_checkpoint_is_not_found(as_, other):
    review, rita = waiting("scripted"), as_("rita")
    expected = 200 if other == "\x00" else 404  # nothing is left of a NUL: nothing was chosen
    assert compare(rita, review, at(review, 1), other).status_code == expected


def test_a_checkpoint_of_another_thread_is_not_found(as_):
    review, another = waiting("scripted"), waiting("scripted")
    answer = compare(as_("rita"), review, at(review, 1), at(another, 1))
    assert answer.status_code == 404


def test_a_deleted_thread_says_so(as_):
    review = waiting("scripted")
    one, other = at(review, 0), at(review, 1)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM checkpoints WHERE thread_id = %s", [review.thread_id])
    assertContains(compare(as_("rita"), review, one, other), "it was deleted")
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assertContains(page, "The thread has no checkpoints any more.")


def test_a_graph_that_nobody_registered_says_so(as_):
    review = waiting("scripted")
    one, other = at(review, 0), at(review, 1)
    Review.objects.filter(pk=review.pk).update(graph="")
    assertContains(compare(as_("ada"), review, one, other), "needs the graph")


@pytest.mark.parametrize(
    ("name", "status"), [("rita", 200), ("ada", 200), ("mara", 200), ("stan", 404)]
)
def test_whoever_sees_the_review_may_compare_and_nobody_else(as_, name, status):
    review = waiting("scripted")
    assert compare(as_(name), review, at(review, 0), at(review, 1)).status_code == status


def test_comparing_is_looking_and_is_audited_as_that(as_, cast):
    review = waiting("scripted")
    compare(as_("rita"), review, at(review, 0), at(review, 1))
    entry = AuditEntry.objects.get(review=review, action=AuditEntry.Action.OPENED)
    assert entry.actor == cast.rita


def test_nothing_is_compared_by_post(as_):
    review = waiting("scripted")
    assert as_("rita").post(f"/reviews/{review.pk}/compare").status_code == 405


def test_a_comparison_costs_the_same_queries_however_far_apart_the_two_are():
    near, far = long_thread(2), long_thread(57)
    counts = []
    for review in (near, far):
        ends = _oldest(review), steps(review)[0].checkpoint_id
        with counted_queries() as seen:
            assert comparison(review, graph(), *ends).differences
        counts.append(len(seen))
    assert counts == [2, 2]
