"""Who may what: one truth table of the policy, and the same over HTTP."""

import datetime as dt

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from pytest_django.asserts import assertContains, assertNotContains

from approvals.models import AuditEntry, Decision, Review
from approvals.policies import Policy
from tests.conftest import PASSWORD, form_of, waiting

pytestmark = pytest.mark.django_db
SUPPORT, BOTH = ["support"], ["scripted", "support"]

# person: (extra groups; queues, sees, decides support, decides scripted, undoes Rita's,
#          retries support, sees the audit)
TABLE = {
    "rita": ([], BOTH, BOTH, True, True, True, True, False),
    "tom": ([], BOTH, BOTH, True, True, False, True, False),
    "ada": ([], [], [*BOTH, ""], False, False, False, False, True),
    "mara": ([], [], [*BOTH, ""], False, False, False, True, True),
    "stan": ([], [], [], False, False, False, False, False),
    # an auditor decides nothing, whatever else they are
    "ada, reviewer too": (["support-reviewers"], SUPPORT, [*BOTH, ""], *[False] * 4, True),
    "mara, auditor too": (["auditors"], [], [*BOTH, ""], *[False] * 4, True),
    "rita, auditor too": (["auditors"], BOTH, [*BOTH, ""], False, False, True, False, True),
    # an admin decides as a member of a group, and of that group alone
    "mara, reviewer too": (
        ["support-reviewers"],
        *(SUPPORT, [*BOTH, ""]),
        *(True, False, False, True, True),
    ),
    "stan, reviewer too": (
        ["scripted-reviewers"],
        *(["scripted"], ["scripted"]),
        *(False, True, False, False, False),
    ),
}


def review(graph: str) -> Review:
    """A row is enough: a policy looks at the queue alone."""
    return Review.objects.create(
        graph=graph,
        thread_id=f"thread-{graph}",
        checkpoint_id="1",
        node="human_approval",
        title=f"A case of {graph or 'nobody'}",
        waiting_since=dt.datetime.now(dt.UTC),
        snapshot={},
        digest="0" * 64,
    )


@pytest.mark.parametrize("person", TABLE)
def test_what_each_person_may(cast, person):
    extra, queues, sees, support, scripted, undoes, retries, audit = TABLE[person]
    reviews = {graph: review(graph) for graph in ("support", "scripted", "")}
    decision = Decision(review=reviews["support"], actor=cast.rita)
    user = getattr(cast, person.partition(",")[0])
    user.groups.add(*Group.objects.filter(name__in=extra))
    policy = Policy(user)
    assert sorted(set(policy.queues) & set(BOTH)) == queues  # the groups have other graphs, too
    assert set(policy.reviews().values_list("graph", flat=True)) == set(sees)
    assert {graph for graph in reviews if policy.sees_queue(graph)} == set(sees)
    assert policy.may_decide(reviews["support"]) is support
    assert policy.may_decide(reviews["scripted"]) is scripted
    assert policy.may_decide(reviews[""]) is False
    assert policy.may_undo(decision) is undoes
    assert policy.may_retry(decision) is retries
    assert policy.sees_audit is audit


@pytest.mark.parametrize("person", TABLE)
def test_the_audits_rows_follow_the_same_answer(cast, person):
    extra, *_, audit = TABLE[person]
    user = getattr(cast, person.partition(",")[0])
    user.groups.add(*Group.objects.filter(name__in=extra))
    AuditEntry.objects.create(action="signed_in", actor=cast.rita)
    assert Policy(user).audit().exists() is audit


def test_the_person_who_has_lost_the_queue_may_not_undo_there(cast):
    cast.rita.groups.clear()
    decision = Decision(review=review("support"), actor=cast.rita)
    assert not Policy(cast.rita).may_decide(decision.review)
    assert not Policy(cast.rita).reviews().exists()


# Over HTTP


def test_a_stranger_finds_no_trace_of_a_review(as_):
    found = waiting()
    stan = as_("stan")
    assertNotContains(stan.get("/"), found.title)
    for path in ("", "?part=state", "?part=history"):
        assert stan.get(f"/reviews/{found.pk}/{path}").status_code == 404
    for path in ("decide", "redline"):
        answer = stan.post(f"/reviews/{found.pk}/{path}", form_of(found))
        assertNotContains(answer, found.title, status_code=404)
    assert not Decision.objects.exists()


def test_what_one_may_not_see_looks_like_what_is_not_there(as_):
    found, stan = waiting(), as_("stan")
    hidden, absent = stan.get(f"/reviews/{found.pk}/"), stan.get("/reviews/999999/")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.content == absent.content


def test_leaving_a_group_takes_effect_at_once(as_, cast):
    found, rita = waiting(), as_("rita")
    assert rita.get(f"/reviews/{found.pk}/").status_code == 200
    cast.rita.groups.clear()
    assert rita.get(f"/reviews/{found.pk}/").status_code == 404
    assert rita.post(f"/reviews/{found.pk}/decide", form_of(found)).status_code == 404


def test_an_account_that_was_closed_is_signed_out(as_, cast):
    found, rita = waiting(), as_("rita")
    cast.rita.is_active = False
    cast.rita.save()
    assert rita.post(f"/reviews/{found.pk}/decide", form_of(found)).status_code == 401
    assert not Decision.objects.exists()


def test_an_admin_in_a_reviewers_group_decides(as_, cast):
    cast.mara.groups.add(Group.objects.get(name="support-reviewers"))
    found = waiting()
    answer = as_("mara").post(f"/reviews/{found.pk}/decide", form_of(found))
    assert answer.status_code == 302
    assert Decision.objects.get().actor == cast.mara


def test_an_auditor_in_a_reviewers_group_decides_nothing(as_, cast):
    cast.ada.groups.add(Group.objects.get(name="support-reviewers"))
    found = waiting()
    answer = as_("ada").post(f"/reviews/{found.pk}/decide", form_of(found))
    assert answer.status_code == 403
    assert not Decision.objects.exists()


# Django's admin


def test_an_admin_manages_accounts_and_their_queues(as_):
    mara = as_("mara")
    given = {
        "username": "nina",
        "password1": PASSWORD,
        "password2": PASSWORD,
        "usable_password": "true",
    }
    assert mara.post("/admin/auth/user/add/", given).status_code == 302
    nina = get_user_model().objects.get(username="nina")
    page = mara.get(f"/admin/auth/user/{nina.pk}/change/")
    assertContains(page, "support-reviewers")


def test_an_admin_cannot_touch_reviews_decisions_or_the_audit(as_):
    found = waiting()
    as_("rita").post(f"/reviews/{found.pk}/decide", form_of(found))
    mara = as_("mara")
    for kind in (Review, Decision, AuditEntry):
        name, pk = kind._meta.model_name, kind.objects.first().pk
        before = list(kind.objects.values())
        base = f"/admin/approvals/{name}/"
        assert mara.get(base).status_code == 200
        assert mara.get(f"{base}{pk}/change/").status_code == 200
        for path in ("add/", f"{pk}/change/", f"{pk}/delete/"):
            answer = mara.post(f"{base}{path}", {"title": "Another", "post": "yes"})
            assert answer.status_code == 403, (name, path)
        chosen = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
        mara.post(base, chosen)
        assert list(kind.objects.values()) == before
        page = mara.get(f"{base}{pk}/change/")
        assertNotContains(page, 'name="_save"')
        assertNotContains(page, "deletelink")


def test_a_person_who_decided_cannot_be_deleted_out_of_the_record(as_, cast):
    found = waiting()
    as_("rita").post(f"/reviews/{found.pk}/decide", form_of(found))
    as_("mara").post(f"/admin/auth/user/{cast.rita.pk}/delete/", {"post": "yes"})
    assert get_user_model().objects.filter(username="rita").exists()
    assert Decision.objects.get().actor == cast.rita


@pytest.mark.parametrize("name", ["rita", "ada", "stan"])
def test_nobody_else_has_an_admin(as_, name):
    answer = as_(name).get("/admin/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")
    assertNotContains(as_(name).get("/"), "/admin/")
