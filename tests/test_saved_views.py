"""Saved views: a list under a name, with its count as a tab."""

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, SavedView
from approvals.queue_actions import MOST_VIEWS
from tests.queries import crowd
from tests.test_inbox import rows
from tests.test_queue_filters import tabs

pytestmark = pytest.mark.django_db
ADDRESS = "/views/save?q=tag%3Arefund&risk=high&after=1&current=2"


def test_a_view_becomes_a_tab_whose_count_equals_its_list(as_):
    crowd(3, risk="high", tags=["refund"])
    crowd(2, risk="low", tags=["refund"], thread_id="low", checkpoint_ns="low")
    rita = as_("rita")
    answer = rita.post(ADDRESS, {"name": "  Urgent   refunds "})
    view = SavedView.objects.get()
    assert (view.name, view.query, view.shared) == (
        "Urgent refunds",
        "risk=high&q=tag%3Arefund",
        False,
    )
    assert answer["Location"] == f"/?{view.query}"
    page = rita.get(answer["Location"])
    assertContains(page, f'data-view="saved-{view.pk}" aria-current="true"')
    assert tabs(page)[f"saved-{view.pk}"] == "3"
    assert len(rows(page)) == 3
    assert f"saved-{view.pk}" not in tabs(as_("tom").get("/"))
    assert not AuditEntry.objects.filter(action="settings").exists()  # one's own, and nobody else's


def test_only_admins_share_and_then_everybody_sees_it_with_a_count_of_their_own(as_):
    crowd(1, risk="high", graph="support")
    crowd(2, risk="high", graph="elsewhere", checkpoint_ns="2")
    assert as_("rita").post(ADDRESS, {"name": "Ours", "shared": "on"}).status_code == 403
    assert not SavedView.objects.exists()
    as_("mara").post("/views/save?risk=high", {"name": "Ours", "shared": "on"})
    view = SavedView.objects.get()
    assert tabs(as_("rita").get("/"))[f"saved-{view.pk}"] == "1"
    assert tabs(as_("mara").get("/"))[f"saved-{view.pk}"] == "3"
    assert AuditEntry.objects.get(action="settings").after == {"query": "risk=high"}


def test_renaming_and_deleting_are_their_owners(as_):
    as_("rita").post(ADDRESS, {"name": "Mine"})
    view = SavedView.objects.get()
    for act in ({"name": "Theirs"}, {"delete": "1"}):
        assert as_("tom").post(f"/views/{view.pk}", act).status_code == 403
        assert as_("mara").post(f"/views/{view.pk}", act).status_code == 403
    assertNotContains(as_("tom").get("/views/"), "Mine")
    as_("rita").post(f"/views/{view.pk}", {"name": "Ours"})
    assertContains(as_("rita").get("/views/"), "Ours")
    as_("rita").post(f"/views/{view.pk}", {"delete": "1"})
    assert not SavedView.objects.exists()


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "\x00"])
def test_a_name_that_is_none_is_refused_and_said(as_, name):
    answer = as_("rita").post(ADDRESS, {"name": name})
    assertContains(answer, 'role="alert"', status_code=422)
    assert not SavedView.objects.exists()


def test_no_view_comes_of_a_get_and_their_number_ends(as_, cast):
    rita = as_("rita")
    assert rita.get(ADDRESS).status_code == 405
    SavedView.objects.bulk_create(
        SavedView(name=str(n), query="", owner=cast.rita) for n in range(MOST_VIEWS)
    )
    assert rita.post(ADDRESS, {"name": "One more"}).status_code == 422
