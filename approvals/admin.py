"""Django's admin manages accounts. Reviews, decisions and the audit trail can only be looked at."""

from typing import Any

from django.contrib import admin
from procrastinate.contrib.django.models import ProcrastinateJob

from approvals.models import AuditEntry, Decision, Review

# Its actions would cancel or repeat the jobs of decisions, and no entry would tell of it.
for _model in (ProcrastinateJob,):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


class ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(Review)
class ReviewAdmin(ReadOnly):
    list_display = ("title", "graph", "status", "risk", "waiting_since")
    list_filter = ("status", "graph")


@admin.register(Decision)
class DecisionAdmin(ReadOnly):
    list_display = ("id", "review", "actor", "action", "state", "decided_at")
    list_filter = ("state", "action")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = ("id", "at", "actor_name", "action", "thread_id")
    list_filter = ("action",)
