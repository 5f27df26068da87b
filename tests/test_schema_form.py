"""A value edited in typed inputs keeps its types; what is wrong is said beside its input."""

import datetime as dt
import json
from decimal import Decimal
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Annotated, Any, Literal

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.tools import InjectedToolArg, tool
from pydantic import BaseModel, Field

from approvals.plain import canonical, clean
from approvals.schema_form import TypedField, fields_for, filled, read
from approvals.storable import one_newline


class Browser(HTMLParser):
    """What a browser makes of a page's inputs: their labels, and what it would post."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.posted: dict[str, str] = {}
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.referred: set[str] = set()
        self.inputs: dict[str, dict[str, Any]] = {}
        self._area = self._select = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        has = dict(attrs)
        if "id" in has:
            self.ids.append(has["id"])
        if tag == "label":
            self.labelled.add(has["for"])
        self.referred |= set((has.get("aria-describedby") or "").split())
        if tag in ("input", "textarea", "select"):
            self.inputs[has["name"]] = {"tag": tag, **has}
        if tag == "input":
            self.posted[has["name"]] = self._typed(has["type"], has["value"])
        elif tag == "textarea":
            self._area, self.posted[has["name"]] = has["name"], ""
        elif tag == "select":
            self._select = has["name"]
        elif tag == "option" and ("selected" in has or self._select not in self.posted):
            self.posted[self._select] = has["value"]

    @staticmethod
    def _typed(kind, value):
        """A browser takes newlines out of an input, and empties it where the type is another."""
        value = value.replace("\n", "")
        checks = {
            "number": lambda: float(value.replace("+", "x", value.startswith("+"))),
            "date": lambda: dt.date.fromisoformat(value),
            "time": lambda: dt.time.fromisoformat(value),
            "datetime-local": lambda: dt.datetime.fromisoformat(value),
        }
        try:
            read_as = checks.get(kind, lambda: value)()
        except ValueError:
            return ""
        if kind == "datetime-local":  # the shortest form, as the HTML standard says
            return read_as.isoformat(timespec="auto" if read_as.second else "minutes")
        return value

    def handle_data(self, data):
        if self._area:
            self.posted[self._area] += data

    def handle_endtag(self, tag):
        if tag == "textarea" and self._area:
            text = self.posted[self._area]
            self.posted[self._area] = one_newline(text.removeprefix("\n")).replace("\n", "\r\n")
            self._area = None


def render(fields: list[TypedField]) -> str:
    return render_to_string("_widgets.html", {"fields": fields})


def browse(schema: Any, original: Any, prefix: str = "args.0") -> Browser:
    return Browser(render(fields_for(prefix, schema, original)))


def edit(schema: Any, original: Any, **changes: str) -> Any:
    """The page posted with some inputs changed (`a__b` is the input `args.0.a.b`)."""
    posted = browse(schema, original).posted
    for name, text in changes.items():
        full = f"args.0.{name.replace('__', '.')}" if name != "whole" else "args.0"
        assert full in posted, f"no input {full} among {list(posted)}"
        posted[full] = text
    return read("args.0", schema, original, posted)


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def same(one: Any, other: Any) -> bool:
    """Equal, types included, and in the same order."""
    return json.dumps(one) == json.dumps(other)


COLOURS = {"$defs": {"C": {"enum": ["red", "blue"]}}}
texts = st.text(max_size=120).map(clean)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.dates().map(str)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)
kinds = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null"])
schemas = st.recursive(
    st.one_of(
        kinds.map(lambda kind: {"type": kind}),
        st.just({}),
        st.sampled_from(["date", "date-time", "time"]).map(
            lambda form: {"type": "string", "format": form}
        ),
        st.just({"enum": ["a", 1, None, 1.0]}),
        st.just({"type": "array", "items": {"type": "string"}}),
        st.just({"$ref": "#"}),
        st.just({"type": "string", "pattern": "^a+$", "maxLength": 3}),
        st.just({"type": ["integer", "null"], "minimum": 3}),
    ),
    lambda inner: st.one_of(
        st.dictionaries(texts, inner, max_size=3).map(
            lambda p: obj(*list(p)[:1], **{}) | {"properties": p}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        inner.map(lambda each: {"type": "object", "additionalProperties": each}),
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(schema=st.none() | schemas, original=values)
@example(schema=None, original={"a": 1e16, "b": 5.0, "c": "x\r\n", "d": "\n", "": {"a.b": 1}})
@example(schema=None, original={"~other": 1, "a.b": 1, "a": {"b": 2}, "a\nb": 3})
@example(schema={"type": "string", "format": "date-time"}, original="2026-11-30T14:05:00")
@example(schema={"type": "integer"}, original="five")
@example(schema={"type": "boolean"}, original="yes")
@example(schema={"type": "string"}, original={"a": [1]})
@example(schema={"type": "array", "items": {"type": "string"}}, original=["", "a"])
@example(schema={"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, original=1)
@example(schema=None, original={str(n): n for n in range(400)})
def test_what_is_posted_unchanged_comes_back_exactly(schema, original):
    page = browse(schema, original)
    got = read("args.0", schema, original, page.posted)
    assert got.errors == {}
    assert not got.changed
    assert same(got.value, original)
    named = {each["id"] for each in page.inputs.values()}
    assert named <= page.labelled
    assert len(page.ids) == len(set(page.ids))
    assert page.referred <= set(page.ids)


@settings(max_examples=100)
@given(schema=st.none() | schemas, original=values, typed=st.text(max_size=40), at=st.integers(0))
@example(schema=None, original=[], typed="[" * 100_000, at=0)
@example(schema=None, original=1, typed="9" * 10_000, at=0)
@example(schema=None, original=[], typed="9" * 10_000, at=0)
@example(schema=None, original=1.5, typed="1e999", at=0)
@example(schema=None, original=1.5, typed="9" * 400, at=0)
@example(schema=None, original=1, typed="9" * 400, at=0)
@example(schema=None, original=[], typed="9" * 400, at=0)
def test_whatever_is_typed_gives_a_storable_value_or_a_message(schema, original, typed, at):
    posted = browse(schema, original).posted
    if not posted:
        return
    posted[list(posted)[at % len(posted)]] = typed
    got = read("args.0", schema, original, posted)
    if got.errors:
        assert all(said for said in got.errors.values())
        assert same(got.value, original)
    else:
        json.dumps(got.value, allow_nan=False)
        assert clean(canonical(got.value)) == canonical(got.value)
    render(got.fields).encode()


def test_what_was_not_sent_was_not_touched():
    original = {"a": 1, "b": "x"}
    assert read("args.0", None, original, {"args.0.b": "y"}).value == {"a": 1, "b": "y"}
    assert read("args.0", None, original, QueryDict("")).value == original


@pytest.mark.parametrize(
    ("schema", "original", "typed", "value"),
    [
        ({"type": "integer"}, 5, "7", 7),
        ({"type": "number"}, 5, "7.5", 7.5),
        ({"type": "number"}, 5, "7", 7),
        ({"type": "number"}, 5.0, "7", 7.0),
        (None, 5.5, "7", 7.0),
        (None, 5, "-7", -7),
        ({"type": "boolean"}, True, "false", False),
        (None, False, "true", True),
        ({"enum": ["EUR", "GBP"]}, "EUR", "GBP", "GBP"),
        ({"enum": [1, "1"]}, 1, '"1"', "1"),
        ({"type": "string", "format": "date"}, "2026-11-30", "2026-12-01", "2026-12-01"),
        ({"type": "string"}, "5", "6", "6"),
        (None, "a\r\nb", "a\r\nb\r\nc", "a\nb\nc"),
        (None, None, '{"a": 5.0}', {"a": 5.0}),
        (None, [1], "[1, 2.0]", [1, 2.0]),
        ({"type": "array", "items": {"type": "string"}}, ["a"], "a\r\n\r\nb c\r\n", ["a", "b c"]),
        ({"type": ["integer", "null"]}, 5, "", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, "5", 5),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "10.50", "9.90", "9.90"),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, 10.5, "9.90", 9.9),
        (
            {
                "anyOf": [{"$ref": "#/$defs/C"}, {"type": "null"}],
                "$defs": {"C": {"enum": ["a", "b"]}},
            },
            "a",
            "",
            None,
        ),
        ({"type": "string"}, "x", "", ""),
    ],
)
def test_an_edit_keeps_the_type(schema, original, typed, value):
    got = edit(schema, original, whole=typed)
    assert got.errors == {}
    assert got.changed
    assert same(got.value, value)


@pytest.mark.parametrize(
    ("schema", "original", "typed", "said"),
    [
        ({"type": "integer"}, 5, "5.5", "whole number"),
        ({"type": "integer"}, 5, "five", "whole number"),
        ({"type": "integer"}, 5, "", "Fill this in"),
        (None, 5.0, "1,5", "point before its decimals"),
        (None, 5, "9" * 25, "too large"),
        (None, 5, "9" * 5000, "too large"),
        (None, 5.0, "1e999", "too large"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, 5, "10", "at most 9"),
        ({"type": "integer", "exclusiveMinimum": 1}, 5, "1", "more than 1"),
        ({"type": "number", "multipleOf": 0.5}, 5.5, "5.3", "multiple of 0.5"),
        ({"type": "boolean"}, True, "yes", "none of the choices"),
        ({"enum": ["a", "b"]}, "a", "c", "none of the choices"),
        ({"type": "string", "maxLength": 3}, "abc", "abcd", "at most 3"),
        ({"type": "string", "minLength": 2}, "abc", "a", "at least 2"),
        ({"type": "string", "pattern": "^a+$"}, "aa", "b", "^a+$"),
        ({"type": "string", "format": "date"}, "2026-11-30", "30.11.2026", "2026-11-30"),
        ({"type": "string", "format": "date"}, "2026-11-30", "2026-02-30", "2026-11-30"),
        ({"type": "string", "format": "date-time"}, "2026-11-30T10:00:00Z", "soon", "T14:05"),
        ({"type": "string", "format": "time"}, "10:00", "25:00", "14:05:00"),
        ({"type": "string", "format": "uuid"}, "5a321833-b4db-4a3e-95d9-aff7971d2b2f", "5", "uuid"),
        (None, "x", "a\x00b", "NUL"),
        (None, "x", "a\ud800b", "broken"),
        (None, "y", "\ufffd", "broken"),  # what Django makes of half an emoji
        ({"enum": ["a", "b"]}, "a", "c\ud800", "none of the choices"),
        (None, [], '{"\\ud800": 1, "\\ud800": 2}', "twice"),
        (None, [], '["\\ud800"]', "broken"),
        (None, [], '["\\u0000"]', "NUL"),
        (None, [], "[NaN]", "NaN"),
        (None, [], "[-Infinity]", "Infinity"),
        (None, [], "[1e999]", "too large"),
        (None, [], f"[{2**63}]", "too large"),
        (None, [], f"[{'9' * 5000}]", "too large"),
        (None, [], "[1,", "not JSON"),
        (None, [], '{"a": 1, "a": 2}', "twice"),
        (None, [], "[" * 55 + "]" * 55, "nested too deeply"),
        (None, [], "[" * 100_000, "nested too deeply"),
        (None, [], '["' + "x" * 1_000_001 + '"]', "1,000,000"),
        (None, "x", "x" * 1_000_001, "1,000,000"),
        ({"type": "array", "items": {"type": "integer"}}, [1], '[1, "2"]', "1: This must be"),
        ({"type": "array", "items": obj(a={"type": "integer"})}, [], '[{"a": "x"}]', "0.a: This"),
        ({"type": "array", "maxItems": 1}, [], "[1, 2]", "at most 1"),
        ({"type": "array", "uniqueItems": True}, [], "[1, 1]", "once"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_what_was_typed_is_kept(schema, original, typed, said):
    got = read("args.0", schema, original, {"args.0": typed})
    assert [said in one for one in got.errors["args.0"]] == [True]
    assert same(got.value, original)
    (shown,) = got.fields
    assert shown.text == clean(one_newline(typed))
    page = Browser(render(got.fields))
    assert page.inputs["args.0"]["aria-invalid"] == "true"
    assert one_newline(page.posted["args.0"]) == clean(one_newline(typed))
    assert any(name.endswith("-wrong") for name in page.referred)


def test_an_object_has_an_input_for_each_key_and_errors_stand_beside_theirs():
    schema = obj(
        "amount",
        amount={"type": "integer", "minimum": 1},
        address=obj(zip={"type": "string", "pattern": "^[0-9]+$"}),
    )
    original = {"amount": 5, "address": {"zip": "123"}}
    got = edit(schema, original, amount="0", address__zip="x")
    assert got.errors.keys() == {"args.0.amount", "args.0.address.zip"}
    assert edit(schema, original, address__zip="9").value == {"amount": 5, "address": {"zip": "9"}}
    assert original == {"amount": 5, "address": {"zip": "123"}}


def test_what_the_agent_got_wrong_may_stay():
    schema = obj(
        "a",
        "b",
        "c",
        a={"type": "integer", "minimum": 10},
        b={"enum": ["x"]},
        c={"type": "integer"},
    )
    original = {"a": 1, "b": "y", "more": 1}
    page = browse(schema, original)
    assert "min" not in page.inputs["args.0.a"]  # a browser would not let the form go
    assert "required" not in page.inputs["args.0.c"]
    got = edit(schema, original, **{"~other": '{"more": 2}'})
    assert got.errors == {}
    assert got.value == {"a": 1, "b": "y", "more": 2}
    assert edit(schema, original, a="2").errors == {"args.0.a": ["This must be at least 10."]}
    assert edit(schema, original, a="10").value == {**original, "a": 10}


def test_an_emptied_key_is_null_or_gone_or_asked_for():
    optional = {"type": "integer"}
    schema = obj("must", "may", must=optional, may={"type": ["integer", "null"]}, can=optional)
    original = {"must": 1, "may": 2, "can": 3}
    assert edit(schema, original, may="").value == {"must": 1, "may": None, "can": 3}
    assert edit(schema, original, can="").value == {"must": 1, "may": 2}
    assert edit(schema, original, must="").errors == {"args.0.must": ["Fill this in."]}


def test_a_key_that_was_missing_can_be_filled_in():
    schema = obj(
        "a",
        a={"type": "integer"},
        b={"type": "boolean"},
        c=obj("d", d={"type": "string"}, e={"type": "integer", "default": 7}),
    )
    assert edit(schema, {"a": 1}, b="true").value == {"a": 1, "b": True}
    assert edit(schema, {"a": 1}, c__d="x").value == {"a": 1, "c": {"d": "x"}}
    assert edit(schema, {"a": 1}, c__e="5").errors == {"args.0.c.d": ["Fill this in."]}
    assert edit(schema, {}, b="true").value == {"b": True}  # that `a` is missing is not their doing
    assert "Left empty: 7." in render(fields_for("args.0", schema, {"a": 1}))


def test_an_object_that_was_null_can_be_filled_in():
    schema = obj(who={"anyOf": [{"$ref": "#/$defs/Who"}, {"type": "null"}]}) | {
        "$defs": {"Who": obj("name", name={"type": "string"})}
    }
    assert edit(schema, {"who": None}, who__name="Ada").value == {"who": {"name": "Ada"}}


def test_keys_that_the_schema_does_not_name_are_kept_and_can_be_changed():
    schema = obj(a={"type": "integer"})
    original = {"x": 5.0, "a": 1, "y": [1]}
    assert edit(schema, original, a="2").value == {"x": 5.0, "a": 2, "y": [1]}
    assert edit(schema, original, **{"~other": '{"y": 2}'}).value == {"a": 1, "y": 2}
    assert edit(schema, original, **{"~other": ""}).value == {"a": 1}
    assert "above" in str(edit(schema, original, **{"~other": '{"a": 2}'}).errors)
    assert "JSON object" in str(edit(schema, original, **{"~other": "[]"}).errors)
    closed = schema | {"additionalProperties": False}
    assert edit(closed, original, a="2").errors == {}  # they were there before
    assert edit(closed, {"a": 1}, a="2").value == {"a": 2}


def test_an_open_object_takes_more_keys_of_its_type():
    schema = {"type": "object", "additionalProperties": {"type": "number"}}
    assert edit(schema, {"eur": 1.5}, eur="2").value == {"eur": 2.0}
    assert edit(schema, {"eur": 1.5}, **{"~other": '{"gbp": 3}'}).value == {"eur": 1.5, "gbp": 3}
    refused = edit(schema, {"eur": 1.5}, **{"~other": '{"gbp": "3"}'})
    assert refused.errors == {"args.0.~other": ["gbp: This must be a number."]}


def test_groups_end_at_three_levels_and_a_type_that_holds_itself_ends_in_json():
    schema = {
        "$ref": "#/$defs/N",
        "$defs": {"N": obj(v={"type": "integer"}, next={"$ref": "#/$defs/N"})},
    }
    original = {"v": 1, "next": {"v": 2, "next": {"v": 3, "next": {"v": 4, "next": {"v": 5}}}}}
    page = browse(schema, original)
    assert page.inputs["args.0.next.next.next.v"]["tag"] == "input"
    assert page.inputs["args.0.next.next.next.next"]["tag"] == "textarea"
    got = edit(schema, original, next__next__next__next='{"v": "x"}')
    assert got.errors == {"args.0.next.next.next.next": ["v: This must be a whole number."]}


def test_an_object_of_too_many_keys_is_edited_as_json():
    original = {f"k{n}": n for n in range(2000)}
    assert list(browse(None, original).posted) == ["args.0"]
    assert edit(None, original, whole='{"k1": 2}').value == {"k1": 2}


def test_nothing_is_fetched():
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        schema = {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}
        assert edit(schema, "x", whole="y").value == "y"
        server.shutdown()
    assert asked == []


def test_other_spaces_in_json_are_no_change():
    assert edit(None, [1, {"a": 5.0}], whole='[1,{"a":5.0}]').changed is False
    assert edit(None, [1, {"a": 5.0}], whole='[1,{"a":5}]').changed is True


def test_a_broken_schema_breaks_nothing():
    for schema in (
        {"type": "string", "pattern": "("},
        {"type": 5, "properties": [], "enum": "x", "anyOf": {}, "required": 1},
        {"properties": {"a": True, "b": []}},
        {"$schema": "https://example.org/none", "type": "string"},
    ):
        assert edit(schema, "x", whole='"y"').value in ("y", '"y"')


HANGING = "^(a+)+$"  # Python's `re` would take longer than the sun over forty letters


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": HANGING},
        {"allOf": [{"type": "string", "pattern": HANGING}, {"maxLength": 99}]},
        {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": HANGING},
    ],
)
def test_a_pattern_is_matched_in_time_whatever_it_is(schema):
    assert HANGING in str(edit(schema, "aa", whole="a" * 40 + "b").errors)
    assert edit(schema, "aa", whole="a" * 40).errors == {}


@pytest.mark.parametrize(
    ("schema", "original", "typed"),
    [
        ({"type": "string", "pattern": "^(?=(a+)+$)"}, "aa", "a" * 40 + "b"),
        ({"$defs": {"A": {"$schema": "http://json-schema.org/draft-07/schema#"}},
          "patternProperties": {HANGING: {"type": "string"}}}, {}, '{"' + "a" * 40 + 'b": 1}'),
        ({"items": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": HANGING}},
         [], '["' + "a" * 40 + 'b"]'),
        ({"unevaluatedProperties": False, "patternProperties": {HANGING: {}}}, [],
         '{"' + "a" * 40 + 'b": 1}'),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_matched_in_time_is_left_to_the_tool(schema, original, typed):
    name = "args.0.~other" if original == {} and "~other" in str(browse(schema, {})) else "args.0"
    assert read("args.0", schema, original, {name: typed}).errors == {}


def test_a_form_can_be_filled_with_an_earlier_edit():
    schema = obj(
        tags={"type": "array", "items": {"type": "string"}},
        note={"type": ["string", "null"]},
        colour={"enum": ["red", "blue"]},
        line=obj(sku={"type": "string"}),
    )
    original = {"tags": ["a"], "note": None, "colour": "red", "line": {"sku": "A"}, "more": 1}
    earlier = {"tags": ["a", "b"], "note": "x", "colour": "blue", "line": {}, "more": {"y": 1}}
    again = read("args.0", schema, original, filled("args.0", schema, original, earlier))
    assert again.errors == {}
    assert again.value == {**earlier, "line": {"sku": ""}}  # an emptied text is an empty text


def test_objects_of_several_kinds_are_edited_as_json_and_still_checked():
    schema = {"oneOf": [obj("a", a={"type": "integer"}), obj("b", b={"type": "string"})]}
    assert edit(schema, {"a": 1}, whole='{"b": "x"}').value == {"b": "x"}
    assert edit(schema, {"a": 1}, whole='{"a": "x"}').errors


def test_conditions_on_an_object_leave_it_its_inputs_and_are_checked():
    one_of = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    schema = obj(a={"type": "integer"}, b={"type": "string"}) | one_of
    assert edit(schema, {"a": 1}, a="2").value == {"a": 2}
    assert edit(schema, {"a": 1}, a="").errors


def test_choices_with_titles_show_them():
    schema = {
        "type": "string",
        "oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}],
    }
    html = render(fields_for("args.0", schema, "r"))
    assert '<option value="g">Green</option>' in html
    assert '<option value="r" selected>Red</option>' in html


def test_a_boolean_that_may_be_missing_has_three_choices():
    for schema, original, choices in (
        (obj("a", a={"type": "boolean"}), {"a": False}, ["true", "false"]),
        (obj(a={"type": "boolean"}), {}, ["", "true", "false"]),
        (obj("a", a={"type": ["boolean", "null"]}), {"a": True}, ["", "true", "false"]),
    ):
        (made,) = fields_for("args.0", schema, original)
        assert [each.text for each in made.choices] == choices


class Line(BaseModel):
    sku: str = Field(description="As on the label.")
    quantity: int = Field(ge=1, le=99)


@tool
def refund(
    amount: float,
    quantity: int,
    currency: Literal["EUR", "GBP"],
    when: dt.date,
    urgent: bool,
    line: Line,
    tags: list[str],
    exact: Decimal,
    user: Annotated[str, InjectedToolArg],
    note: str | None = None,
) -> str:
    """Pay money back."""
    return ""


CALL = {
    "amount": 60.5,
    "quantity": 2,
    "currency": "EUR",
    "when": "2026-11-30",
    "urgent": False,
    "line": {"sku": "A1", "quantity": 1},
    "tags": ["a", "b"],
    "exact": "10.50",
    "note": None,
}


def test_a_langchain_tool_gets_a_widget_for_each_argument():
    schema = refund.tool_call_schema.model_json_schema()
    page = browse(schema, CALL)
    shown = {name.removeprefix("args.0."): has for name, has in page.inputs.items()}
    kinds = {name: has.get("type", has["tag"]) for name, has in shown.items()}
    assert kinds == {
        "amount": "number",
        "quantity": "number",
        "currency": "select",
        "when": "date",
        "urgent": "select",
        "line.sku": "text",
        "line.quantity": "number",
        "tags": "textarea",
        "exact": "text",
        "note": "text",
    }
    assert shown["line.quantity"]["min"] == "1"
    assert shown["line.quantity"]["max"] == "99"
    assert shown["amount"]["step"] == "any"
    assert {each.key: each.unit for each in fields_for("args.0", schema, CALL)} == {
        **dict.fromkeys(CALL, ""), "amount": "EUR"
    }  # fmt: skip
    html = render(fields_for("args.0", schema, CALL))
    assert "<legend>Line</legend>" in html
    assert "As on the label." in html
    changed = edit(schema, CALL, amount="50", urgent="true", line__quantity="3", note="ok")
    line = {"sku": "A1", "quantity": 3}
    wanted = {**CALL, "amount": 50.0, "urgent": True, "line": line, "note": "ok"}
    assert same(changed.value, wanted)
    assert refund.invoke({**changed.value, "user": "u"}) == ""


@pytest.mark.parametrize(
    ("original", "kind"),
    [
        ("2026-11-30T14:05:00", "datetime-local"),
        ("2026-11-30T14:05:00+01:00", "text"),  # an input of the browser's would lose the zone
        ("2026-11-30T14:05:00.123456", "text"),
        ("tomorrow", "text"),
    ],
)
def test_a_time_is_shown_in_an_input_that_loses_nothing_of_it(original, kind):
    page = browse({"type": "string", "format": "date-time"}, original)
    assert page.inputs["args.0"]["type"] == kind


def test_constraints_are_told_to_the_browser_unless_it_would_refuse_the_original():
    def attributes(schema, original):
        return fields_for("args.0", schema, original)[0].attributes

    whole = {"type": "integer", "minimum": 1, "maximum": 9}
    assert attributes(whole, 5) == {"step": "1", "min": "1", "max": "9", "required": ""}
    assert attributes(whole, 11) == {"step": "1", "min": "1", "required": ""}
    assert attributes(whole | {"minimum": 0.5}, 5) == {"step": "1", "max": "9", "required": ""}
    assert attributes(whole, 5.0)["step"] == "any"
    letters = {"type": "string", "pattern": "^a+$", "maxLength": 5}
    assert attributes(letters, "aa") == {"pattern": ".*(?:^a+$).*"}  # no maxlength: it cuts pastes
    assert attributes(letters, "b") == {}
    assert "At most 5 characters." in fields_for("args.0", letters, "aa")[0].help


@pytest.mark.parametrize(
    ("schema", "key", "unit"),
    [
        ({"type": "number", "x-currency": "CHF"}, "worth", "CHF"),
        ({"type": "number"}, "total_amount", "EUR"),
        ({"type": "integer"}, "amount_cents", "EUR, in minor units"),
        ({"type": "integer"}, "quantity", ""),
        ({"type": "boolean"}, "refund", ""),
    ],
)
def test_money_is_shown_with_its_currency_and_nothing_else_is(schema, key, unit):
    made = fields_for("args.0", obj(**{key: schema}), {key: 1, "currency": "EUR"})[0]
    assert made.unit == unit


def test_html_in_names_values_and_schemas_is_shown_not_run():
    evil = '"><script>alert(1)</script>'
    schema = {"properties": {evil: {"title": evil, "description": evil, "type": "string"}}}
    for fields in (
        fields_for("args.0", schema, {evil: evil}),
        fields_for("args.0", None, {evil: {evil: [evil]}}),
        read("args.0", {"enum": [evil]}, evil, {"args.0": evil + "x"}).fields,
    ):
        html = render(fields)
        assert "<script" not in html
        assert "style=" not in html
    assert edit(None, {evil: evil + "\n"}).value == {evil: evil + "\n"}
