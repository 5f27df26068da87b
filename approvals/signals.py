"""Sign-in, its failure and sign-out go into the audit trail."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from approvals import audit
from approvals.audit import Actor, address_of
from approvals.models import AuditEntry


@receiver(user_logged_in)
def signed_in(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    audit.record(Actor.of(request, user), AuditEntry.Action.SIGNED_IN)


@receiver(user_logged_out)
def signed_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        audit.record(Actor.of(request, user), AuditEntry.Action.SIGNED_OUT)


@receiver(user_login_failed)
def sign_in_failed(sender: Any, credentials: Any, request: Any = None, **kwargs: Any) -> None:
    """The name that was tried, never the password: Django has already taken it out."""
    tried = str(credentials.get("username", ""))[:150].replace("\x00", "\ufffd")
    audit.record(
        Actor(None, tried, address_of(request)),
        AuditEntry.Action.SIGN_IN_FAILED,
        note="Wrong name or password.",
    )
