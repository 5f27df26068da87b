"""Audit entries in words: a headline each, for people who were not there."""

from approvals.models import AuditEntry, Decision, Review

_A = AuditEntry.Action
_SAID = {
    _A.SIGNED_IN: "{who} signed in",
    _A.SIGN_IN_FAILED: "Sign-in failed for {who}",
    _A.SIGNED_OUT: "{who} signed out",
    _A.PAUSED: "Paused {note}",
    _A.MOVED: "Left the queue",
    _A.OPENED: "{who} opened it",
    _A.UNDONE: "{who} took the decision back",
    _A.APPLIED: "Decision applied to the thread",
    _A.FINISHED: "Run finished",
    _A.PAUSED_AGAIN: "Run paused again",
    _A.FAILED: "Run failed",
    _A.SUPERSEDED: "Another program moved the thread",
    _A.RETRIED: "{who} retried the run",
    _A.REFUSED: "{who} was refused",
    _A.STALLED: "Run broke off {note}",
    _A.CONTINUED: "{who} had the run go on",
    _A.ENDED: "{who} ended the run",
    _A.DELETED: "{who} deleted the thread",
    _A.FORKED: "{who} ran it again {note}",
    _A.FORK_SEEN: "The thread forked",
    _A.CLAIMED: "{who} took it on",
    _A.RELEASED: "{who} handed it back",
    _A.ASKED_FOR: "{who} asked to take it over",
    _A.TAKEN_OVER: "{who} took it over",
    _A.ASSIGNED: "{who} assigned it {note}",
    _A.SNOOZED: "{who} put it off {note}",
    _A.WOKEN: "It came back to the queue",
    _A.NOTED: "{who} left a note",
    _A.SETTINGS: "{who} changed {note}",
}
# What a person did, after their name; and the same as the beginning of a sentence.
_DID = {
    "approve": ("approved it as drafted", "Approved"),
    "edit": ("approved with an edit", "Approved"),
    "reject": ("rejected it", "Rejected"),
    "send_back": ("sent it back", "Sent back"),
    "respond": ("answered it", "Answered"),
    "mixed": ("decided its calls one by one", "Decided"),
    "continue": ("had the run go on", "Continued"),
    "rerun": ("ran it again from a checkpoint", "Run again"),
}
_ENDED = {
    "applied": "The run goes on",
    "finished": "{done}, and the run finished",
    "paused": "{done}; the run paused again",
    "failed": "{done}, but the run failed",
}
ASKED = "asks in"
_WAITS = {"before": "paused before", "after": "paused after", "question": ASKED}


def did(action: str) -> str:
    """What somebody did, to follow their name."""
    return _DID.get(action, ("decided", ""))[0]


def done(action: str) -> str:
    """The same in a word or two: Approved, Sent back."""
    return _DID.get(action, ("", "Decided"))[1]


def standing(decision: Decision, mine: bool) -> str:
    """Where a decision stands, as the heading over its run."""
    who = "You" if mine else decision.actor.get_full_name() or decision.actor.get_username()
    finished = done(decision.action)
    if decision.state == Decision.State.PENDING:
        return f"{who} {did(decision.action)}"
    if decision.is_stuck:
        return f"{finished}, but it could not be applied"
    if decision.state == Decision.State.SUPERSEDED:
        applied = f"{finished} and applied; the thread was then moved on"
        return applied if decision.checkpoint_applied else "Not applied: the thread had moved"
    return _ENDED.get(decision.state, "{done}").format(done=finished)


def waits(review: Review) -> str:
    """How the run came to wait, to be followed by the node's name."""
    if review.kind == Review.Kind.STALLED:
        return "failed in" if review.excerpt else "broke off before"
    return _WAITS.get(review.kind, "paused before")


# Entries whose note says more than their headline does.
NOTED = {
    *(_A.MOVED, _A.FAILED, _A.SUPERSEDED, _A.REFUSED, _A.RETRIED),
    *(_A.SIGN_IN_FAILED, _A.FORK_SEEN),
}


def headline(entry: AuditEntry) -> str:
    """What happened, in one clause."""
    decided = entry.action == _A.DECIDED
    said = "{who} " + did(entry.note) if decided else _SAID[_A(entry.action)]
    return said.format(who=entry.actor_name or "Somebody", note=entry.note)


def remark(entry: AuditEntry) -> str:
    """The rest of what the entry's note says, where the headline leaves it out."""
    return entry.note if entry.action in NOTED else ""
