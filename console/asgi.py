"""The web process: pages over HTTP, nudges over one socket per browser tab."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connections

django_application = get_asgi_application()  # before anything that needs the apps

from approvals.urls import websocket_urlpatterns  # noqa: E402
from console.gate import Gate  # noqa: E402

KEEP_FOR = 300  # seconds in which a place uses the same connection
PATIENCE = 5  # seconds that a request waits for a place

# Kept, and asked whether it still lives before a request's first query: a restart of Postgres
# costs no request.
connections.databases["default"].update(CONN_MAX_AGE=KEEP_FOR, CONN_HEALTH_CHECKS=True)

application = ProtocolTypeRouter(
    {
        "http": Gate(
            django_application,
            places=settings.WEB_CONNECTIONS,
            patience=PATIENCE,
            longest=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
        ),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
        ),
    }
)
