"""The demo as a Django app."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """Installed like an app of your own, by `MILLPOND_APPS`; its `resources` module is found by its name."""

    name = "asgi_app.demo"
    label = "demo"
    verbose_name = "Flights of 2013"
    default_auto_field = "django.db.models.BigAutoField"
