"""Audit entries in words: a headline each, for people who were not there."""

from approvals.models import AuditEntry

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
}
_DECIDED = {"approve": "{who} approved it as drafted", "edit": "{who} approved with an edit"}
# Entries whose note says more than their headline does.
NOTED = {_A.MOVED, _A.FAILED, _A.SUPERSEDED, _A.REFUSED, _A.SIGN_IN_FAILED}


def headline(entry: AuditEntry) -> str:
    """What happened, in one clause."""
    if entry.action == _A.DECIDED:
        said = _DECIDED.get(entry.note, "{who} decided")
    else:
        said = _SAID[_A(entry.action)]
    return said.format(who=entry.actor_name or "Somebody", note=entry.note)


def remark(entry: AuditEntry) -> str:
    """The rest of what the entry's note says, where the headline leaves it out."""
    return entry.note if entry.action in NOTED else ""
