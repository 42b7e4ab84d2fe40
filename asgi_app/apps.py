"""Millpond as a Django application: when it is ready, every declaration is known and checked."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string


class AsgiAppConfig(AppConfig):
    name = "asgi_app"
    label = "millpond"
    verbose_name = "Millpond"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from importlib.util import find_spec

        from asgi_app import invalidation, rights, stores
        from asgi_app.env import env
        from asgi_app.registry import registry

        # So that a `shared_task` of the user's means our application in each process that has Django.
        import_string(settings.MILLPOND_CELERY)
        stores.check(env().cache_store)
        post_migrate.connect(_make_cache_table, sender=self)
        invalidation.watch_connections()
        rights.watch()
        registry.load(env().apps)
        if find_spec("django.tasks"):  # Django 6
            from asgi_app import django_tasks

            django_tasks.declare()


def _make_cache_table(using: str, **_: Any) -> None:
    """A cache in the database has a table of no model; it is made where the others are."""
    from asgi_app import stores
    from asgi_app.env import env

    stores.make_table(env(), using)
