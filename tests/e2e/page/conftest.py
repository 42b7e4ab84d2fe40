"""A running service with the demo, and a headless Chromium that looks at it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.support.service import Service

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Milliseconds for what has to come by itself: a page is in no hurry on a busy machine.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def demo_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as `millpond up` starts it: with the demo."""
    running = Service(tmp_path_factory.mktemp("demo"), MILLPOND_WORKER_CONCURRENCY="2").start()
    yield running
    assert running.stop() == 0


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium, with a locale of its own: under LANG=C it would name one that Intl refuses."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on PATH: install the package `chromium` to run the tests of the pages")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield started
        await started.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page, 1280 wide.  An uncaught error fails the test, and so does an error on the console, but for the
    browser's own word that a websocket could not be opened."""
    context = await browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    opened = await context.new_page()
    opened.set_default_timeout(20_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if _is_fault(message) else None)
    yield opened
    await context.close()
    assert complaints == []


def _is_fault(message: ConsoleMessage) -> bool:
    return message.type == "error" and not message.text.startswith("WebSocket connection to")
