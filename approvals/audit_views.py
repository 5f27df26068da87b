"""The audit trail's page: a list that one typed line filters, and an entry beside it."""

from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from approvals import audit_search, wording
from approvals.models import AuditEntry
from approvals.paging import as_int
from approvals.policies import Policy

ROWS = 50
STORY = 200  # entries of one thread beside one of them


@require_safe
def audit_trail(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    policy = Policy(request.user)
    if not policy.sees_audit:
        raise Http404
    line = request.GET.get("q", "")[:500]
    terms = audit_search.parse(line)
    entries = audit_search.apply(policy.audit().select_related("review"), terms)
    entries = entries.defer("review__snapshot", "review__search", "before", "after")
    if older := as_int(request.GET.get("older", "")):
        entries = entries.filter(pk__lt=older)
    rows = list(entries[: ROWS + 1])
    entry = _entry(policy, pk)
    context = {
        "policy": policy,
        "section": "audit",
        "q": line,
        "terms": terms,
        "rows": [(row, wording.headline(row), wording.remark(row)) for row in rows[:ROWS]],
        "older": rows[ROWS - 1].pk if len(rows) > ROWS else None,
        "actions": AuditEntry.Action.values,
        **entry,
    }
    return render(request, "audit.html", context)


def _entry(policy: Policy, pk: int | None) -> dict[str, Any]:
    if pk is None:
        return {"entry": None}
    found = (
        policy.audit()
        .select_related("review", "actor")
        .defer("review__snapshot", "review__search")
        .filter(pk=pk)
        .first()
    )
    if found is None:
        raise Http404
    same = Q(thread_id=found.thread_id) if found.thread_id else Q(pk=found.pk)
    story = list(policy.audit().filter(same).defer("before", "after").order_by("id")[:STORY])
    keys = list({**(found.before or {}), **(found.after or {})})
    return {
        "entry": found,
        "headline": wording.headline(found),
        "remark": wording.remark(found),
        "story": [(one, wording.headline(one), wording.remark(one)) for one in story],
        "changed": [(k, (found.before or {}).get(k), (found.after or {}).get(k)) for k in keys],
        "thread_query": urlencode({"q": f'thread:"{found.thread_id}"'}),
    }
