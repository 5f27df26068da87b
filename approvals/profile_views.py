"""The profile page, and the quick switch of the theme."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

from approvals.languages import remember
from approvals.models import Profile
from approvals.policies import Policy
from approvals.profile_actions import set_profile
from approvals.profile_form import ProfileForm
from approvals.profiles import profile_of

SAVED = "saved"


@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _page(request, ProfileForm(profile_of(request.user)))
    form = ProfileForm(profile_of(request.user), request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    saved = set_profile(request.user, **form.values)
    answer = redirect(_saved())
    remember(answer, saved.language)
    return answer


def _page(request: HttpRequest, form: ProfileForm, status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {
        "form": form,
        "policy": Policy(request.user),
        "saved": SAVED in request.GET,
        "section": "profile",
    }
    return render(request, "profile.html", context, status=status)


def _saved() -> str:
    return f"{reverse('profile')}?{SAVED}"


@require_http_methods(["GET", "HEAD", "POST"])
def usual_keys(request: HttpRequest) -> HttpResponse:
    """Takes back every change of a key."""
    if request.method != "POST":
        return redirect("profile")
    set_profile(request.user, keys={})
    return redirect(_saved())


@require_http_methods(["GET", "HEAD", "POST"])
def theme(request: HttpRequest) -> HttpResponse:
    """The switch in the account menu: back to the page it was pressed on."""
    chosen = request.POST.get("theme", "")
    if request.method != "POST" or chosen not in Profile.Theme.values:
        return redirect("profile")
    set_profile(request.user, theme=chosen)
    here = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(here, {request.get_host()}, request.is_secure())
    return redirect(here if safe else "inbox")
