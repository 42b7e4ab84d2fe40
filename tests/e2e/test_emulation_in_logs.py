"""A client's token is in the URL of its event stream: it must not get into the log of a server that keeps one."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from asgi_app.logs import without_tokens
from tests.support.emulated import Client
from tests.support.service import Service, free_port, until

TOKEN = "eyJhbGciOiJIUzI1NiJ9.secret.secret"


@contextmanager
def uvicorn(service: Service, log: Path) -> Iterator[str]:
    """Its own command, as others start it, on the home of a service; the URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "asgi_app.asgi:application", "--port", str(port)]
    with log.open("wb") as written:
        server = subprocess.Popen(
            command, cwd=service.directory, env=service.environment, stdout=written, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: _answers(url), "it serves")
        yield url
    finally:
        server.terminate()
        server.wait(20)


async def test_a_token_does_not_get_into_the_access_log(service: Service, tmp_path: Path) -> None:
    """uvicorn's own, which is on unless told otherwise; the line itself is there."""
    log = tmp_path / "log"
    with uvicorn(service, log) as url:
        async with Client(url) as client, client.opens("sse", {"id": 1, "connect": {"token": TOKEN}}) as stream:
            await stream.ended()
            await client.http.put("/connection/sse", params={"a": "b", "cf_connect": TOKEN, "c": "d"})
    text = log.read_text()
    assert "/connection/sse?cf_connect=*** HTTP/1.1" in text
    assert "/connection/sse?a=b&cf_connect=***&c=d HTTP/1.1" in text
    assert "secret" not in text


async def test_nor_into_the_service_s_own(service: Service) -> None:
    async with Client(service.url) as client:
        for headers in ({}, {"host": "evil.example"}):
            await client.http.get("/connection/sse", params={"cf_connect": TOKEN}, headers=headers)
    assert "secret.secret" not in service.log()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/connection/sse?cf_connect=%7B%22x%22", "/connection/sse?cf_connect=***"),
        ("/connection/sse?x=1&cf_connect=a&cf_connect=b", "/connection/sse?x=1&cf_connect=***&cf_connect=***"),
        ("/other?a=b", "/other?a=b"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    arguments = ("127.0.0.1:1", "GET", url, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 1, '%s - "%s %s HTTP/%s" %d', arguments, None)
    assert without_tokens(record)
    assert record.getMessage() == f'127.0.0.1:1 - "GET {shown} HTTP/1.1" 200'


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
