"""One client of Millpond that gets work done: a connection for HTTP, and a websocket that hears how it goes.

Invariant: a way of asking returns when the client has what it asked for, not before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

_WITHIN = 30.0


class Talker:
    """`async with Talker(url) as talker: await talker.action_by_websocket(1)`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._websocket: ClientConnection
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._commands = 1

    async def __aenter__(self) -> Talker:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        url = f"ws://{self._host}:{self._port}/connection/websocket"
        self._websocket = await connect(url, proxy=None, ping_interval=None)
        await self._websocket.send('{"id":1,"connect":{}}')
        await self._websocket.recv()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._websocket.close()

    async def action_by_websocket(self, n: int) -> None:
        """202, then the job's topic until it has succeeded."""
        job = await self._submit(n)
        await self._hear(f"job:{job['id']}", lambda data: data.get("status") == "succeeded")

    async def action_by_polling(self, n: int) -> None:
        """202, then the job each 100 ms until it has succeeded."""
        job = await self._submit(n)
        while job["status"] != "succeeded":
            await asyncio.sleep(0.1)
            _, job = await self.request("GET", f"/api/v1/jobs/{job['id']}")

    async def computation(self, n: int) -> None:
        """202 for a value that is not there, then its topic until it is."""
        topic = f"bench.quick?n={n}"
        status, _ = await self.request("GET", f"/api/v1/resources/{topic}")
        assert status == 202, status
        await self._hear(topic, lambda data: data == n)

    async def request(self, method: str, path: str, body: bytes = b"", token: str = "") -> tuple[int, Any]:
        """Status and body of one request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}"]
        lines.append("Prefer: wait=0")  # without it a value that comes soon is waited for
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body:
            lines.append("Content-Type: application/json")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(_WITHIN):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            return int(head[9:12]), json.loads(await self._reader.readexactly(length))

    async def _submit(self, n: int) -> dict[str, Any]:
        status, job = await self.request("POST", "/api/v1/actions/bench.nothing", json.dumps({"n": n}).encode())
        assert status == 202, job
        found: dict[str, Any] = job
        return found

    async def _hear(self, topic: str, done: Callable[[Any], bool]) -> None:
        """Subscribe, and listen until a value is what is waited for; then leave the topic."""
        self._commands += 2
        await self._websocket.send(json.dumps({"id": self._commands, "subscribe": {"channel": topic}}))
        async with asyncio.timeout(_WITHIN):
            while not any(done(data) for data in self._values(await self._websocket.recv(), topic)):
                pass
        await self._websocket.send(json.dumps({"id": self._commands + 1, "unsubscribe": {"channel": topic}}))

    @staticmethod
    def _values(text: str | bytes, topic: str) -> list[Any]:
        found = []
        for line in text.splitlines():
            frame = json.loads(line)
            assert "error" not in frame, frame
            pushed = frame.get("push", {})
            told = [pushed["pub"]] if pushed.get("channel") == topic and "pub" in pushed else []
            told += frame.get("subscribe", {}).get("publications", [])
            found += [each["data"] for each in told if "tags" not in each]
        return found
