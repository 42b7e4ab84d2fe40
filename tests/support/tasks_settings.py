"""Settings with several entries of TASKS, as a user would write them (Django 6)."""

from asgi_app.settings import *  # noqa: F403

_OURS = "asgi_app.django_tasks.MillpondBackend"

TASKS = {
    "default": {"BACKEND": _OURS},
    "retrying": {"BACKEND": _OURS, "OPTIONS": {"retries": 1}},
    "hasty": {"BACKEND": _OURS, "OPTIONS": {"time_limit": 1}},
}
