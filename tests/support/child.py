"""Code in a process of its own, with Django set up; it may die as processes do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_SETUP = """
import os, signal
import django; django.setup()
from django.contrib.auth.models import Group
from django.db import connection, transaction
from asgi_app import invalidate, invalidate_on, read, resource, wiring
from asgi_app.models import Outbox
"""


def run(code: str, environment: dict[str, str], *, code_of_exit: int = 0) -> str:
    """Run it to its end, which has to be `code_of_exit`; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _SETUP + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == code_of_exit, done.stderr
    return done.stdout.strip()
