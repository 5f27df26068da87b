"""Audit entries in words: a headline each, for people who were not there."""

from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from approvals.models import AuditEntry, Decision, Review
from approvals.sentences import told

_A = AuditEntry.Action
_SAID = {
    _A.SIGNED_IN: _("{who} signed in"),
    _A.SIGN_IN_FAILED: _("Sign-in failed for {who}"),
    _A.SIGNED_OUT: _("{who} signed out"),
    _A.PAUSED: _("Paused {note}"),
    _A.MOVED: _("Left the queue"),
    _A.OPENED: _("{who} opened it"),
    _A.UNDONE: _("{who} took the decision back"),
    _A.APPLIED: _("Decision applied to the thread"),
    _A.FINISHED: _("Run finished"),
    _A.PAUSED_AGAIN: _("Run paused again"),
    _A.FAILED: _("Run failed"),
    _A.SUPERSEDED: _("Another program moved the thread"),
    _A.RETRIED: _("{who} retried the run"),
    _A.REFUSED: _("{who} was refused"),
    _A.STALLED: _("Run broke off {note}"),
    _A.CONTINUED: _("{who} had the run go on"),
    _A.ENDED: _("{who} ended the run"),
    _A.DELETED: _("{who} deleted the thread"),
    _A.FORKED: _("{who} ran it again {note}"),
    _A.FORK_SEEN: _("The thread forked"),
    _A.CLAIMED: _("{who} took it on"),
    _A.RELEASED: _("{who} handed it back"),
    _A.ASKED_FOR: _("{who} asked to take it over"),
    _A.TAKEN_OVER: _("{who} took it over"),
    _A.ASSIGNED: _("{who} assigned it {note}"),
    _A.SNOOZED: _("{who} put it off {note}"),
    _A.WOKEN: _("It came back to the queue"),
    _A.NOTED: _("{who} left a note"),
    _A.SETTINGS: _("{who} changed {note}"),
}
# What a person did, whole: other languages have the verb elsewhere. Mine, theirs, in a word or two.
_DID = {
    "approve": (_("You approved it as drafted"), _("{who} approved it as drafted"), _("Approved")),
    "edit": (_("You approved with an edit"), _("{who} approved with an edit"), _("Approved")),
    "reject": (_("You rejected it"), _("{who} rejected it"), _("Rejected")),
    "send_back": (_("You sent it back"), _("{who} sent it back"), _("Sent back")),
    "respond": (_("You answered it"), _("{who} answered it"), _("Answered")),
    "mixed": (
        _("You decided its calls one by one"),
        _("{who} decided its calls one by one"),
        _("Decided"),
    ),
    "continue": (_("You had the run go on"), _("{who} had the run go on"), _("Continued")),
    "rerun": (
        _("You ran it again from a checkpoint"),
        _("{who} ran it again from a checkpoint"),
        _("Run again"),
    ),
    "": (_("You decided"), _("{who} decided"), _("Decided")),
}
_ENDED = {
    "applied": _("The run goes on"),
    "finished": _("{done}, and the run finished"),
    "paused": _("{done}; the run paused again"),
    "failed": _("{done}, but the run failed"),
}
_WAITS = {"before": _("paused before"), "after": _("paused after"), "question": _("asks in")}


def did(who: str, action: str) -> str:
    """What somebody did, as a sentence; "" is the reader."""
    mine, theirs, _done = _DID.get(action, _DID[""])
    return gettext(theirs).format(who=who) if who else gettext(mine)


def done(action: str) -> str:
    """The same in a word or two: Approved, Sent back."""
    return gettext(_DID.get(action, _DID[""])[2])


def standing(decision: Decision, mine: bool) -> str:
    """Where a decision stands, as the heading over its run."""
    who = "" if mine else decision.actor.get_full_name() or decision.actor.get_username()
    finished = done(decision.action)
    if decision.state == Decision.State.PENDING:
        return did(who, decision.action)
    if decision.is_stuck:
        return gettext("{done}, but it could not be applied").format(done=finished)
    if decision.state == Decision.State.SUPERSEDED:
        applied = gettext("{done} and applied; the thread was then moved on").format(done=finished)
        moved = gettext("Not applied: the thread had moved")
        return applied if decision.checkpoint_applied else moved
    ended = _ENDED.get(decision.state)
    return gettext(ended).format(done=finished) if ended else finished


def waits(review: Review) -> str:
    """How the run came to wait, to be followed by the node's name."""
    if review.kind == Review.Kind.STALLED:
        return gettext("failed in") if review.excerpt else gettext("broke off before")
    return gettext(_WAITS.get(review.kind, _WAITS["before"]))


# Entries whose note says more than their headline does.
NOTED = {
    *(_A.MOVED, _A.FAILED, _A.SUPERSEDED, _A.REFUSED, _A.RETRIED),
    *(_A.SIGN_IN_FAILED, _A.FORK_SEEN),
    *(_A.CLAIMED, _A.RELEASED),
}


def headline(entry: AuditEntry) -> str:
    """What happened, in one clause."""
    who = entry.actor_name or gettext("Somebody")
    if entry.action == _A.DECIDED:
        return did(who, entry.note)
    return gettext(_SAID[_A(entry.action)]).format(who=who, note=told(entry.note))


def remark(entry: AuditEntry) -> str:
    """The rest of what the entry's note says, where the headline leaves it out."""
    return told(entry.note) if entry.action in NOTED else ""


# The machine's own words, as the pages show them.
_WORDS = {
    *(_("input"), _("loop"), _("update"), _("fork"), _("replay")),
    *(_("added"), _("removed"), _("changed"), _("appended")),
    *(_("done"), _("running"), _("failed")),
    *(_("reject"), _("send_back"), _("respond")),
}
_RISK_VALUES = (_("low"), _("medium"), _("high"))
_RISKS = {"low": _("Low risk"), "medium": _("Medium risk"), "high": _("High risk")}


def word(text: str) -> str:
    """One of the machine's words for a person; any other stays as it is."""
    return gettext(text) if text in _WORDS else text


def risk(text: str) -> str:
    """ "High risk"; a graph may have its own words for it."""
    known = _RISKS.get(text.strip().lower())
    own = text[:1].upper() + text[1:]
    return gettext(known) if known else gettext("{level} risk").format(level=own)


def risk_value(text: str) -> str:
    """ "high", within a sentence."""
    return gettext(text) if text in _RISKS else text


def number(value: int) -> str:
    """With its thousands apart, as the reader's language has them."""
    return number_format(value, force_grouping=True)
