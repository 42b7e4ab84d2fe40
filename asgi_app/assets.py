"""Static files from where their packages keep them, so that an installed wheel needs no `collectstatic`.

Invariant: the files are listed once, at start; no request looks into a directory.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import AppDirectoriesFinder
from servestatic import ServeStaticASGI

#: Seconds a browser may keep a file without asking: short, as the names carry no version.
_MAX_AGE = 60


def serve_static(application: Any) -> Any:
    """`application` with the static files of all installed apps in front of it."""
    served = ServeStaticASGI(application, max_age=_MAX_AGE, allow_all_origins=False)
    for storage in AppDirectoriesFinder().storages.values():
        served.add_files(storage.location, prefix=settings.STATIC_URL)
    return served
