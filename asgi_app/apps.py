"""Millpond as a Django application: when it is ready, every declaration is known and checked."""

from __future__ import annotations

from django.apps import AppConfig


class AsgiAppConfig(AppConfig):
    name = "asgi_app"
    label = "millpond"
    verbose_name = "Millpond"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from asgi_app.env import env
        from asgi_app.registry import registry

        registry.load(env().apps)
