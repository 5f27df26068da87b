"""The language of a page: the person's own, else the browser's.

A profile is not read for every request: signing in puts its language into Django's cookie, or
clears what the person before left there, and the profile page changes both.
"""

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils.cache import patch_vary_headers

from approvals.languages import remember


class Languages(LocaleMiddleware):
    """Before the gate: also the page that turns somebody away is in their language."""

    def process_response(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        patch_vary_headers(response, ["Cookie"])
        answer: HttpResponseBase = super().process_response(request, response)
        language = getattr(request, "signed_in_language", None)
        if language is not None:
            remember(answer, language)
        return answer


@receiver(user_logged_in)
def signed_in(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    profile = getattr(user, "profile", None)
    request.signed_in_language = profile.language if profile else ""  # type: ignore[attr-defined]
