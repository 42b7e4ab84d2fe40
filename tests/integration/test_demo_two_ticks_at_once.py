"""Ticks of several processes at once write no flight twice, on a real database file with a real lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.store import StoreServer

TICKER = """
import json, sys
from datetime import UTC, datetime, timedelta
import django
django.setup()
from asgi_app.demo.replay import tick
begun = datetime(2030, 1, 1, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([tick(begun + timedelta(seconds=second)).written for second in range(1, 31)]))
"""

PREPARE = """
from datetime import UTC, datetime, timedelta
import django
django.setup()
from django.core.management import call_command
from asgi_app.demo.models import Flight, ReplayClock
call_command("migrate", "demo", verbosity=0)
start = datetime(2013, 1, 2, tzinfo=UTC)
Flight.objects.bulk_create(
    Flight(departs=at, day=at.date(), hour=at.hour, carrier="UA", number=number, origin="EWR", dest="ORD")
    for number in range(301)
    for at in [start + timedelta(minutes=number)]
)
ReplayClock.objects.bulk_create([ReplayClock(ticked_at=datetime(2030, 1, 1, tzinfo=UTC))])
"""

COUNT = """
import json
import django
django.setup()
from asgi_app.demo.models import Flight
print(json.dumps(list(Flight.objects.filter(replayed=True).order_by("number").values_list("number", flat=True))))
"""


@pytest.fixture
def environment(tmp_path: Path, store_server: StoreServer) -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "asgi_app.settings",
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_APPS": "asgi_app.demo",
        "MILLPOND_REDIS_URL": store_server.url,
    }


def run(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=50).stdout


def start(code: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_each_flight_is_written_by_one_of_them(environment: dict[str, str]) -> None:
    """Three processes tick thirty times each at once: together they write every flight once."""
    run(PREPARE, environment)
    tickers = [start(TICKER, environment) for _ in range(3)]
    for ticker in tickers:
        assert ticker.stdout is not None
        assert ticker.stdout.readline() == "ready\n"
    for ticker in tickers:
        assert ticker.stdin is not None
        ticker.stdin.write("go\n")
        ticker.stdin.flush()
    outputs = [ticker.communicate(timeout=50)[0] for ticker in tickers]
    assert [ticker.returncode for ticker in tickers] == [0, 0, 0]
    written = json.loads(run(COUNT, environment))
    assert written == sorted(set(written))
    assert len(written) >= 300
    assert sum(sum(json.loads(output)) for output in outputs) == len(written)
