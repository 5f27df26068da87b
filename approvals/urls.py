from django.contrib.auth.views import LogoutView
from django.urls import path

from approvals import audit_views, views
from approvals.consumers import NudgeConsumer

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("sign-in", views.SignInView.as_view(), name="login"),
    path("sign-out", LogoutView.as_view(), name="logout"),
    path("reviews/<int:pk>/", views.review, name="review"),
    path("reviews/<int:pk>/decide", views.decide, name="decide"),
    path("reviews/<int:pk>/redline", views.redline, name="redline"),
    path("decisions/<uuid:pk>/undo", views.undo, name="undo"),
    path("decisions/<uuid:pk>/retry", views.retry, name="retry"),
    path("audit/", audit_views.audit_trail, name="audit"),
    path("audit/<int:pk>/", audit_views.audit_trail, name="audit_entry"),
]

websocket_urlpatterns = [path("nudges", NudgeConsumer.as_asgi())]
