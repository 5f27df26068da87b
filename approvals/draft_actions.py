"""The writer of drafts. A person's own and private: neither audited nor told to other pages.

Every save names two numbers. `base` is the version that the tab last saw on the server; `version`
is the one it makes, counted by the tab, so that of two saves of one tab that overtook each other on
the way the later counts. A save over a version of another tab that this one has not seen overwrites
nothing: it is kept as a revision, and the person chooses.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction

from approvals.clock import database_now
from approvals.drafts import Fields
from approvals.errors import is_locked
from approvals.models import Draft, DraftRevision, Review

REVISION_EVERY = dt.timedelta(seconds=10)
MUCH = 80  # characters: what is deleted at once is kept as a revision, however young the last one
MOST_REVISIONS = 50
FORGET_AFTER = dt.timedelta(days=30)


@dataclass(frozen=True)
class Save:
    """What a tab sends: the texts as they are now, and what it knew of the server's."""

    fields: Fields
    digest: str
    tab: uuid.UUID
    base: int
    version: int


@dataclass(frozen=True)
class Saved:
    draft: Draft
    conflict: bool = False


def autosave(user: Any, review: Review, sent: Save) -> Saved:
    """Keeps what is sent: as the draft, or beside it where another tab was first."""
    with _waiting("3s"):
        return _autosave(user, review, sent)


def _autosave(user: Any, review: Review, sent: Save) -> Saved:
    now = database_now()
    draft, is_new = _locked(user, review, sent, now)
    if is_new or (draft.tab == sent.tab and sent.version <= draft.version):
        return Saved(draft)  # the latter was overtaken by a later save of its own tab
    if draft.fields == sent.fields:
        return Saved(_write(draft, sent, now))
    if draft.tab != sent.tab and draft.version != sent.base:
        _set_aside(draft, sent, now)
        return Saved(draft, conflict=True)
    _keep_revision(draft, sent, now)
    return Saved(_write(draft, sent, now))


@contextmanager
def _waiting(patience: str) -> Iterator[None]:
    """One transaction that waits so long for a lock, and no longer."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [patience])
        yield


def keep(user: Any, review: Review, fields: Fields, digest: str) -> None:
    """Keeps what a form was sent with. Nobody is asked which text: both are kept.

    It holds nobody up: where somebody has the row, the page that answers has the text as well.
    """
    try:
        with _waiting("1s"):
            draft = Draft.objects.filter(user=user, review=review).first()
            if (draft.fields if draft else {}) != fields:
                base = draft.version if draft else 0
                _autosave(user, review, Save(fields, digest, uuid.uuid4(), base, base + 1))
    except OperationalError as error:
        if not is_locked(error):
            raise


def restore(user: Any, review: Review, revision_id: int) -> Draft | None:
    """Makes an earlier state the present one, which becomes a revision; None if it is not there."""
    with transaction.atomic():
        mine = DraftRevision.objects.filter(draft__user=user, draft__review=review)
        chosen = mine.filter(pk=revision_id).first()
        if chosen is None:
            return None
        draft = Draft.objects.select_for_update(no_key=True).get(pk=chosen.draft_id)
        _revise(draft)
        # By no tab: every open one learns of it by the version.
        again = Save(chosen.fields, draft.digest, uuid.uuid4(), draft.version, draft.version + 1)
        return _write(draft, again, database_now())


def forget_old() -> int:
    """Removes drafts of reviews that nobody can decide any more, a month after their last save:
    until then an undo, a retry or a look back finds them."""
    old = Draft.objects.filter(saved_at__lt=database_now() - FORGET_AFTER)
    ended = old.filter(review__status__in=[Review.Status.DECIDED, Review.Status.SUPERSEDED])
    return ended.delete()[0]


def _locked(user: Any, review: Review, sent: Save, now: dt.datetime) -> tuple[Draft, bool]:
    given = {"fields": sent.fields, "digest": sent.digest, "tab": sent.tab}
    given |= {"version": max(sent.version, 1), "saved_at": now}
    rows = Draft.objects.select_for_update(no_key=True)
    return rows.get_or_create(user=user, review=review, defaults=given)


def _write(draft: Draft, sent: Save, now: dt.datetime) -> Draft:
    draft.fields, draft.digest, draft.tab = sent.fields, sent.digest, sent.tab
    # Never a number that another tab may know as something else.
    draft.version = max(sent.version, draft.version + 1)
    draft.saved_at = now
    draft.save()
    return draft


def _keep_revision(draft: Draft, sent: Save, now: dt.datetime) -> None:
    """One about every ten seconds; and whatever much is taken away from, or by another tab."""
    last = draft.revisions.first()
    recent = last is not None and now - last.saved_at < REVISION_EVERY
    lost = sum(map(len, draft.fields.values())) - sum(map(len, sent.fields.values()))
    if not recent or lost >= MUCH or draft.tab != sent.tab:
        _revise(draft)


def _revise(draft: Draft) -> None:
    """Keeps the draft as it stands, and the newest fifty of what was kept."""
    if not draft.fields:
        return
    draft.revisions.create(
        fields=draft.fields, version=draft.version, tab=draft.tab, saved_at=draft.saved_at
    )
    surplus = draft.revisions.values_list("pk", flat=True)[MOST_REVISIONS:]
    draft.revisions.filter(pk__in=list(surplus)).delete()


def _set_aside(draft: Draft, sent: Save, now: dt.datetime) -> None:
    """Keeps the text of the tab that came second. It may be typed on: one revision of it is kept,
    the newest."""
    made = {"fields": sent.fields, "version": sent.version, "saved_at": now}
    # What the tab wrote beyond the last version that it saw is nothing but what was set aside.
    aside = draft.revisions.filter(tab=sent.tab, version__gt=sent.base).first()
    if aside is None:
        draft.revisions.create(tab=sent.tab, **made)
    else:
        draft.revisions.filter(pk=aside.pk, version__lt=sent.version).update(**made)
