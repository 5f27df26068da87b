"""Saved replies: the page on which people list, write and delete them."""

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from approvals import reply_actions
from approvals.audit import Actor
from approvals.errors import NotAllowed
from approvals.models import SavedReply
from approvals.pages import forbidden
from approvals.policies import Policy
from approvals.saved_replies import may_change, shown_to
from approvals.storable import Refused, one_newline, refuse_broken_text

MINE = "mine"
LONGEST = 20_000


class ReplyForm(forms.Form):
    """A saved reply. `place` says who has it and where: "mine" or "shared", and the queue."""

    title = forms.CharField(label=gettext_lazy("Title"), max_length=120)
    text = forms.CharField(
        label=gettext_lazy("Text"), max_length=LONGEST, strip=False, widget=forms.Textarea
    )
    place = forms.ChoiceField(label=gettext_lazy("Who has it"))

    def __init__(self, policy: Policy, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        place: Any = self.fields["place"]
        place.choices = places(policy)

    def clean_text(self) -> str:
        text = one_newline(self.cleaned_data["text"])
        try:
            refuse_broken_text(text)
        except Refused as wrong:
            raise forms.ValidationError(str(wrong)) from None
        return text

    def into(self, reply: SavedReply, user: Any) -> SavedReply:
        scope, _colon, graph = self.cleaned_data["place"].partition(":")
        reply.title, reply.text = self.cleaned_data["title"], self.cleaned_data["text"]
        reply.owner, reply.graph = (user if scope == MINE else None), graph
        return reply


def places(policy: Policy) -> list[tuple[str, str]]:
    """The places that this person may put a saved reply in."""
    found = [(f"{MINE}:", _("Only you, in every queue"))]
    found += [(f"{MINE}:{q}", _("Only you, in %(queue)s") % {"queue": q}) for q in policy.queues]
    shared = policy.listed_queues if policy.tends_runs else policy.queues
    found += [(f"shared:{q}", _("Everybody in %(queue)s") % {"queue": q}) for q in shared]
    return [*found, ("shared:", _("Everybody, in every queue"))] if policy.tends_runs else found


@require_http_methods(["GET", "HEAD", "POST"])
def replies(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """The list, beside the form of a new one or of `pk`."""
    policy = Policy(request.user)
    reply = _mine(policy, pk) if pk else SavedReply(owner_id=policy.user.pk)
    form = ReplyForm(policy, request.POST or None, initial=_initial(reply))
    if request.method == "POST" and form.is_valid():
        try:
            reply_actions.put(Actor.of(request), form.into(reply, request.user))
        except NotAllowed:
            return forbidden(request)
        return redirect("replies")
    status = 422 if form.is_bound else 200
    return render(request, "replies.html", _page(policy, form, pk), status=status)


def _page(policy: Policy, form: ReplyForm, pk: int | None) -> dict[str, Any]:
    listed = list(shown_to(policy))
    return {
        "policy": policy,
        "form": form,
        "current": pk,
        "mine": [one for one in listed if one.owner_id is not None],
        "shared": [(one, may_change(policy, one)) for one in listed if one.owner_id is None],
        "may_write": not policy.is_auditor,
    }


def _initial(reply: SavedReply) -> dict[str, str]:
    scope = MINE if reply.owner_id is not None else "shared"
    return {"title": reply.title, "text": reply.text, "place": f"{scope}:{reply.graph}"}


def _mine(policy: Policy, pk: int) -> SavedReply:
    found = shown_to(policy).filter(pk=pk).first()
    if found is None or not may_change(policy, found):
        raise Http404
    return found


@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        reply_actions.remove(Actor.of(request), pk)
    except NotAllowed:
        return forbidden(request)
    return redirect("replies")
