"""A Django app, because it has a table."""

from django.apps import AppConfig


class CrashesConfig(AppConfig):
    name = "tests.chaos.crashes.declared"
    label = "crashes"
    default_auto_field = "django.db.models.BigAutoField"
