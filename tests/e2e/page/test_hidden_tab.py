"""A tab in the background says that nobody looks, and has the newest values when somebody does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Page, WebSocket, expect

from tests.support.service import Service
from tests.support.watcher import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

#: Chromium without a screen hides no tab by itself.
_SWITCH = """
let away = false;
Object.defineProperty(document, "hidden", { get: () => away });
Object.defineProperty(document, "visibilityState", { get: () => (away ? "hidden" : "visible") });
globalThis.look = (looks) => { away = !looks; document.dispatchEvent(new Event("visibilitychange")); };
"""


async def test_a_tab_that_nobody_looks_at_says_so(page: Page, demo_service: Service) -> None:
    """After half a minute, not at once; and at once when somebody looks again."""
    said: list[Any] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: said.extend(_hidden(str(frame))))

    page.on("websocket", watch)
    await page.add_init_script(_SWITCH)
    await page.clock.install()
    await page.goto(demo_service.url)
    await expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "connected")
    await page.evaluate("look(false)")
    await page.evaluate("look(true)")
    await page.clock.fast_forward(10_000)
    assert said == []
    await page.evaluate("look(false)")
    await page.clock.fast_forward(31_000)
    await eventually(lambda: said == [True], "it says so")
    await page.evaluate("look(true)")
    await eventually(lambda: said == [True, False], "and takes it back")


def _hidden(frame: str) -> list[Any]:
    commands = [json.loads(line) for line in frame.split("\n") if line]
    return [
        command["rpc"]["data"]["hidden"] for command in commands if command.get("rpc", {}).get("method") == "hidden"
    ]
