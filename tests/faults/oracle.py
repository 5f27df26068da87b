"""What must be true when all is quiet again, asked of Postgres and of LangGraph itself.

Nothing of the product is imported here: not its models, not its savers, not its idea of waiting.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver

from tests.faults.catalogue import Result
from tests.faults.house import House
from tests.graphs.scripted import builder

DELIVER = {"approve", "edit", "respond"}
BY_ADMINS = {"continue", "rerun"}
OUTCOMES = {
    "finished": "finished",
    "paused": "paused_again",
    "failed": "failed",
    "superseded": "superseded",
}


@dataclass
class Found:
    """All that the house holds, read once."""

    decisions: list[dict[str, Any]]
    reviews: list[dict[str, Any]]
    audit: dict[str, Counter[str]]
    checkpoints: dict[str, list[dict[str, Any]]]
    effects: dict[str, list[dict[str, Any]]]
    received: dict[str, dict[str, Any]]
    states: dict[str, Any] = field(default_factory=dict)


def judge(
    house: House,
    rounds: int,
    *,
    keys: Collection[str] = (),
    may_repeat: bool = False,
    foreign: Collection[str] = (),
    failed: Collection[str] = (),
    superseded: Collection[str] = (),
    unread: Collection[str] = (),
    seconds: float = 90,
) -> Result:
    """The verdict on a case, after its faults have ended and some worker lives.

    `keys` are the idempotency keys that were answered 302. `foreign`, `failed`, `superseded` and
    `unread` name threads: where another program wrote too, where a run may end as failed or as
    superseded, and which LangGraph itself cannot read. `may_repeat`: whether an effect may have
    been tried again. Waits up to `seconds` for all to end.
    """
    result = Result(rounds)
    settled = house.settle(seconds)
    jobs = _left_jobs(house, seconds=20)
    found = read(house, unread)
    _ends(result, found, set(failed), set(superseded))
    if not settled and not result.stuck:
        _count(result, "stuck", "the capture's notes are not taken")
    for job in jobs:
        _count(result, "stuck", f"job {job} of a decision that has ended")
    for decision in found.decisions:
        _applied_once(result, found, decision, decision["thread_id"] in foreign)
        _delivered(result, found, decision)
    unfinished = {one["thread_id"] for one in found.decisions if one["ended_at"] is None}
    for thread in found.checkpoints.keys() - set(foreign):
        _no_forks(result, found, thread)
        if thread in found.states and thread not in {*failed, *unfinished}:
            _as_the_thread_says(result, found, thread)
    _no_strange_effects(result, found, set(foreign))
    _keys(result, found, keys)
    _waiting(result, found)
    result.repeats = sum(one["attempts"] - 1 for one in found.received.values())
    if result.repeats and not may_repeat:
        _count(result, "doubled", f"{result.repeats} effects were tried again", result.repeats)
    return result


def _count(result: Result, what: str, words: str, by: int = 1) -> None:
    setattr(result, what, getattr(result, what) + by)
    result.details.append(f"{what}: {words}")


# Reading


def read(house: House, unread: Collection[str] = ()) -> Found:
    audit: dict[str, Counter[str]] = defaultdict(Counter)
    for decision, action in house.sql(
        "SELECT decision_id::text, action FROM approvals_auditentry WHERE decision_id IS NOT NULL"
    ):
        audit[decision][action] += 1
    found = Found(
        _rows(
            house,
            "SELECT d.id::text, d.state, d.action, d.edits, d.values, d.ended_at, d.error, "
            "d.checkpoint_applied, d.idempotency_key::text AS key, r.id AS review, r.thread_id, "
            "r.checkpoint_id, r.checkpoint_ns, r.kind, "
            "r.snapshot->'values'->'agent_response' AS draft "
            "FROM approvals_decision d JOIN approvals_review r ON r.id = d.review_id",
        ),
        _rows(
            house,
            "SELECT id, thread_id, checkpoint_id, checkpoint_ns, kind, status "
            "FROM approvals_review",
        ),
        audit,
        _grouped(
            "thread_id",
            _rows(
                house,
                "SELECT thread_id, checkpoint_ns AS ns, checkpoint_id AS id, "
                "parent_checkpoint_id AS parent, metadata->>'source' AS source, "
                "metadata->>'decision_id' AS decision FROM checkpoints",
            ),
        ),
        _grouped("conversation_id", _rows(house, "SELECT * FROM effects ORDER BY id")),
        {row["key"]: row for row in _rows(house, "SELECT * FROM received")},
    )
    with PostgresSaver.from_conn_string(house.url) as saver:
        graph = builder.compile(saver, interrupt_before=["human_approval"])
        for thread in found.checkpoints.keys() - set(unread):
            found.states[thread] = graph.get_state({"configurable": {"thread_id": thread}})
    return found


def _rows(house: House, query: str) -> list[dict[str, Any]]:
    return [row[0] for row in house.sql(f"SELECT to_jsonb(t) FROM ({query}) t")]


def _grouped(by: str, rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[by]].append(row)
    return found


def _left_jobs(house: House, seconds: float) -> list[int]:
    """Jobs that are open though their decision has ended: a worker may be about to say so."""
    asked = (
        "SELECT j.id FROM procrastinate_jobs j JOIN approvals_decision d "
        "ON d.id::text = j.args->>'decision_id' "
        "WHERE j.status IN ('todo', 'doing') AND d.ended_at IS NOT NULL"
    )
    deadline = time.monotonic() + seconds
    while (left := house.sql(asked)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [row[0] for row in left]


# Judging


def _ends(result: Result, found: Found, failed: set[str], superseded: set[str]) -> None:
    for one in found.decisions:
        where = f"{one['state']} {one['id']} of {one['thread_id']}"
        if one["ended_at"] is None:
            _count(result, "stuck", where)
            continue
        if one["state"] == "failed" and one["thread_id"] not in failed:
            result.other.append(f"{where}: {one['error'][:300]}")
        if one["state"] == "superseded" and one["thread_id"] not in superseded:
            result.other.append(f"{where}: {one['error'][:300]}")
        outcome, told = OUTCOMES.get(one["state"]), found.audit[one["id"]]
        if told["decided"] != 1 and one["action"] not in BY_ADMINS:
            result.other.append(f"{where}: {told['decided']} audit entries 'decided'")
        # A run that is retried may have failed before.
        most = 1 + told["retried"] if outcome == "failed" else 1
        if outcome and not 1 <= told[outcome] <= most:
            result.other.append(f"{where}: {told[outcome]} audit entries '{outcome}'")


def _applied_once(result: Result, found: Found, one: dict[str, Any], foreign: bool) -> None:
    where = f"decision {one['id']} of {one['thread_id']}"
    told = found.audit[one["id"]]["applied"]
    updates = [
        c
        for c in found.checkpoints[one["thread_id"]]
        if c["decision"] == one["id"] and c["source"] == "update"
    ]
    own = {c["id"] for c in updates}  # a rejection writes two, one after the other
    updates = [c for c in updates if c["parent"] not in own]
    writes_checkpoint = one["kind"] != "question" and one["action"] not in BY_ADMINS
    expected = 1 if one["checkpoint_applied"] else 0
    if told > 1:
        _count(result, "doubled", f"{where}: {told} audit entries 'applied'", told - 1)
    if told < expected:
        _count(result, "lost", f"{where}: applied without its audit entry")
    if told > expected == 0:
        result.other.append(f"{where}: audited as applied, and is not")
    if one["state"] in {"finished", "paused"} and not expected:
        _count(result, "lost", f"{where}: ended {one['state']} and was never applied")
    if not writes_checkpoint:
        return
    if len(updates) > expected:
        _count(result, "doubled", f"{where}: {len(updates)} update checkpoints")
    # Another program may have deleted the thread since, and begun it anew.
    kept = {c["id"] for c in found.checkpoints[one["thread_id"]]}
    begun_anew = foreign and one["checkpoint_id"] not in kept
    if len(updates) < expected and kept and not begun_anew:
        _count(result, "lost", f"{where}: its update checkpoint is not there")
    for update in updates:
        if update["parent"] != one["checkpoint_id"]:
            result.other.append(f"{where}: applied to a state that was not shown")
    children = [
        c for c in found.checkpoints[one["thread_id"]] if c["parent"] == one["checkpoint_id"]
    ]
    others = [c["id"] for c in children if c["decision"] != one["id"]]
    if expected and others and not foreign:
        result.other.append(f"{where}: beside it {others} follow what was decided")


def _text(one: dict[str, Any]) -> Any:
    """What the person let go out."""
    for source in (one["edits"], one["values"]):
        if "agent_response" in source:
            return source["agent_response"]
    return one["draft"]


def _delivered(result: Result, found: Found, one: dict[str, Any]) -> None:
    where = f"decision {one['id']} of {one['thread_id']}"
    got = found.received.get(one["id"])
    if one["state"] == "finished" and one["action"] in DELIVER and got is None:
        _count(result, "lost", f"{where}: finished, and nothing was delivered")
    if got is None:
        return
    if one["state"] == "undone" or (one["state"] == "superseded" and not one["checkpoint_applied"]):
        _count(result, "doubled", f"{where}: delivered though it is {one['state']}")
    bodies = {e["body"] for e in found.effects[one["thread_id"]] if e["decision_id"] == one["id"]}
    if bodies != {_text(one)} and one["kind"] != "question":
        result.other.append(f"{where}: delivered {bodies}, decided {_text(one)!r}")


def _no_forks(result: Result, found: Found, thread: str) -> None:
    """One way through each thread: a second child of a checkpoint is a second run."""
    parents = Counter((c["ns"], c["parent"]) for c in found.checkpoints[thread] if c["parent"])
    for (_, parent), children in parents.items():
        if children > 1:
            _count(result, "doubled", f"{thread}: {children} checkpoints follow {parent}")


def _as_the_thread_says(result: Result, found: Found, thread: str) -> None:
    """The deliveries that the thread itself tells of are those that went out."""
    told = (found.states[thread].values.get("log") or []).count("deliver")
    sent = sum(one["conversation_id"] == thread for one in found.received.values())
    if sent < told:
        _count(result, "lost", f"{thread}: tells of {told} deliveries, {sent} went out")
    if sent > told:
        _count(result, "doubled", f"{thread}: tells of {told} deliveries, {sent} went out")


def _no_strange_effects(result: Result, found: Found, foreign: set[str]) -> None:
    known = {one["id"] for one in found.decisions}
    for key, one in found.received.items():
        if key not in known and one["conversation_id"] not in foreign:
            _count(result, "doubled", f"{one['conversation_id']}: delivered under {key}")


def _keys(result: Result, found: Found, keys: Collection[str]) -> None:
    known = {one["key"] for one in found.decisions}
    for key in set(keys) - known:
        _count(result, "lost", f"a decision that was answered 302, key {key}")


def _waiting(result: Result, found: Found) -> None:
    """LangGraph's own word on who waits, against the reviews."""
    waits, asks = set(), set()
    for thread, state in found.states.items():
        if "human_approval" in state.next and not any(task.error for task in state.tasks):
            asked = any(task.interrupts for task in state.tasks)
            place = (thread, state.config["configurable"]["checkpoint_id"])
            (asks if asked else waits).add(place)
    for kind, held in (("before", waits), ("question", asks)):
        listed = {_place(r) for r in found.reviews if (r["kind"], r["status"]) == (kind, "waiting")}
        for thread, at in held - listed - _decided(found, kind):
            _count(result, "lost", f"{thread} waits at {at}, and no review of it does")
        for thread, at in listed - held:
            if thread in found.states:
                result.other.append(f"a review of {thread} waits at {at}, and the thread does not")
    counted = {d["review"] for d in found.decisions if d["state"] != "undone"}
    for review in found.reviews:
        if review["status"] == "decided" and review["id"] not in counted:
            _count(result, "lost", f"review {review['id']} is decided by no decision")


def _place(row: dict[str, Any]) -> tuple[str, str]:
    return row["thread_id"], row["checkpoint_id"]


def _decided(found: Found, kind: str) -> set[tuple[str, str]]:
    """Where a thread may wait though no review does: decided, and its run goes no further."""
    ours = [d for d in found.decisions if d["kind"] == kind or kind == "before"]
    here = {_place(d) for d in ours if d["state"] not in {"undone", "superseded"}}
    return here | {(d["thread_id"], d["checkpoint_applied"]) for d in ours}
