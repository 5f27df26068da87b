"""A state of many megabytes: shown in part, opened on demand, in bounded memory, and its evidence
stands for all of it."""

import asyncio
import hashlib
import json
import re
import tracemalloc
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from approvals.plain import canonical, digest, jsonable, measured
from approvals.registry import registry
from approvals.savers import joined
from approvals.snapshots import LIMIT, at, bounded, cut, fair, is_cut, items_of, pointer, snapshot
from approvals.state_tree import MAX_LINES, entries, tree
from tests.conftest import waiting

MEGABYTE = 1_000_000
PAGE = 1_500_000  # bytes that a page may have at most
WORD = "eleven bytes "
LONG = WORD * (5 * MEGABYTE // len(WORD))
SMALL = 6_000  # a limit that generated states can pass

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
leaves |= st.binary(max_size=200) | st.text().map(lambda text: text * 300)
states = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=60) | st.dictionaries(st.text(), inner, max_size=60),
    max_leaves=200,
)


def state_of(values: object, **more: object) -> StateSnapshot:
    config = {"configurable": {"thread_id": "t", "checkpoint_id": "c"}}
    return StateSnapshot(
        values, (), config, {}, "2026-11-19T10:42:00+00:00", None, (), ()
    )._replace(**more)


def full_of(value: object) -> dict:
    return {"values": {"it": jsonable(value)}, "next": [], "tasks": [], "metadata": {}}


# The snapshot


@given(states)
@settings(max_examples=80)
def test_a_snapshot_is_never_longer_than_its_limit(value):
    full = full_of(value)
    shown = bounded(full, limit=SMALL)
    assert measured(shown)[0] <= SMALL
    assert ("cut" in shown) == (measured(full)[0] > SMALL)
    if "cut" not in shown:
        assert shown == full
    assert json.loads(json.dumps(shown)) == shown


@given(states, states)
@settings(max_examples=80)
def test_two_states_never_have_one_digest(one, two):
    first, second = full_of(one), full_of(two)
    same = digest(first) == digest(second)
    assert (digest(bounded(first, limit=SMALL)) == digest(bounded(second, limit=SMALL))) == same


def test_the_digest_of_a_cut_state_tells_every_change_in_it():
    value = {"text": LONG, "items": [{"n": n} for n in range(20_000)]}
    before = digest(snapshot(state_of(value)))
    assert before == digest(snapshot(state_of(json.loads(json.dumps(value)))))
    value["text"] = LONG[: len(LONG) // 2] + "!" + LONG[len(LONG) // 2 + 1 :]
    changed = digest(snapshot(state_of(value)))
    value["items"][10_000]["n"] = -1
    assert len({before, changed, digest(snapshot(state_of(value)))}) == 3


def test_a_state_that_spells_out_the_mark_of_another_has_another_digest():
    real = snapshot(state_of({"text": LONG}))
    forged = snapshot(state_of(real["values"]))
    assert is_cut(real["values"]["text"])
    assert not is_cut(forged["values"]["text"])
    assert digest(forged) != digest(real)


@pytest.mark.parametrize(
    "values",
    [
        {"text": LONG},
        {f"field {n}": LONG[:300_000] for n in range(40)},
        {"k" * 3_000_000: 1, "l": "m" * 2_000_000},
        {"items": list(range(400_000))},
        {str(n): n for n in range(100_000)},
        {"a": {"b": {"c": [{"d": ["x" * 1000] * 3000}] * 3}}},
        {"umlauts": "ü€😀" * 300_000},
        {"controls": "\x01\n" * 300_000},
        ["x" * 5000] * 1000,
        LONG,
    ],
    ids=lambda values: type(values).__name__,
)
def test_whatever_is_long_is_cut_to_about_a_megabyte(values):
    shown = snapshot(state_of(values))
    assert measured(shown)[0] <= LIMIT
    assert shown["cut"]["bytes"] > LIMIT


def test_questions_metadata_and_what_is_added_are_cut_as_well():
    ask = Interrupt({"question": WORD * 8_000}, id="i1", response_schema={"type": "string"})
    tasks = tuple(
        PregelTask(f"t{n}", "ask", ("__pregel_push", n), None, (ask,)) for n in range(300)
    )
    state = state_of({"a": 1}, tasks=tasks, metadata={"note": LONG}, next=("ask",) * 300)
    shown = snapshot(state, pause={"value": LONG})
    assert measured(shown)[0] <= LIMIT
    assert shown["values"] == {"a": 1}
    first = shown["tasks"][0]
    assert (first["id"], first["name"], first["kind"]) == ("t0", "ask", "send")
    assert first["interrupts"][0]["schema"] == {"type": "string"}
    assert is_cut(shown["metadata"]["note"])
    assert is_cut(shown["pause"]["value"])


def test_what_a_reviewer_may_edit_is_kept_whole():
    reply = "Dear Maeve, " * 60_000
    shown = snapshot(state_of({"reply": reply, "text": LONG}), whole=["reply", "absent"])
    assert shown["values"]["reply"] == reply
    assert is_cut(shown["values"]["text"])
    assert is_cut(snapshot(state_of({"reply": LONG}), whole=["reply"])["values"]["reply"])


def test_a_state_of_ordinary_length_is_as_it_always_was():
    values = {"text": "x" * 900_000, "list": list(range(10_000))}
    assert snapshot(state_of(values)) == {
        "values": values,
        "next": [],
        "tasks": [],
        "metadata": {},
        "created_at": "2026-11-19T10:42:00+00:00",
        "checkpoint_id": "c",
    }


def test_a_long_list_keeps_both_its_ends():
    mark = cut(["x" * 1000] * 500 + ["last"], 100_000)
    assert (mark["length"], len(mark["shown"]), len(mark["last"])) == (501, 20, 20)
    assert items_of(mark)[-1] == "last"
    assert items_of(["a"]) == ["a"]
    assert items_of("a") == []


@given(st.lists(st.integers(0, 50)), st.integers(0, 500))
def test_a_fair_limit_fills_the_room_and_never_more(wanted, room):
    limit = fair(wanted, room)
    assert sum(min(size, limit) for size in wanted) <= room
    if wanted and sum(wanted) > room:
        assert sum(min(size, limit + 1) for size in wanted) > room


@given(states)
@settings(max_examples=60)
def test_the_digest_in_pieces_is_that_of_the_whole(value):
    for plain in (jsonable(value), [jsonable(value)] * 3, {"a": jsonable(value)}):
        text = canonical(plain).encode()
        assert measured(plain) == (len(text), hashlib.sha256(text).hexdigest())


@given(st.lists(st.text(), max_size=4))
def test_a_pointer_finds_what_it_was_made_for(parts):
    value = {"it": "found"}
    for part in reversed(parts):
        value = {part: value, "other": 1}
    assert at(value, pointer(*parts, "it")) == "found"


@pytest.mark.parametrize("path", ["a", "/b", "/a/-1", "/a/9", "/a/x", "/a/0/0", "/a/²", "//"])
def test_a_pointer_to_nothing_says_so(path):
    with pytest.raises(LookupError):
        at({"a": [1]}, path)


STATES = {
    "a text": lambda: {"text": WORD * 800_000},
    "messages": lambda: {"messages": [HumanMessage(f"{n} " + "x" * 10_000) for n in range(1_000)]},
    "numbers": lambda: {"numbers": [n + 0.5 for n in range(60_000)]},
}


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
def test_memory_stays_within_a_small_multiple_of_the_state(make):
    tracemalloc.start()
    try:
        values = make()
        state = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        snapshot(state_of(values))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{(peak - state) / state:.2f} times the state, beside it")
    assert peak - state < state


# The tree


def lines(nodes) -> int:
    return sum(1 + lines(node.children) for node in nodes)


@pytest.mark.parametrize(
    "value",
    [
        [[list(range(50)) for _ in range(50)] for _ in range(50)],
        {f"f{n}": {str(k): [k] * 9 for k in range(100)} for n in range(150)},
        [0] * 100_000,
    ],
)
def test_a_tree_has_only_so_many_lines(value):
    drawn = tree(jsonable(value))
    assert lines(drawn) <= 2 * MAX_LINES
    assert lines(drawn) > 100


def test_one_long_field_leaves_the_others_their_lines():
    drawn = {node.key: node for node in tree({"long": [[1] * 99] * 99, "short": {"a": [1, 2]}})}
    assert [child.key for child in drawn["short"].children] == ["a"]
    assert len(drawn["short"].children[0].children) == 2


def test_a_cut_list_says_how_much_is_shown_and_where_the_rest_is():
    (node,) = tree({"messages": cut(["x" * 1000] * 1000, 100_000)})
    assert node.summary == "1,000 items, 40 shown"
    keys = [child.key for child in node.children]
    assert keys[:20] == [str(n) for n in range(20)]
    assert keys[21:] == [str(n) for n in range(980, 1000)]
    more = node.children[20]
    assert (more.summary, more.path, more.start, more.end) == (
        *("960 more", "/values/messages"),
        *(20, 980),
    )


def test_what_a_line_leaves_out_is_found_at_its_path():
    value = {"a/b": {"~": [{"": "x" * 5000}]}}
    node = tree(value)[0].children[0].children[0].children[0]
    assert (node.truncated, node.start) == (True, 2000)
    assert at({"values": value}, node.path) == "x" * 5000
    assert [one.key for one in entries(list(range(500)), "/values", 200, 202)] == ["200", "201"]


# The pages

pages = pytest.mark.django_db


def words(answer) -> str:
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", answer.content.decode(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def links(answer) -> list[dict]:
    """The queries of the links that open more of a value."""
    found = re.findall(r'href="([^"]*/value\?[^"]*)"', answer.content.decode())
    return [
        {k: v[0] for k, v in parse_qs(urlsplit(unescape(a)).query, True).items()} for a in found
    ]


LARGE = {
    "text": {"text": LONG},
    "messages": {
        "messages": [{"role": "user", "content": f"{n}! " + "x" * 5_000} for n in range(1000)]
    },
    "deep": {"deep": json.loads("[" * 50 + '"' + "x" * 3000 + '"' + "]" * 50), "text": LONG},
    "wide": {str(n): {"n": n, "text": WORD * 20} for n in range(8_000)},
}


@pages
@pytest.mark.parametrize("script", LARGE.values(), ids=LARGE)
def test_a_large_state_opens_on_a_page_of_bounded_length(as_, script):
    review = waiting("scripted", script=script)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT octet_length(snapshot::text) FROM approvals_review WHERE id = %s", [review.pk]
        )
        assert cursor.fetchone()[0] < 1.2 * LIMIT
    page = as_("rita").get(f"/reviews/{review.pk}/")
    assert page.status_code == 200
    assert len(page.content) < PAGE
    assert links(page)
    for query in links(page)[:3]:
        opened = as_("rita").get(f"/reviews/{review.pk}/value", query)
        assert opened.status_code == 200
        assert len(opened.content) < PAGE
    assert review.values["agent_response"].startswith("Dear Maeve")


@pages
def test_every_item_of_a_long_list_can_be_opened(as_):
    review = waiting("scripted", script=LARGE["messages"])
    seen, at_item = "", 0
    while True:
        page = as_("rita").get(
            f"/reviews/{review.pk}/value", {"path": "/values/script/messages", "from": at_item}
        )
        seen += words(page)
        later = [int(q["from"]) for q in links(page) if int(q.get("from", 0)) == at_item + 200]
        if not later:
            break
        at_item = later[0]
    assert at_item == 800
    assert all(f" {n}! xx" in seen for n in range(1000))
    assert "entries 801 to 1,000 of 1,000" in seen


@pages
def test_a_long_text_is_read_to_its_end(as_):
    review = waiting("scripted", script={"text": LONG[:-4] + "end."})
    where = {"path": "/values/script/text", "from": len(LONG) - 10_000}
    page = as_("rita").get(f"/reviews/{review.pk}/value", where)
    assert "end." in words(page)
    assert f"of {len(LONG):,}" in words(page)
    beyond = as_("rita").get(f"/reviews/{review.pk}/value", {**where, "from": "9" * 17})
    assert beyond.status_code == 200


@pages
def test_a_part_for_htmx_is_no_whole_page(as_):
    review = waiting("scripted", script=LARGE["text"])
    part = as_("rita").get(
        f"/reviews/{review.pk}/value",
        {"path": "/values/script/text", "from": "2000"},
        headers={"HX-Request": "true"},
    )
    assert part.status_code == 200
    assert part.content.decode().lstrip().startswith("<section")
    assert "characters 2,001 to 22,000" in words(part)


@pages
@pytest.mark.parametrize("key", ["a.b", "a/b", "~", "~1", "", "é 😀", "%2F", "<b>", "0"])
def test_a_key_of_any_spelling_can_be_opened(as_, key):
    review = waiting("scripted", script={"by key": {key: "x" * 3_000 + "end."}})
    (query,) = [
        q for q in links(as_("rita").get(f"/reviews/{review.pk}/")) if "by key" in q["path"]
    ]
    page = as_("rita").get(f"/reviews/{review.pk}/value", query)
    assert page.status_code == 200
    assert "end." in words(page)


@pages
@pytest.mark.parametrize(
    "path", ["", "values", "/nothing", "/values/log/9", "/values/\x00", "/" * 999]
)
@pytest.mark.parametrize("start", ["", "-1", "x", "99"])
def test_a_path_to_nothing_is_told_so(as_, path, start):
    review = waiting("scripted")
    page = as_("rita").get(f"/reviews/{review.pk}/value", {"path": path, "from": start})
    assert page.status_code == (200 if path == "" else 404)
    if path:
        assert "There is no such value in this state" in words(page)


@pages
def test_who_may_not_see_the_review_opens_nothing_of_it(as_):
    review = waiting("scripted", script={"text": "x" * 3_000})
    address = f"/reviews/{review.pk}/value?path=/values/script/text"
    assert as_("stan").get(address).status_code == 404
    assert as_("ada").get(address).status_code == 200
    assert as_("rita").post(address).status_code == 405
    assert as_("rita").get("/reviews/999999/value?path=/values").status_code == 404


@pages
def test_a_checkpoint_that_is_gone_is_told_so(as_):
    review = waiting("scripted", script=LARGE["text"])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM checkpoints WHERE thread_id = %s", [review.thread_id])
    ask = as_("rita").get
    gone = ask(f"/reviews/{review.pk}/value", {"path": "/values/script/text"})
    assert gone.status_code == 404
    assert "no longer in the database" in words(gone)
    kept = ask(f"/reviews/{review.pk}/value", {"path": "/values/agent_response"})
    assert "Dear Maeve" in words(kept)


@pages
def test_what_is_opened_is_of_the_checkpoint_that_was_shown(as_):
    review = waiting("scripted", script={"text": "x" * 3_000 + "then"})
    place = {"configurable": {"thread_id": review.thread_id}}
    graph = joined(registry().graphs["scripted"])
    asyncio.run(graph.aupdate_state(place, {"script": {"text": "x" * 3_000 + "now"}}))
    page = as_("rita").get(f"/reviews/{review.pk}/value", {"path": "/values/script/text"})
    assert "then" in words(page)
