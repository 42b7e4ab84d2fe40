"""Which view answers which path."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import path

from asgi_app.views import (
    actions,
    connection,
    inbox,
    jobs,
    notifications,
    openapi,
    ops,
    pages,
    resources,
    watch,
    webhooks,
)

handler400 = "asgi_app.views.faults.bad_request"
handler403 = "asgi_app.views.faults.forbidden"
handler404 = "asgi_app.views.faults.not_found"
handler500 = "asgi_app.views.faults.server_error"

urlpatterns = [
    path("", pages.dashboards, name="dashboards"),
    path("jobs", pages.jobs, name="jobs"),
    path("inbox", inbox.inbox, name="inbox"),
    path("watch", watch.page, name="watch"),
    path("login", pages.Login.as_view(), name="login"),
    path("logout", LogoutView.as_view(next_page="/"), name="logout"),
    path("api/v1/resources", resources.listing),
    path("api/v1/resources/<str:name>", resources.detail),
    path("api/v1/resources/<str:name>/refresh", resources.refresh),
    path("api/v1/jobs", jobs.listing),
    path("api/v1/jobs/<str:job_id>", jobs.detail),
    path("api/v1/jobs/<str:job_id>/retry", jobs.retry),
    path("api/v1/jobs/<str:job_id>/discard", jobs.discard),
    path("api/v1/actions/<str:name>", actions.run),
    path("api/v1/invalidate", actions.invalidate),
    path("api/v1/publish", actions.publish),
    path("api/v1/notifications", notifications.listing),
    path("api/v1/notifications/read", notifications.read),
    path("api/v1/connection/token", connection.token),
    path("api/v1/watch", watch.detail),
    path("api/v1/openapi.json", openapi.describe),
    path("api/v1/docs", openapi.docs, name="docs"),
    path("api/v1/webhooks", webhooks.listing),
    path("api/v1/webhooks/<str:webhook_id>", webhooks.detail),
    path("api/v1/webhooks/<str:webhook_id>/rotate", webhooks.rotate),
    path("api/v1/webhooks/<str:webhook_id>/test", webhooks.test),
    path("api/v1/webhooks/<str:webhook_id>/deliveries", webhooks.deliveries),
    path("api/v1/webhooks/<str:webhook_id>/deliveries/<str:delivery_id>/redeliver", webhooks.redeliver),
    path("livez", ops.livez),
    path("readyz", ops.readyz),
    path("metrics", ops.metrics),
    path("admin/", admin.site.urls),
]
