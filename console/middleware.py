"""Two small bends of what Django and its packages do to every request."""

from collections.abc import Callable
from typing import Any

from csp.constants import SELF
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect

from approvals.pages import signed_out, written


class SignInRequired(LoginRequiredMiddleware):
    """Asks for a sign-in everywhere but where a view says otherwise.

    /health must not read the session, so the view is asked first. A part of a page that is asked
    for after the session's end takes the whole page to the sign-in, and back afterwards.
    """

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        if not getattr(view, "login_required", True):
            return None
        return super().process_view(request, view, args, kwargs)

    def handle_no_permission(self, request: HttpRequest, view: Any) -> Any:
        if request.htmx:  # type: ignore[attr-defined]
            here = request.htmx.current_url_abs_path or "/"  # type: ignore[attr-defined]
            login = resolve_url(self.get_login_url(view))
            return HttpResponseClientRedirect(f"{login}?{urlencode({'next': here})}")
        if request.method == "POST" and written(request):
            return signed_out(request)
        return super().handle_no_permission(request, view)


def admin_scripts(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Django's admin knows no nonce; there, and only there, its own files may run."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path.startswith(reverse("admin:index")):
            response._csp_update = {"script-src": SELF}  # type: ignore[attr-defined]
        return response

    return middleware
