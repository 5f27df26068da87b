from django.contrib.auth.views import LogoutView
from django.urls import path, re_path

from approvals import audit_views, history_views, run_views, value_views, views
from approvals.consumers import NudgeConsumer

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("sign-in", views.SignInView.as_view(), name="login"),
    path("sign-out", LogoutView.as_view(), name="logout"),
    path("reviews/<int:pk>/", views.review, name="review"),
    path("reviews/<int:pk>/decide", views.decide, name="decide"),
    path("reviews/<int:pk>/redline", views.redline, name="redline"),
    path("reviews/<int:pk>/compare", history_views.compare, name="compare"),
    path("reviews/<int:pk>/value", value_views.value, name="value"),
    path("reviews/<int:pk>/again/<str:checkpoint_id>", run_views.run_again, name="run_again"),
    re_path(r"^reviews/(?P<pk>\d+)/(?P<act>continue|end|delete)$", run_views.tend, name="tend"),
    path("stalled/", run_views.stalled, name="stalled"),
    path("decisions/<uuid:pk>/undo", views.undo, name="undo"),
    path("decisions/<uuid:pk>/retry", views.retry, name="retry"),
    path("audit/", audit_views.audit_trail, name="audit"),
    path("audit/<int:pk>/", audit_views.audit_trail, name="audit_entry"),
]

websocket_urlpatterns = [path("nudges", NudgeConsumer.as_asgi())]
