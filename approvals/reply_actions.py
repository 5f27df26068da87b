"""The writer of saved replies. What others see as well is audited; a person's own is not."""

from typing import Any

from approvals import audit
from approvals.actions import refusing
from approvals.audit import Actor
from approvals.errors import NotAllowed
from approvals.models import AuditEntry, SavedReply
from approvals.policies import Policy
from approvals.saved_replies import may_change, shown_to


def put(actor: Actor, reply: SavedReply) -> SavedReply:
    """A new saved reply, or a changed one. Raises NotAllowed."""
    with refusing(actor):
        policy = Policy(actor.user)
        before = _locked(policy, reply.pk) if reply.pk else None
        lost = reply.pk and before is None  # deleted meanwhile, or made somebody's own
        if lost or not all(may_change(policy, one) for one in (reply, before) if one):
            raise NotAllowed("This saved reply is not yours to change.")
        told = _told(before), _told(reply)
        reply.save()
        _audit(actor, *told)
        return reply


def remove(actor: Actor, reply_id: int) -> None:
    with refusing(actor):
        policy = Policy(actor.user)
        reply = _locked(policy, reply_id)
        if reply is None or not may_change(policy, reply):
            raise NotAllowed("This saved reply is not yours to delete.")
        told = _told(reply)
        reply.delete()
        _audit(actor, told, None)


def _locked(policy: Policy, reply_id: int) -> SavedReply | None:
    return shown_to(policy).select_for_update(no_key=True).filter(pk=reply_id).first()


def _told(reply: SavedReply | None) -> dict[str, Any] | None:
    if reply is None or reply.owner_id is not None:
        return None
    return {"title": reply.title, "text": reply.text, "graph": reply.graph}


def _audit(actor: Actor, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    if before != after:
        title = (after or before or {})["title"]
        note = f"Saved reply: {title}"
        audit.record(actor, AuditEntry.Action.SETTINGS, before=before, after=after, note=note)
