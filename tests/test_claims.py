"""Claims: who has a case, for how long, and who may take it from whom."""

import datetime as dt
import re
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone

from approvals import desk_actions
from approvals.audit import Actor
from approvals.errors import Held
from approvals.models import AuditEntry, Decision, Draft, Review
from tests.conftest import capture_all, form_of, waiting
from tests.queries import crowd
from tests.test_conflicts import other_program_updates

pytestmark = pytest.mark.django_db
SECOND = dt.timedelta(seconds=1)


def does(client: Client, act: str, review: Review, **data: Any) -> Any:
    return client.post(f"/reviews/{review.pk}/{act}", data)


def holder(review: Review) -> str | None:
    return Review.objects.values_list("claimed_by__username", flat=True).get(pk=review.pk)


def told(review: Review) -> list[str]:
    entries = AuditEntry.objects.filter(review=review).exclude(action__in=["paused", "opened"])
    return list(entries.order_by("id").values_list("action", flat=True))


def shift(review: Review, **seconds: float) -> None:
    """Moves the named times of a review so many seconds into the past."""
    review.refresh_from_db()
    moved = {name: getattr(review, name) - by * SECOND for name, by in seconds.items()}
    Review.objects.filter(pk=review.pk).update(**moved)


def ends_in(review: Review) -> float:
    review.refresh_from_db()
    return (review.claimed_until - timezone.now()).total_seconds()


def test_a_case_that_somebody_has_is_theirs_to_decide_and_other_words_are_kept(as_):
    review, rita, tom = waiting(), as_("rita"), as_("tom")
    assert does(rita, "claim", review).status_code == 302
    assert 290 < ends_in(review) <= 300
    refused = does(tom, "decide", review, **form_of(review, "Dear Maeve, from Tom."))
    assert refused.status_code == 409
    page = refused.content.decode()
    assert "Rita Osei has this case." in page
    assert "Dear Maeve, from Tom." in page
    assert Draft.objects.get().fields == {"edit.agent_response": "Dear Maeve, from Tom."}
    assert holder(review) == "rita"
    assert does(rita, "decide", review, **form_of(review)).status_code == 302
    assert holder(review) is None
    assert told(review) == ["claimed", "refused", "decided"]


def test_after_a_conflict_one_goes_on_with_ones_text_or_without_it(as_):
    review, rita, tom = waiting(), as_("rita"), as_("tom")
    does(rita, "claim", review)
    does(tom, "decide", review, **form_of(review, "Dear Maeve, from Tom."))
    assert "Dear Maeve, from Tom." in tom.get(f"/reviews/{review.pk}/").content.decode()
    assert does(tom, "set-aside", review).url == review.get_absolute_url()
    assert Draft.objects.get().fields == {}
    assert "from Tom." in str(Draft.objects.get().revisions.get().fields)
    assert "Dear Maeve, from Tom." not in tom.get(f"/reviews/{review.pk}/").content.decode()


def test_what_nobody_has_anybody_decides_and_so_when_the_lease_ran_out(as_):
    review = waiting()
    does(as_("rita"), "claim", review)
    shift(review, claimed_until=301)
    assert does(as_("tom"), "decide", review, **form_of(review)).status_code == 302
    assert Decision.objects.get().actor.username == "tom"


def test_undo_gives_the_case_back_to_who_undid(as_):
    review, rita = waiting(), as_("rita")
    does(rita, "decide", review, **form_of(review))
    rita.post(f"/decisions/{Decision.objects.get().pk}/undo")
    assert holder(review) == "rita"
    assert does(as_("tom"), "decide", review, **form_of(review)).status_code == 409


def test_asking_waiting_half_a_minute_and_taking_over(as_):
    review, rita, tom = waiting(), as_("rita"), as_("tom")
    does(rita, "claim", review)
    assert does(tom, "take", review).status_code == 409
    does(tom, "ask", review)
    assert b"Tom Achebe asks for this case." in rita.get(f"/reviews/{review.pk}/").content
    shift(review, claim_asked_at=15)
    assert does(tom, "take", review).status_code == 409
    shift(review, claim_asked_at=16)
    assert does(tom, "take", review).status_code == 302
    assert holder(review) == "tom"
    assert told(review) == ["claimed", "refused", "asked_for", "refused", "taken_over"]
    page = rita.get(f"/reviews/{review.pk}/").content.decode()
    assert "Tom Achebe took this case over from you at" in page
    assert re.search(r'id="approve"[^>]* disabled', page)


def test_the_holder_keeps_it_or_gives_it(as_):
    review, rita, tom = waiting(), as_("rita"), as_("tom")
    does(rita, "claim", review)
    does(tom, "ask", review)
    does(rita, "keep", review)
    assert does(tom, "take", review).status_code == 409
    does(tom, "ask", review)
    does(tom, "give", review)  # not his to give
    assert holder(review) == "rita"
    does(rita, "give", review)
    assert holder(review) == "tom"
    assert ends_in(review) <= 60


def test_of_two_who_ask_the_first_is_answered_first(as_, cast):
    review = waiting()
    cast.stan.groups.set(cast.rita.groups.all())
    does(as_("rita"), "claim", review)
    does(as_("tom"), "ask", review)
    refused = does(as_("stan"), "ask", review)
    assert (refused.status_code, b"Tom Achebe has asked" in refused.content) == (409, True)
    shift(review, claim_asked_at=121)
    does(as_("stan"), "ask", review)
    review.refresh_from_db()
    assert review.claim_asked_by == cast.stan


@pytest.mark.parametrize(("groups", "then"), [(True, "mara"), (False, None)])
def test_an_admin_takes_over_at_once_or_frees_what_they_may_not_decide(as_, cast, groups, then):
    review = waiting()
    if groups:
        cast.mara.groups.set(cast.rita.groups.all())
    does(as_("rita"), "claim", review)
    assert does(as_("mara"), "take", review).status_code == 302
    assert holder(review) == then
    assert told(review) == ["claimed", "taken_over"]


@pytest.mark.parametrize("name", ["ada", "mara", "stan"])
def test_nobody_claims_what_they_may_not_decide(as_, name):
    review = waiting()
    for act in ("claim", "ask"):
        assert does(as_(name), act, review).status_code in {403, 404}
    assert holder(review) is None


@pytest.mark.parametrize("lost", ["account", "queue"])
def test_the_claim_of_somebody_who_may_not_decide_any_more_counts_no_more(as_, cast, lost):
    review, tom = waiting(), as_("tom")
    does(as_("rita"), "claim", review)
    cast.rita.groups.clear() if lost == "queue" else None
    get_user_model().objects.filter(pk=cast.rita.pk).update(is_active=lost != "account")
    assert desk_actions.free_ended() == 1
    assert told(review) == ["claimed", "released"]
    later = timezone.now() + 60 * SECOND
    Review.objects.filter(pk=review.pk).update(claimed_by=cast.rita, claimed_until=later)
    assert does(tom, "decide", review, **form_of(review)).status_code == 302


def test_the_sweeper_frees_what_ran_out_and_says_why(as_):
    gone, kept = waiting(), waiting()
    does(as_("rita"), "claim", gone)
    does(as_("tom"), "claim", kept)
    shift(gone, claimed_until=301)
    assert desk_actions.free_ended() == 1
    assert (holder(gone), holder(kept)) == (None, "tom")
    last = AuditEntry.objects.filter(review=gone).order_by("-id").first()
    assert (last.actor_name, last.action, last.note) == ("worker", "released", "the lease ran out")
    assert desk_actions.free_ended() == 0


def test_a_case_that_moved_on_is_nobodys(as_):
    review = waiting()
    does(as_("rita"), "claim", review)
    other_program_updates(review, agent_response="The agent thought again.")
    capture_all()
    review.refresh_from_db()
    assert (review.status, review.claimed_by) == ("superseded", None)
    assert does(as_("tom"), "claim", review).status_code == 409


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean")
def test_fifty_people_take_two_hundred_cases_at_once_and_each_case_goes_to_one(cast):
    crowd(200)
    taken = everybody_takes_next(crew(cast, 50))
    assert sorted(Counter(taken).values()) == [1] * 200
    assert AuditEntry.objects.filter(action="claimed").count() == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clean")
def test_of_twenty_who_claim_one_case_at_once_one_has_it(cast):
    (review,) = crowd(1)
    won: list[str] = []

    def claim(user: Any) -> None:
        try:
            desk_actions.claim(Actor(user, user.username), review.pk)
            won.append(user.username)
        except Held:
            pass

    at_once(claim, crew(cast, 20))
    assert won == [holder(review)]


def crew(cast: SimpleNamespace, number: int) -> list[Any]:
    """So many reviewers of the same queues as rita."""
    made = get_user_model().objects.bulk_create(
        get_user_model()(username=f"reviewer-{n}", password="!") for n in range(number)
    )
    for group in cast.rita.groups.all():
        group.user_set.add(*made)
    return made


def everybody_takes_next(people: list[Any]) -> list[int]:
    """Each takes the next case until there is none that they do not have."""
    taken: list[int] = []

    def work(user: Any) -> None:
        mine: list[int] = []
        while found := desk_actions.next_review(
            Actor(user, user.username), Review.objects.all(), besides=mine
        ):
            mine.append(found.pk)
        taken.extend(mine)

    at_once(work, people)
    return taken


def at_once(act: Any, people: list[Any]) -> None:
    ready, failed = threading.Barrier(len(people)), []

    def run(user: Any) -> None:
        try:
            ready.wait()
            act(user)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[user]) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
