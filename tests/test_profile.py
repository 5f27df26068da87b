"""What a person sets for themselves: on every page of theirs, and on nobody else's."""

import re
from typing import Any

import pytest
from django.test import Client
from pytest_django.asserts import assertContains, assertNotContains

from approvals import keymap
from approvals.models import AuditEntry, Profile
from tests.conftest import waiting
from tests.queries import counted_queries, listed

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cast")]


def filled(**changed: Any) -> dict[str, Any]:
    """The profile page's form as it is at first, but for what is changed. None is left out."""
    keys = {f"key.{one.name}": one.key for one in keymap.CHANGEABLE}
    first = {"theme": "", "density": "", "language": "", "keys_on": "on", **keys}
    return {name: value for name, value in {**first, **changed}.items() if value is not None}


def save(client: Client, **changed: Any) -> Any:
    return client.post("/profile/", filled(**changed))


def test_what_is_set_is_on_the_next_page_of_that_person_alone(as_):
    rita = as_("rita")
    answer = save(rita, theme="dark", density="two", keys_on=None, notify="on", sound="on")
    assert answer.url == "/profile/?saved"
    page = rita.get("/").content.decode()
    html, body = (re.search(f"<{tag}[^>]*>", page)[0] for tag in ("html", "body"))
    assert 'data-theme="dark"' in html
    assert 'data-density="two"' in html
    assert 'data-keys="off" data-notify data-sound' in body
    assert "data-stay" not in body
    theirs = as_("tom").get("/")
    assertNotContains(theirs, "data-theme")
    assertNotContains(theirs, "data-density")
    assertContains(theirs, 'data-keys="on"')
    assert not AuditEntry.objects.exclude(action="signed_in").exists()


def test_a_language_is_kept_and_the_browser_asks_for_it_from_now_on(as_, cast):
    rita = as_("rita")
    answer = save(rita, language="de")
    assert answer.cookies["django_language"].value == "de"
    assert Profile.objects.get(user=cast.rita).language == "de"
    assert save(rita, language="").cookies["django_language"]["max-age"] == 0
    assert save(rita, language="tlh").status_code == 422


def test_a_key_is_changed_and_the_others_are_as_usual(as_, cast):
    rita = as_("rita")
    save(rita, **{"key.approve": "E", "key.edit": "a", "key.theme": "", "key.claim": "ß"})
    own = {"approve": "e", "edit": "a", "theme": "", "claim": "ß"}
    assert Profile.objects.get(user=cast.rita).keys == own
    page = rita.get("/")
    assertContains(page, 'data-action="approve" data-key="e"')
    assertContains(page, 'data-action="theme" data-key=""')
    assertContains(page, 'data-action="reject" data-key="r"')
    assert rita.post("/profile/usual-keys").url == "/profile/?saved"
    assertContains(rita.get("/"), 'data-action="approve" data-key="a"')


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param("r", "“R” is already the key of: Approve.", id="taken"),
        pytest.param("ab", "A key is one character.", id="two"),
        pytest.param("7", "Figures go to the calls of a question.", id="figure"),
        pytest.param("\x07", "A key is one character.", id="no-character"),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_nothing_is_lost(as_, typed, said):
    answer = save(as_("rita"), theme="dark", **{"key.approve": typed, "key.notes": "ü"})
    assertContains(answer, said, status_code=422)
    assertContains(answer, 'aria-invalid="true"', count=1, status_code=422)
    assertContains(answer, 'value="ü"', status_code=422)
    assertContains(answer, 'value="dark" id="id_theme_2" checked', status_code=422)
    assert not Profile.objects.exists()


def test_a_kept_key_that_nobody_can_press_any_more_breaks_nothing(as_, cast):
    keys = {"gone": "x", "edit": 5, "approve": "Mod K", "notes": "a"}
    Profile.objects.create(user=cast.rita, keys=keys)
    page = as_("rita").get("/")
    for name, key in (("notes", "a"), ("approve", ""), ("edit", "e")):
        assertContains(page, f'data-action="{name}" data-key="{key}"')
    Profile.objects.update(keys=["a"])
    assertContains(as_("rita").get("/profile/"), 'data-action="approve" data-key="a"')


def test_the_usual_keys_are_each_one_character_and_no_two_the_same():
    keys = [one.key for one in keymap.CHANGEABLE]
    assert len(set(keys)) == len(keys) == len({one.name for one in keymap.CHANGEABLE})
    assert not [key for key in keys if len(key) != 1 or key.isdigit()]


def test_the_switch_changes_the_theme_alone_and_goes_back(as_, cast):
    rita = as_("rita")
    save(rita, density="two")
    assert rita.post("/profile/theme", {"theme": "dark", "next": "/?q=fee"}).url == "/?q=fee"
    assert rita.post("/profile/theme", {"theme": "pink", "next": "/?q=fee"}).url == "/profile/"
    for elsewhere in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        assert rita.post("/profile/theme", {"theme": "dark", "next": elsewhere}).url == "/"
    assert rita.get("/profile/theme?theme=light").url == "/profile/"
    assert rita.get("/profile/usual-keys").url == "/profile/"
    kept = Profile.objects.get(user=cast.rita)
    assert (kept.theme, kept.density) == ("dark", "two")


def test_nobody_sets_anything_without_signing_in(client):
    for address in ("/profile/", "/profile/theme", "/profile/usual-keys"):
        assert client.post(address, {"theme": "dark"}).url.startswith("/sign-in")
    assert not Profile.objects.exists()


@pytest.mark.parametrize("has_one", [True, False], ids=["set", "unset"])
def test_a_profile_costs_a_page_one_query(as_, cast, has_one):
    if has_one:
        Profile.objects.create(user=cast.rita, theme="dark")
    review, rita = waiting(), as_("rita")
    for address in ("/", "/profile/", review.get_absolute_url()):
        with counted_queries() as seen:
            assertContains(rita.get(address), 'data-theme="dark"', count=int(has_one))
        assert len([query for query in seen if "approvals_profile" in query]) == 1, listed(seen)
    with counted_queries() as seen:
        rita.get("/profile/")
    assert len(seen) <= 6, listed(seen)


def test_an_id_leads_to_its_case_or_to_the_search(as_):
    review = waiting()
    for text in (review.thread_id, str(review.pk), f" {review.thread_id} "):
        assert as_("rita").get("/find", {"id": text}).url == review.get_absolute_url()
        stan = as_("stan").get("/find", {"id": text})  # to whom it is as one that there is not
        assert stan.url.startswith("/?q=")
    for text in ("Kilbride O’Brien", "", "\x00", "9" * 30):
        assert as_("rita").get("/find", {"id": text}).url.startswith("/?q=")
