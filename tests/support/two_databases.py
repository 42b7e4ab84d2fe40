"""The settings of the service, with a second database beside the first."""

from asgi_app.settings import *  # noqa: F403
from asgi_app.settings import DATABASES as _ONE
from asgi_app.settings import ENV as _ENV

DATABASES = {**_ONE, "other": {**_ONE["default"], "NAME": str(_ENV.home / "other.sqlite3")}}
