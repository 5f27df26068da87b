from django.contrib import admin
from django.urls import include, path

from console import health

urlpatterns = [
    path("health", health.health, name="health"),
    path("ready", health.ready, name="ready"),
    path("admin/", admin.site.urls),
    path("", include("approvals.urls")),
]

handler400 = "approvals.pages.bad_request"
handler403 = "approvals.pages.forbidden"
handler404 = "approvals.pages.not_found"
handler500 = "approvals.pages.server_error"
