"""A raw client of the SSE and HTTP-stream fallbacks: it shows every byte, and corrects nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import httpx

CONNECT = {"id": 1, "connect": {}}
#: Seconds in which anything has to come.
WITHIN = 20.0


class Stream:
    """An open stream: `await hears()` is its next message, `ended()` waits for its end.  Leaving it aborts it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.aiter_raw()
        self._text = ""
        self._events = response.headers["content-type"] == "text/event-stream"
        self.session = self.node = ""
        #: All that came, as it came.
        self.raw: list[str] = []

    async def hears(self) -> Any:
        """The next message that is no ping.  Raises StopAsyncIteration at the end of the stream."""
        async with asyncio.timeout(WITHIN):
            while True:
                message, found, rest = self._text.partition("\n\n" if self._events else "\n")
                if found:
                    self._text = rest
                    assert not self._events or message.startswith("data: ")
                    heard = json.loads(message.removeprefix("data: ") if self._events else message)
                    if heard:
                        return heard
                else:
                    await self._more()

    async def ended(self) -> list[Any]:
        """Everything that still comes, up to the end."""
        heard = []
        try:
            while True:
                heard.append(await self.hears())
        except StopAsyncIteration:
            return heard

    async def first(self) -> str:
        """The first bytes of an event stream, before any message."""
        while not self.raw:
            await self._more()
        return self.raw[0]

    async def connected(self) -> dict[str, Any]:
        """The result of the connect command."""
        result: dict[str, Any] = (await self.hears())["connect"]
        self.session, self.node = result["session"], result["node"]
        return result

    async def _more(self) -> None:
        chunk = (await anext(self._chunks)).decode()
        self.raw.append(chunk)
        self._text = (self._text + chunk).removeprefix("\r\n")


class Client:
    """`async with Client(url) as client`: requests on connections of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=WITHIN, trust_env=False, **options)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()
        await self.http.aclose()

    @asynccontextmanager
    async def opens(self, door: str, *commands: Any, **headers: str) -> AsyncIterator[Stream]:
        """A stream: `door` is `sse`, `sse by post` or `http_stream`; header names with underscores."""
        text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in commands or (CONNECT,))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if door == "sse":
            request = self.http.stream("GET", f"/connection/sse?{urlencode({'cf_connect': text})}", headers=named)
        else:
            path = f"/connection/{door.partition(' ')[0]}"
            request = self.http.stream("POST", path, content=text, headers=named)
        async with request as response:
            assert response.status_code == 200, await response.aread()
            yield Stream(response)

    async def stays(self, door: str, *commands: Any, **headers: str) -> Stream:
        """A stream that is connected, and open for as long as the client."""
        stream = await self._open.enter_async_context(self.opens(door, *commands, **headers))
        await stream.connected()
        return stream

    async def says(self, stream: Stream, *commands: Any) -> int:
        """POST what the client of `stream` says; the status."""
        return (await self.posts(stream.session, stream.node, *commands)).status_code

    async def posts(self, session: str, node: str, *commands: Any, **headers: str) -> httpx.Response:
        """POST to /emulation."""
        text = "\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in commands)
        body = json.dumps({"session": session, "node": node, "data": text}, ensure_ascii=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/emulation", content=body, headers=named)


@asynccontextmanager
async def one_per_process(url: str, processes: int) -> AsyncIterator[dict[str, Client]]:
    """A client for each web process, by the process's name: its one connection leads to that process and no other."""
    async with AsyncExitStack() as stack:
        found: dict[str, Client] = {}
        for _ in range(20):
            fresh = await asyncio.gather(*(_pinned(url) for _ in range(4)))
            for node, client in fresh:
                await stack.enter_async_context(client)
                found.setdefault(node, client)
            if len(found) == processes:
                break
        assert len(found) == processes
        yield found


async def _pinned(url: str) -> tuple[str, Client]:
    """A client whose only connection has carried a stream that the server ended, and the process it came from."""
    client = Client(url, limits=httpx.Limits(max_connections=1, keepalive_expiry=120.0))
    async with client.opens("http_stream") as stream, Client(url) as other:
        await stream.connected()
        await other.says(stream, "no command")
        assert [push["push"]["disconnect"]["code"] for push in await stream.ended()] == [3501]
    return stream.node, client
