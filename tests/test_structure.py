"""Which way the arrows point, read from the imports themselves."""

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.postgres import ROOT

USERS_OF_ACTIONS = {"views", "consumers", "admin", "tasks", "capture", "runner", "run_actions"}
MAY_IMPORT: dict[str, set[str]] = {  # of approvals' own modules
    "sentences": set(),
    "errors": {"sentences"},
    "events": set(),
    "models": set(),
    "policies": {"models", "registry"},
    # What LangGraph is asked and told. It knows nothing of people, and keeps no records.
    "ids": set(),
    "savers": {"errors", "ids"},
    "threads": set(),
    "undecodable": set(),
    "tolerant": {"undecodable"},
    "last_run": {"savers", "tolerant"},
    "pauses": {"last_run", "threads"},
    "update": {"ids", "pauses", "savers"},
    "answering": {"savers"},
    # What a pause asks, and what an answer does to it.
    "plain": {"undecodable"},
    "snapshots": {"plain"},
    "dialects": {"plain", "schemas"},
    "questions": {"dialects", "plain", "schema_words", "schemas"},
    "answers": {"errors", "models", "plain", "questions", "snapshots", "update"},
    "applying": {
        *("answering", "answers", "errors", "models"),
        *("pauses", "plain", "savers", "update"),
    },
}
# The writers: what reviewers do, and the worker; what admins do to runs that broke off.
ACTIONS = {"actions", "run_actions", "queue_actions", "profile_actions"} | {
    *("desk_actions", "note_actions", "presence", "draft_actions", "reply_actions"),
}
# Beside them: the trail's one door, and the queue of threads that is no record of anything.
WRITERS = {"audit": "AuditEntry.objects.", "capture": "ThreadChange.objects."}
WRITES = re.compile(r"\.(save|a?create|a?delete|bulk_\w+|(get|update)_or_create)$")
UPDATES = re.compile(r"(objects|filter\(.*\)|all\(\)|decisions|reviews)\.a?update$", re.S)
RAW = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+approvals_(?!threadchange)", re.I)


@functools.cache
def trees(package: str) -> dict[str, ast.Module]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return {str(f.relative_to(ROOT)): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def imports(tree: ast.Module) -> set[str]:
    """Every dotted name that an import anywhere in the file may mean."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def roots(tree: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imports(tree)}


def own(name: str) -> set[str]:
    """The modules of approvals that the module `name` imports."""
    tree = trees("approvals")[f"approvals/{name}.py"]
    modules = {Path(file).stem for file in trees("approvals")}
    return {n.split(".")[1] for n in imports(tree) if n.startswith("approvals.")} & modules


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_the_lower_rooms_import_only_what_is_below_them(name):
    assert own(name) <= MAY_IMPORT[name]


def test_forms_made_of_a_schema_know_schemas_and_values_alone():
    names = {Path(file).stem for file in trees("approvals") if "/schema" in file}
    assert {"schema_form", "schemas"} <= names
    for name in names:
        assert own(name) <= names | {"plain", "storable"}, name


def test_actions_import_nothing_that_uses_them():
    assert not own("actions") & (USERS_OF_ACTIONS | {"forms", "work", "urls", "pages", "apps"})


def test_what_admins_do_is_asked_for_by_pages_alone():
    mine = "approvals.run_actions"
    users = {Path(f).stem for f, tree in trees("approvals").items() if mine in imports(tree)}
    assert all(name.endswith("views") for name in users), users


def test_events_know_django_and_psycopg_and_nothing_else_of_ours():
    known = roots(trees("approvals")["approvals/events.py"])
    assert not known & {"approvals", "graphs", "console", "channels", "langgraph", "procrastinate"}


def test_graphs_know_neither_django_nor_us():
    for file, tree in trees("graphs").items():
        assert not roots(tree) & {"django", "approvals", "console", "procrastinate"}, file


def test_nobody_imports_the_project():
    for file, tree in {**trees("approvals"), **trees("graphs")}.items():
        assert "console" not in roots(tree), file


def calls(tree: ast.Module) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_only_actions_write():
    for file, tree in trees("approvals").items():
        name = Path(file).stem
        if Path(file).parent.name == "migrations":
            continue  # they mend the rows of older versions, once
        if name in ACTIONS:
            assert any(WRITES.search(call) for call in calls(tree))  # the net catches something
            continue
        wrote = [call for call in calls(tree) if WRITES.search(call) or UPDATES.search(call)]
        assert [call for call in wrote if not call.startswith(WRITERS.get(name, "-"))] == [], file
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert not [t for t in texts if isinstance(t, str) and RAW.search(t)], file
