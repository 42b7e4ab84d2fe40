"""Inboxes in the admin, to be looked at.

Invariant: nothing is changed here, and no single notification deleted: its readers go by the numbers having no hole.
They may be deleted with the user they belong to, which is why it is not the permission that forbids it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from asgi_app.models import Alert, Inbox, Notification

if TYPE_CHECKING:
    _InboxAdmin = admin.ModelAdmin[Inbox]
    _NotificationAdmin = admin.ModelAdmin[Notification]
    _AlertAdmin = admin.ModelAdmin[Alert]
else:
    _InboxAdmin = _NotificationAdmin = _AlertAdmin = admin.ModelAdmin


class _OnlyLookedAt:
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Inbox)
class InboxAdmin(_OnlyLookedAt, _InboxAdmin):
    list_display = ("principal", "user", "last")
    list_select_related = ("user",)
    search_fields = ("principal",)
    ordering = ("principal",)
    fields = readonly_fields = ("principal", "user", "epoch", "last")


@admin.register(Notification)
class NotificationAdmin(_OnlyLookedAt, _NotificationAdmin):
    list_display = ("number", "inbox", "title", "level", "created_at", "read_at", "replaced")
    list_filter = ("level",)
    list_select_related = ("inbox",)
    search_fields = ("inbox__principal",)
    search_help_text = "The id of a user."
    ordering = ("-id",)
    show_full_result_count = False
    actions = None
    fields = readonly_fields = (
        "inbox",
        "number",
        "title",
        "body",
        "level",
        "data",
        "created_at",
        "expires_at",
        "read_at",
        "replaces",
        "replaced",
    )

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise PermissionDenied

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "show_delete": False})


@admin.register(Alert)
class AlertAdmin(_OnlyLookedAt, _AlertAdmin):
    """Deleting one lets its rule tell anew."""

    list_display = ("topic", "raised", "changed_at")
    list_filter = ("raised",)
    search_fields = ("topic",)
    ordering = ("topic",)
    fields = readonly_fields = ("topic", "raised", "epoch", "offset", "changed_at")
