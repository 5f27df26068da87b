"""langgraph.json and reviews.toml: what they may say, and every fault of them at once."""

import itertools
import json
import sys
from pathlib import Path

import pytest
from langgraph.graph.state import CompiledStateGraph

from graphs.registry import Answer, RegistryError, load

BUILDER = """
import operator
from typing import Annotated, TypedDict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    agent_response: str
    is_compliant: bool
    log: Annotated[list, operator.add]

def step(state: State) -> State:
    return {}

builder = StateGraph(State)
for name in ("draft", "human_approval", "deliver"):
    builder.add_node(name, step)
builder.add_edge(START, "draft")
builder.add_edge("draft", "human_approval")
builder.add_edge("human_approval", "deliver")
builder.add_edge("deliver", END)
given = []
def heard(*arguments):
    given.append(arguments)
    return builder

plain = builder.compile()
before_deliver = builder.compile(interrupt_before=["deliver"])
before_all = builder.compile(interrupt_before="*")
after_draft = builder.compile(interrupt_after=["draft"])
after_all = builder.compile(interrupt_after="*")
in_memory = builder.compile(checkpointer=InMemorySaver())

def none(): return heard()
def config_only(config): return heard(config)
def config_and_runtime(config, runtime): return heard(config, runtime)
def by_default(config=None): return heard(config)
def compiled(config): return builder.compile()
async def asynchronous(): return heard()
async def asynchronous_with_config(config): return heard(config)
def three(config, runtime, more): return heard()
def sick(): raise ValueError("no model is configured\\nand more")
nothing = 3
"""
TABLE = """
[graphs.one]
approval_nodes = ["human_approval"]
response = "agent_response"
group = "reviewers"
"""
_numbers = itertools.count()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An importable folder with a graph file of a name nobody else has imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith(("agent_", "__graphs__agent_", "team_")):
            del sys.modules[name]


def write(folder: Path, text: str = BUILDER, place: str = "") -> str:
    """A new module in `folder`; its name without the ending."""
    name = f"agent_{next(_numbers)}"
    target = folder / place / f"{name}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return name


def registry(folder: Path, target: object, table: str = TABLE):
    (folder / "langgraph.json").write_text(json.dumps({"graphs": {"one": target}}))
    (folder / "reviews.toml").write_text(table)
    return load(folder / "langgraph.json", folder / "reviews.toml")


def graph(folder: Path, target: object, table: str = TABLE) -> CompiledStateGraph:
    return registry(folder, target, table).graphs["one"].compiled


def faults(folder: Path, target: object, table: str = TABLE) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        registry(folder, target, table)
    return [str(fault) for fault in caught.value.faults]


# Where a target points


@pytest.mark.parametrize("form", ["./{}.py:plain", "{}:plain"])
@pytest.mark.parametrize("wrap", [str, lambda target: {"path": target, "description": "x"}])
def test_a_target_is_a_file_or_a_module_bare_or_in_an_object(folder, form, wrap):
    assert graph(folder, wrap(form.format(write(folder)))).interrupt_before_nodes == [
        "human_approval"
    ]


def test_a_file_that_can_be_imported_by_name_is(folder):
    name = write(folder)
    found = graph(folder, f"./{name}.py:builder")
    assert found.builder.state_schema.__module__ == name
    assert sys.modules[name].State is found.builder.state_schema


def test_a_file_in_a_package_keeps_its_dotted_name(folder):
    (folder / "team_pkg").mkdir()
    (folder / "team_pkg" / "__init__.py").touch()
    name = write(folder, place="team_pkg")
    found = graph(folder, f"./team_pkg/{name}.py:builder")
    assert found.builder.state_schema.__module__ == f"team_pkg.{name}"


def test_a_file_outside_the_import_path_is_loaded_all_the_same(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    name = write(outside)
    found = graph(folder, f"{outside}/{name}.py:builder")
    assert found.builder.state_schema.__module__ == f"__graphs__{name}"


def test_two_files_of_one_name_outside_the_import_path_stay_two(folder, tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for place, node in ((one, "left"), (two, "right")):
        (place / "agent_same.py").write_text(BUILDER.replace('"deliver"', f'"{node}"'))
    targets = {"one": f"{one}/agent_same.py:builder", "two": f"{two}/agent_same.py:builder"}
    (folder / "langgraph.json").write_text(json.dumps({"graphs": targets}))
    (folder / "reviews.toml").write_text(TABLE + TABLE.replace("graphs.one", "graphs.two"))
    found = load(folder / "langgraph.json", folder / "reviews.toml")
    assert "left" in found.graphs["one"].compiled.nodes
    assert "right" in found.graphs["two"].compiled.nodes
    # LangGraph stores a state's types under their module's name: it must lead back to the type
    for each in found:
        schema = each.compiled.builder.state_schema
        assert sys.modules[schema.__module__].State is schema


# What a target is


@pytest.mark.parametrize("attribute", ["builder", "plain", "compiled", "none", "by_default"])
def test_whatever_it_is_it_pauses_before_the_approval_node(folder, attribute):
    found = graph(folder, f"{write(folder)}:{attribute}")
    assert found.interrupt_before_nodes == ["human_approval"]


@pytest.mark.parametrize(
    ("attribute", "given"),
    [
        ("none", ()),
        ("config_only", ({"configurable": {}},)),
        ("config_and_runtime", ({"configurable": {}}, None)),
        ("by_default", (None,)),
        ("asynchronous", ()),
        ("asynchronous_with_config", ({"configurable": {}},)),
    ],
)
def test_a_factory_gets_as_many_arguments_as_it_asks_for(folder, attribute, given):
    name = write(folder)
    assert "deliver" in graph(folder, f"{name}:{attribute}").nodes
    assert sys.modules[name].given == [given]


AFTER = TABLE + 'approval_after = ["draft"]\n'


@pytest.mark.parametrize(
    ("attribute", "table", "before", "after"),
    [
        ("plain", TABLE, ["human_approval"], []),
        ("plain", AFTER, ["human_approval"], ["draft"]),
        ("before_deliver", TABLE, ["deliver", "human_approval"], []),
        ("after_draft", TABLE, ["human_approval"], ["draft"]),
        ("after_draft", AFTER, ["human_approval"], ["draft"]),
        ("before_all", TABLE, "*", []),
        ("after_all", AFTER, ["human_approval"], "*"),
    ],
)
def test_it_pauses_where_the_graph_and_the_table_say(folder, attribute, table, before, after):
    found = registry(folder, f"{write(folder)}:{attribute}", table).graphs["one"]
    assert (found.before, found.after) == (before, after)
    assert (found.compiled.interrupt_before_nodes, found.compiled.interrupt_after_nodes) == (
        before,
        after,
    )


NO_PAUSES = TABLE.replace('approval_nodes = ["human_approval"]\n', "")


@pytest.mark.parametrize(
    ("attribute", "before", "after"),
    [
        ("plain", [], []),
        ("before_deliver", ["deliver"], []),
        ("before_all", "*", []),
        ("after_draft", [], ["draft"]),
    ],
)
def test_a_graph_that_says_itself_where_it_pauses_needs_no_list_of_nodes(
    folder, attribute, before, after
):
    found = registry(folder, f"{write(folder)}:{attribute}", NO_PAUSES).graphs["one"]
    assert (found.before, found.after) == (before, after)


def test_a_graph_that_only_asks_questions_needs_no_response(folder):
    name = write(folder)
    table = '[graphs.one]\ngroup = "reviewers"\n'
    settings = registry(folder, f"{name}:plain", table).graphs["one"].review
    assert (settings.response, settings.editable_fields) == ("", [])


def test_nodes_that_are_paused_before_by_name_are_known(folder):
    name = write(folder)
    assert registry(folder, f"{name}:before_deliver").approval_nodes() == {
        *("deliver", "human_approval")
    }
    assert registry(folder, f"{name}:before_all").approval_nodes() == set()


def test_the_graph_itself_is_left_as_it_was(folder):
    name = write(folder)
    graph(folder, f"{name}:before_deliver")
    assert sys.modules[name].before_deliver.interrupt_before_nodes == ["deliver"]


# What cannot be used


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("missing", "has no 'missing'"),
        ("nothing", "a int is neither a StateGraph nor compiled"),
        ("three", "a factory takes at most a config and a runtime"),
        ("sick", "ValueError: no model is configured"),
        ("in_memory", "thirty workers would have thirty memories"),
    ],
)
def test_an_unusable_target_says_why_in_one_line(folder, attribute, says):
    (fault,) = faults(folder, f"{write(folder)}:{attribute}")
    assert fault.startswith("langgraph.json: graphs.one: ")
    assert says in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_graph_that_does_not_import_says_why(folder, text, says):
    (fault,) = faults(folder, f"./{write(folder, text)}.py:graph")
    assert fault.startswith("langgraph.json: graphs.one: ")
    assert says in fault


@pytest.mark.parametrize("target", ["./nowhere.py:graph", "nowhere_at_all:graph"])
def test_a_target_that_is_not_there_says_so(folder, target):
    (fault,) = faults(folder, target)
    assert "nowhere" in fault


@pytest.mark.parametrize("target", ["graph", 3, None, [], {"file": "x.py:graph"}, {"path": 3}])
def test_a_target_of_no_known_form_is_refused(folder, target):
    (fault,) = faults(folder, target)
    assert fault == 'langgraph.json: graphs.one: must read "./file.py:name" or "module:name"'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('colour = "red"', "reviews.toml: graphs.one.colour: "),
        ("undo_window = -1", "reviews.toml: graphs.one.undo_window: "),
        ('undo_window = "soon"', "reviews.toml: graphs.one.undo_window: "),
        ('language = "tongue"', "reviews.toml: graphs.one.language: the state has no field"),
        ('hints = [{ pattern = "(", text = "x" }]', "reviews.toml: graphs.one.hints.0.pattern: "),
        ("max_length = 0", "reviews.toml: graphs.one.max_length: "),
        ('editable = ["nope"]', "reviews.toml: graphs.one.editable: the state has no field 'nope'"),
        (
            "approve = { nope = true }",
            "reviews.toml: graphs.one.approve.nope: the state has no field 'nope'",
        ),
    ],
)
def test_a_wrong_setting_is_named_by_file_table_and_key(folder, line, says):
    (fault,) = faults(folder, f"{write(folder)}:plain", TABLE + line)
    assert fault.startswith(says)


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("human_approval", "humans", "approval_nodes: the graph has no node 'humans'"),
        ("agent_response", "reply", "response: the state has no field 'reply'"),
        ('"reviewers"', '""', "group: "),
    ],
)
def test_a_setting_that_does_not_fit_the_graph_is_named(folder, wrong, right, says):
    found = faults(folder, f"{write(folder)}:plain", TABLE.replace(wrong, right))
    assert found[0].startswith(f"reviews.toml: graphs.one.{says}")


def test_a_node_to_pause_after_that_is_none_is_named(folder):
    (fault,) = faults(folder, f"{write(folder)}:plain", TABLE + 'approval_after = ["drafts"]')
    assert fault == "reviews.toml: graphs.one.approval_after: the graph has no node 'drafts'"


def test_a_required_key_that_is_missing_is_named(folder):
    table = TABLE.replace('group = "reviewers"\n', "")
    (fault,) = faults(folder, f"{write(folder)}:plain", table)
    assert fault.startswith("reviews.toml: graphs.one.group: ")


# What a person may answer besides yes


ANSWERS = ["reject", "send_back", "respond"]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_read_from_its_table(folder, answer):
    keys = 'set = { is_compliant = false }, reason = "agent_response", goto = "draft"'
    table = f"{TABLE}{answer} = {{ {keys} }}"
    settings = registry(folder, f"{write(folder)}:plain", table).graphs["one"].review
    told = Answer(set={"is_compliant": False}, reason="agent_response", goto="draft")
    assert settings.answers() == {answer: told}


def test_an_answer_that_no_table_configures_is_not_offered(folder):
    assert registry(folder, f"{write(folder)}:plain").graphs["one"].review.answers() == {}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    ("says", "where", "message"),
    [
        ("set = { nope = 1 }", ".set.nope", "the state has no field 'nope'"),
        ("set = { log = nan }", ".set.log", "must be a value that JSON can hold"),
        ("set = { log = [2026-11-21] }", ".set.log", "must be a value that JSON can hold"),
        ('reason = "nope"', ".reason", "the state has no field 'nope'"),
        ('goto = "nope"', ".goto", "the graph has no node 'nope'"),
        ("goto = 3", ".goto", "Input should be a valid string"),
        ('colour = "red"', ".colour", "Extra inputs are not permitted"),
    ],
)
def test_an_answer_that_does_not_fit_the_graph_is_named(folder, answer, says, where, message):
    (fault,) = faults(folder, f"{write(folder)}:plain", f"{TABLE}{answer} = {{ {says} }}")
    assert fault == f"reviews.toml: graphs.one.{answer}{where}: {message}"


@pytest.mark.parametrize("goto", ["__end__", "deliver", ""])
def test_an_answer_may_lead_to_any_node_or_to_the_end(folder, goto):
    found = registry(folder, f"{write(folder)}:plain", f'{TABLE}reject = {{ goto = "{goto}" }}')
    assert found.graphs["one"].review.reject == Answer(goto=goto)


def test_an_answer_may_lead_to_a_node_of_a_subgraph(folder):
    # a pause may be in there, and its reviewers are offered what fits the level they pause in
    outer = """
parent = StateGraph(State)
parent.add_node("team", builder.compile())
parent.add_edge(START, "team")
"""
    table = NO_PAUSES + 'send_back = { goto = "draft" }'
    found = registry(folder, f"{write(folder, BUILDER + outer)}:parent", table)
    assert found.graphs["one"].review.send_back == Answer(goto="draft")


def test_responding_needs_the_field_that_goes_out(folder):
    table = TABLE.replace('response = "agent_response"\n', "") + "respond = {}"
    (fault,) = faults(folder, f"{write(folder)}:plain", table)
    assert fault.startswith("reviews.toml: graphs.one.respond: needs `response`")


def test_what_approving_sets_must_be_storable(folder):
    (fault,) = faults(folder, f"{write(folder)}:plain", TABLE + "approve = { log = inf }")
    assert fault == ("reviews.toml: graphs.one.approve.log: must be a value that JSON can hold")


def test_a_field_with_a_reducer_may_be_edited(folder):
    found = registry(folder, f"{write(folder)}:plain", TABLE + 'editable = ["log"]')
    assert found.graphs["one"].review.editable_fields == ["log"]


def test_a_table_without_a_graph_and_a_graph_without_a_table_are_both_named(folder):
    table = TABLE.replace("graphs.one", "graphs.two")
    found = faults(folder, f"{write(folder)}:plain", table)
    assert sorted(fault.partition(": ")[2].partition(": ")[0] for fault in found) == [
        "graphs.one",
        "graphs.two",
    ]


def test_a_default_graph_that_nobody_registered_is_named(folder):
    found = faults(folder, f"{write(folder)}:plain", 'default_graph = "zero"\n' + TABLE)
    assert found == ["reviews.toml: default_graph: no graph is called 'zero'"]


def test_files_that_are_not_there_or_not_readable_are_both_named(folder):
    with pytest.raises(RegistryError) as caught:
        load(folder / "none.json", folder / "none.toml")
    assert [fault.file for fault in caught.value.faults] == ["none.json", "none.toml"]
    (folder / "bad.json").write_text("{")
    (folder / "bad.toml").write_text("= 3")
    with pytest.raises(RegistryError) as caught:
        load(folder / "bad.json", folder / "bad.toml")
    assert [fault.file for fault in caught.value.faults] == ["bad.json", "bad.toml"]


@pytest.mark.parametrize("text", ["[]", "3", '{"graphs": []}', "{}", "\x00", "\xff"])
def test_a_langgraph_json_of_another_shape_is_refused(folder, text):
    (folder / "langgraph.json").write_bytes(text.encode("latin-1"))
    (folder / "reviews.toml").write_text("")
    with pytest.raises(RegistryError) as caught:
        load(folder / "langgraph.json", folder / "reviews.toml")
    assert caught.value.faults[0].file == "langgraph.json"


def test_every_fault_of_both_files_is_reported_at_once(folder):
    targets = {
        "one": f"{write(folder)}:plain",
        "two": f"{write(folder)}:missing",
        "three": f"{write(folder)}:in_memory",
        "four": "no colon",
        "five": f"{write(folder, 'raise RuntimeError(5)')}:graph",
    }
    tables = "".join(TABLE.replace("graphs.one", f"graphs.{name}") for name in targets)
    tables = tables.replace('"human_approval"', '"humans"', 1).replace("agent_resp", "resp", 1)
    tables += "undo_window = -1\ncolour = 3\n"  # in the last table, five
    (folder / "langgraph.json").write_text(json.dumps({"graphs": targets}))
    (folder / "reviews.toml").write_text('stray = "key"\n' + tables)
    with pytest.raises(RegistryError) as caught:
        load(folder / "langgraph.json", folder / "reviews.toml")
    named = {(fault.file, fault.where) for fault in caught.value.faults}
    # `editable` is the response where the table does not say, so it may be named as well
    assert named - {("reviews.toml", "graphs.one.editable")} == {
        ("reviews.toml", "stray"),
        ("reviews.toml", "graphs.five.undo_window"),
        ("reviews.toml", "graphs.five.colour"),
        ("reviews.toml", "graphs.one.approval_nodes"),
        ("reviews.toml", "graphs.one.response"),
        ("langgraph.json", "graphs.two"),
        ("langgraph.json", "graphs.three"),
        ("langgraph.json", "graphs.four"),
        ("langgraph.json", "graphs.five"),
    }
