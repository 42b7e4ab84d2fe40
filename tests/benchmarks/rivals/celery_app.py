"""Celery as its tutorial has it, on a Redis for broker and results; `BENCH_STORE` is the URL of the store."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from celery import Celery

_url = f"redis+socket://{urlsplit(os.environ['BENCH_STORE']).path}"
app = Celery("bench", broker=_url, backend=_url)
app.conf.broker_connection_retry_on_startup = True


@app.task
def nothing(n: int) -> int:
    """Is done at once."""
    return n
