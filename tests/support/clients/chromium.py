"""The JavaScript clients in a headless Chromium, on a page of the service's own origin.

Invariant: the browser has an event loop of its own, so that it outlives a test; everything it does has a deadline.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from playwright.async_api import Page, async_playwright

from tests.support.clients import fetching
from tests.support.clients.javascript import PATIENCE, VERSIONS, JavaScript

T = TypeVar("T")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_START = """() => {
const { makeDriver, showing } = globalThis.stock;
const socket = (headers, show) => showing(WebSocket, (endpoint, rest) => [endpoint, ...rest], show);
addEventListener("unhandledrejection", (event) => tell({ fault: `unhandled: ${event.reason?.stack ?? event.reason}` }));
globalThis.take = makeDriver(globalThis.versions, {}, socket, (message) => tell(message));
}"""


class Chromium:
    """A browser; `with Chromium() as browser`."""

    def __enter__(self) -> Chromium:
        program = fetching.found(*_NAMES, what="Chromium")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chromium", daemon=True)
        self._thread.start()
        self.call(self._start(program))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done by the browser's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """The same, without waiting for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    async def page(self) -> Page:
        """A page in a context of its own: nobody is logged in.  It takes scripts, whatever its policy says."""
        return await (await self._browser.new_context(locale="en-US", bypass_csp=True)).new_page()

    async def _start(self, program: str) -> None:
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(executable_path=program, args=_FLAGS)

    async def _stop(self) -> None:
        await self._browser.close()
        await self._playwright.stop()


class InChromium(JavaScript):
    """A page with a driver; `with InChromium(browser, version, origin) as page`."""

    def __init__(self, browser: Chromium, version: str, origin: str) -> None:
        super().__init__(version)
        self._browser, self._origin = browser, origin

    def __enter__(self) -> InChromium:
        self._browser.call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.call(self._page.context.close())

    def send(self, message: Mapping[str, Any]) -> None:
        self._browser.start(self._page.evaluate("(message) => void take(message)", json.loads(json.dumps(message))))

    @asynccontextmanager
    async def logged_in(self, cookies: Mapping[str, str]) -> AsyncIterator[None]:
        """Within, the page sends these."""
        given = [{"name": name, "value": value, "url": self._origin} for name, value in cookies.items()]
        self._browser.call(self._page.context.add_cookies(given))  # type: ignore[arg-type]
        try:
            yield
        finally:
            self._browser.call(self._page.context.clear_cookies())

    @asynccontextmanager
    async def offline(self) -> AsyncIterator[None]:
        """Within, the page has no network."""
        self._browser.call(self._page.context.set_offline(True))
        try:
            yield
        finally:
            self._browser.call(self._page.context.set_offline(False))

    async def _open(self) -> None:
        page = self._page = await self._browser.page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        await page.expose_function("tell", self.take)
        await page.goto(f"{self._origin}/livez")
        await page.evaluate("() => { globalThis.versions = {}; }")
        for version in VERSIONS:
            built = fetching.packages() / "node_modules" / f"centrifuge-{version}" / "dist" / "centrifuge.js"
            await page.add_script_tag(path=built)
            await page.evaluate("(version) => { globalThis.versions[version] = Centrifuge; }", version)
        await page.add_script_tag(path=fetching.HERE / "driver.js")
        await page.evaluate(_START)
