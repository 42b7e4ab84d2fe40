"""What the staff sees and edits in Django's admin."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from asgi_app import (
    admin_inboxes,  # noqa: F401  (what it registers)
    admin_webhooks,  # noqa: F401
    api,
)
from asgi_app.errors import MillpondError
from asgi_app.models import Job, ScheduleEntry
from asgi_app.registry import Action

if TYPE_CHECKING:
    EntryAdmin = admin.ModelAdmin[ScheduleEntry]
    JobsAdmin = admin.ModelAdmin[Job]
else:  # Django's class takes no argument when it runs
    EntryAdmin = JobsAdmin = admin.ModelAdmin


@admin.register(ScheduleEntry)
class ScheduleEntryAdmin(EntryAdmin):
    list_display = ("name", "what", "times", "timezone", "enabled", "next_firing")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "what")
    readonly_fields = ("next_firing", "changed_at")
    actions = ("run_now",)
    fieldsets = (
        (None, {"fields": ("name", "enabled")}),
        ("What", {"fields": ("kind", "what", "params")}),
        ("When", {"fields": ("crontab", "timezone", "seconds", "next_firing")}),
        ("After a time without a scheduler", {"fields": ("catch_up", "lateness", "changed_at")}),
    )

    @admin.display(ordering="crontab")
    def times(self, entry: ScheduleEntry) -> str:
        return entry.crontab or f"every {entry.seconds:g} s"

    @admin.display()
    def next_firing(self, entry: ScheduleEntry) -> str:
        """By the clock of the entry's zone."""
        from asgi_app.scheduling import plans

        if entry.pk is None or not entry.enabled:
            return "–"
        try:
            due = plans.plan_of(entry).rule(time.time())
        except plans.Unplannable as error:
            return f"never: {error}"
        return datetime.fromtimestamp(due, ZoneInfo(entry.timezone)).strftime("%Y-%m-%d %H:%M:%S %Z")

    @admin.action(description="Run now", permissions=["change"])
    def run_now(self, request: HttpRequest, entries: QuerySet[ScheduleEntry]) -> None:
        """Beside the schedule, which goes on as it would."""
        from asgi_app.scheduling import plans

        for entry in entries:
            try:
                plan = plans.plan_of(entry)
                start = api.run if isinstance(plan.what, Action) else api.refresh
                job_id = start(plan.what.name, **entry.params)
            except (MillpondError, plans.Unplannable) as error:
                self.message_user(request, f"'{entry}' was not run: {error}", messages.ERROR)
            else:
                self.message_user(request, f"'{entry}' runs now{f', as job {job_id}' if job_id else ''}.")


@admin.register(Job)
class JobAdmin(JobsAdmin):
    """Runs of actions, to look at: only `asgi_app/ledger.py` writes them."""

    list_display = ("id", "name", "status", "owner", "queue", "created_at", "finished_at")
    list_filter = ("status", "name", "queue")
    search_fields = ("id",)
    search_help_text = "The whole id of a job."
    ordering = ("-id",)
    list_per_page = 50
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        """By the whole id: a search in the middle of ids would read all of them."""
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
