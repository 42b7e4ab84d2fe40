"""Webhooks in the admin: who is told, what was sent, and sending it again.

Invariant: a secret is never shown here, and a delivery is never edited: receivers know it by its signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from asgi_app import webhooks
from asgi_app.models import Webhook, WebhookDelivery

if TYPE_CHECKING:
    _WebhookAdmin = admin.ModelAdmin[Webhook]
    _DeliveryAdmin = admin.ModelAdmin[WebhookDelivery]
else:
    _WebhookAdmin = _DeliveryAdmin = admin.ModelAdmin


@admin.register(Webhook)
class WebhookAdmin(_WebhookAdmin):
    """Users make them over HTTP, where they are told the secret; here they are switched off and on."""

    list_display = ("id", "owner", "url", "actions", "active", "disabled_reason", "created_at")
    list_filter = ("active",)
    list_select_related = ("owner",)
    search_fields = ("url",)
    ordering = ("-id",)
    fields = ("owner", "url", "actions", "active", "disabled_reason", "created_at")
    readonly_fields = ("owner", "url", "actions", "created_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(_DeliveryAdmin):
    """What was and is to be sent."""

    list_display = ("id", "event", "webhook", "job", "status", "attempts", "due_at", "last_status", "last_error")
    list_filter = ("status", "event")
    search_fields = ("id",)
    search_help_text = "The whole id of a delivery, a webhook or a job."
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("redeliver",)

    @admin.action(description="Send again", permissions=["resend"])
    def redeliver(self, request: HttpRequest, chosen: QuerySet[WebhookDelivery]) -> None:
        """Those whose webhook is active; under their ids, as if for the first time."""
        ids = list(chosen.filter(webhook__active=True).values_list("pk", flat=True))
        count = WebhookDelivery.objects.filter(pk__in=ids).update(**webhooks.again())
        self.message_user(request, f"{count} will be sent again.")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Who could change deliveries, if anybody could."""
        return request.user.has_perm("millpond.change_webhookdelivery")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        """By whole ids, which are indexed."""
        if not search_term.strip():
            return queryset, False
        try:
            wanted = UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        return queryset.filter(Q(pk=wanted) | Q(webhook=wanted) | Q(job=wanted)), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> bool:
        return False
