"""The settings mypy reads the models from: Millpond's, with the demo and the tests' own package installed."""

import os

os.environ.setdefault("MILLPOND_APPS", "asgi_app.demo,tests.support.app,tests.chaos.crashes.declared")

from asgi_app.settings import *  # noqa: F403  (the environment first)
