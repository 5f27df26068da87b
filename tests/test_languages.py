"""English and German: complete, in the person's own language, and recorded in one."""

import ast
import datetime as dt
import re
from types import SimpleNamespace

import pytest
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.utils import timezone, translation

from approvals import errors, pages
from approvals.actions import refusing
from approvals.audit import Actor
from approvals.errors import ApprovalError, Held
from approvals.models import AuditEntry, Profile
from approvals.sentences import GAP, SENTENCES, told
from console.gate import BUSY, TURNED_AWAY, turn_away
from console.languages import Languages
from tests import messages
from tests.bare_text import bare
from tests.conftest import PASSWORD, form_of, waiting
from tests.postgres import ROOT

PLACES = re.compile(r"%\(\w+\)s|%%|{\w*}|</?\w+[^>]*>")
GERMAN = {"HTTP_ACCEPT_LANGUAGE": "de-AT,de;q=0.9,en;q=0.5"}


# The catalogue


@pytest.fixture(scope="module", params=messages.languages())
def language(request):
    return request.param


def test_the_catalogue_has_what_the_sources_say_and_nothing_else(language):
    known = {messages.key(one) for one in messages.read(language) if one.id}
    assert known == messages.extracted(), "run: make messages"


def strings(message):
    both = message.string
    return list(both) if isinstance(both, tuple | list) else [both]


def test_nothing_is_untranslated_or_guessed(language):
    catalogue = messages.read(language)
    assert [one.id for one in catalogue if one.id and not all(strings(one))] == []
    assert [one.id for one in catalogue if one.id and one.fuzzy] == []


def test_a_translation_fills_in_the_same_values_in_the_same_elements(language):
    """A plural's one may say its number as a word."""
    for one in messages.read(language):
        ids = [one.id] if isinstance(one.id, str) else list(one.id)
        wanted = [sorted(PLACES.findall(said)) for said in ids if said]
        for string_ in strings(one) if wanted else []:
            assert sorted(PLACES.findall(string_)) in wanted, one.id


def test_what_runs_is_what_is_written_in_order_and_without_dates_or_paths(language):
    path = messages.po(language)
    text = path.read_text(encoding="utf-8")
    assert text == messages.written(language, messages.read(language)), "run: make messages"
    assert path.with_suffix(".mo").read_bytes() == messages.compiled(language)
    assert not re.search(r"^#: |-Date:|/\w+/\w+\.py", text, re.M)


@pytest.mark.parametrize("path", messages.templates(), ids=lambda path: path.name)
def test_a_template_says_nothing_that_cannot_be_translated(path):
    assert bare(path) == []


SCRIPTS = sorted((ROOT / "approvals" / "static").rglob("*.js"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_nothing_itself(path):
    """Its words are in the page, put there by Django."""
    code = re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.M)
    assert re.findall(r"""["'`]([A-Z][a-z]+ [a-z][^"'`]*)["'`]""", code) == []


# What is recorded in English is told in German


def german(text):
    with translation.override("de"):
        return told(text)


def test_every_sentence_is_written_by_some_code():
    """The list is what the code says: none is left of a sentence that has gone."""
    said = {GAPS.sub("{}", text) for texts in constants().values() for text in texts}
    whole = "\n".join(sorted(said))
    for one in SENTENCES:
        parts = [GAPS.sub("{}", part.strip()) for part in GAP.split(one)[::2]]
        assert all(part in whole for part in parts), one


GAPS = re.compile(r"{[^}]*}|%\(\w+\)s")
SPOKEN = ["approvals", "graphs"]


def constants():
    """Each module's texts, an f-string's values as {}."""
    found = {}
    for folder in SPOKEN:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "sentences.py":
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found[path.stem] = [text for node in ast.walk(tree) if (text := spelled(node))]
                found[path.stem] += [" ".join(d.split()) for d in docstrings(tree)]
    return found


def spelled(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part) or "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return spelled(node.left)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"_", "gettext", "noop"}:
        return spelled(node.args[0])
    return ""


def docstrings(tree):
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return filter(None, (ast.get_docstring(node) for node in classes))


REFUSALS = {
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, ApprovalError)
}


def refusals():
    """What the code raises, wherever it is spelled out beside the raise or as a constant above."""
    for path in sorted((ROOT / "approvals").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            ast.unparse(node.targets[0]): spelled(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in REFUSALS and node.args:
                said = spelled(node.args[0]) or named.get(ast.unparse(node.args[0]), "")
                yield from [(path.name, said)] if len(said) > 2 else []


def test_every_refusal_is_told_in_german():
    found = list(refusals())
    assert len(found) > 20
    own = [(name, one.__doc__) for name, one in vars(errors).items() if name in REFUSALS]
    lost = [
        pair for pair in found + own if german(GAPS.sub("x1", pair[1])) == GAPS.sub("x1", pair[1])
    ]
    assert lost == []


def test_a_refusal_is_recorded_in_english_and_read_in_german(cast, as_):
    review = waiting()
    with translation.override("de"):
        with pytest.raises(Held) as caught, refusing(Actor(cast.rita, "Rita"), review_id=review.pk):
            raise Held("Tom Achebe has this case.")
        assert str(caught.value) == "Tom Achebe hat diesen Fall."
    assert AuditEntry.objects.get(action="refused").note == "Tom Achebe has this case."
    page = as_("ada").get("/audit/?q=action:refused", **GERMAN).content.decode()
    assert "Rita wurde abgewiesen" in page
    assert "Tom Achebe hat diesen Fall." in page
    assert "has this case" not in page


def test_a_german_reviewer_leaves_the_same_record(cast, as_):
    review = waiting()
    answer = as_("rita").post(f"/reviews/{review.pk}/decide", form_of(review), **GERMAN)
    assert answer.status_code == 302
    as_("tom").post(f"/reviews/{review.pk}/decide", form_of(review), **GERMAN)
    notes = dict(AuditEntry.objects.filter(review=review).values_list("action", "note"))
    assert notes["refused"] == "Somebody else decided this review first."
    page = as_("rita").get(f"/reviews/{review.pk}/", **GERMAN).content.decode()
    assert "Von Ihnen wie entworfen freigegeben" in page


# Whose language a page is in


def asked(client, **headers):
    answer = client.get("/sign-in", **headers)
    return answer["Content-Language"], answer


def test_the_cookie_counts_more_than_the_browser_and_english_is_the_rest(db):
    client = Client()
    assert asked(client)[0] == "en-gb"
    assert asked(client, HTTP_ACCEPT_LANGUAGE="fr")[0] == "en-gb"
    code, answer = asked(client, **GERMAN)
    assert code == "de"
    assert '<html lang="de" dir="ltr"' in answer.content.decode()
    assert "Passwort" in answer.content.decode()
    assert {"Accept-Language", "Cookie"} <= set(answer["Vary"].split(", "))
    client.cookies["django_language"] = "en-gb"
    assert asked(client, **GERMAN)[0] == "en-gb"


@pytest.mark.parametrize(("chosen", "then"), [("de", "de"), ("", "en-gb")], ids=["own", "none"])
def test_signing_in_brings_the_language_of_the_profile(cast, chosen, then):
    """Also for somebody who sits down where another was signed in, in another language."""
    Profile.objects.create(user=cast.rita, language=chosen)
    client = Client()
    client.cookies["django_language"] = "en-gb" if chosen else "de"
    client.post("/sign-in", {"username": "rita", "password": PASSWORD})
    assert client.get("/")["Content-Language"] == then


def test_pages_of_errors_ask_neither_session_nor_database():
    """No database fixture: a query would fail."""
    request = RequestFactory().get("/", **GERMAN)
    answer = Languages(lambda request: pages.not_found(request))(request)
    assert "Für dieses Konto gibt es keine solche Seite" in answer.content.decode()
    request.scope = {TURNED_AWAY: BUSY}
    answer = Languages(turn_away(lambda request: None))(request)
    assert answer.status_code == 503
    assert "Zu viele auf einmal" in answer.content.decode()
    assert answer["Content-Language"] == "de"


# Dates, numbers, ages


@pytest.mark.parametrize("path", messages.templates(), ids=lambda path: path.name)
def test_no_template_has_an_english_date(path):
    """Days and months stand in an order of their language: in a format of its, or translated."""
    formats = re.findall(r"""date:["']([^"']+)["']""", path.read_text(encoding="utf-8"))
    assert [one for one in formats if one != "c" and re.search(r"(?<!_)[jdDlFMNnmY]\b", one)] == []


NOW = dt.datetime(2026, 11, 19, 10, 42, 7, tzinfo=dt.UTC)


def shown(code, template, **context):
    with translation.override(code):
        return Template("{% load countersign i18n %}" + template).render(Context(context))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("en-gb", ["19 Nov 2026, 10:42:07", "Thursday 19 November 2026", "2.5", "1,204"]),
        ("de", ["19. Nov. 2026, 10:42:07", "Donnerstag, 19. November 2026", "2,5", "1.204"]),
    ],
)
def test_dates_and_numbers_are_local(code, words):
    template = (
        '{{ at|date:"DATETIME_FORMAT" }}|{% translate "l j F Y" as day %}{{ at|date:day }}|'
        "{{ 2.5|floatformat }}|{{ 1204|as_number }}"
    )
    assert shown(code, template, at=NOW).split("|") == words


@pytest.mark.parametrize(
    ("code", "minutes", "said"),
    [
        ("en-gb", 0, "now, just now"),
        ("en-gb", 62, "1 h 02, 1 h 02 ago"),
        ("de", 0, "jetzt, gerade eben"),
        ("de", 5, "5 min, vor 5 min"),
        ("de", 62, "1 h 02, vor 1 h 02"),
        ("de", 4 * 24 * 60, "4 Tg., vor 4 Tg."),
    ],
)
def test_ages_are_said_in_words(code, minutes, said):
    since = timezone.now() - dt.timedelta(minutes=minutes)
    assert shown(code, "{{ since|age }}, {{ since|ago }}", since=since) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en-gb", ["1 run failed after approval", "2 runs failed after approval"]),
        ("de", ["1 Lauf ist nach der Freigabe gescheitert", "2 Läufe sind nach der Freigabe"]),
    ],
)
def test_plurals_follow_the_language(code, said):
    run = SimpleNamespace(title="One", get_absolute_url="/")
    for runs, words in enumerate(said, 1):
        page = shown(code, '{% include "_failed.html" %}', failed=[run] * runs)
        assert words in page


def test_drawings_keep_their_points_where_numbers_have_commas(cast, as_):
    """An SVG's 12.5 must not become 12,5."""
    review = waiting()
    page = as_("rita").get(f"/reviews/{review.pk}/", **GERMAN).content.decode()
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert drawn
    assert re.findall(r'\s(?:x|y|cx|cy|r|width|height|[xy][12])="[^"]*,[^"]*"', drawn) == []
