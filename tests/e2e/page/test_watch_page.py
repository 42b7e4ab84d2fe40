"""Somebody of the staff looks at who watches what: with scripts and without, on a phone, by the keyboard."""

from __future__ import annotations

from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.page.test_jobs_page import PASSWORD
from tests.e2e.test_who_may_at_once import django, sockets
from tests.support.service import Service
from tests.support.shell import Shell

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def keeper(shell: Shell) -> str:
    """Of the staff."""
    name = f"keeper-{uuid4().hex[:8]}"
    django(shell, f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff=True)")
    return name


async def opened(page: Page, service: Service, keeper: str, query: str = "") -> None:
    await page.goto(f"{service.url}/watch{query}")
    await page.get_by_label("User name").fill(keeper)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Watch", exact=True)).to_be_visible()


async def test_watchers_come_and_go_while_one_looks(page: Page, service: Service, keeper: str) -> None:
    """The table follows by itself; a filter and an order of one's own stay, also in the address."""
    name = uuid4().hex[:10]
    await opened(page, service, keeper)
    await page.get_by_label("Filter").fill(name)
    await expect(page.get_by_text("Nobody watches anything like that.")).to_be_visible()
    async with AsyncExitStack() as ends:
        watchers = await sockets(ends, service, 3)
        for number, watcher in enumerate(watchers):
            await watcher.watch(f"test.echo?text={name}")
            if number:
                await watcher.watch(f"test.fails?message={name}")
        rows = page.locator("[data-part=topics] tbody tr")
        await expect(rows).to_have_count(2)
        await expect(rows.nth(0)).to_contain_text("test.echo")
        await expect(rows.nth(0).locator("[data-label=Watchers]")).to_have_text("3")
        await expect(rows.nth(1).locator("[data-label=State]")).to_contain_text(name)
        await expect(page.get_by_role("status").filter(has_text="2 of")).to_be_visible()
        head = page.locator("th[data-sort=topic] a")
        await head.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("th[data-sort=topic]")).to_have_attribute("aria-sort", "ascending")
        assert page.url.endswith(f"/watch?sort=topic&q={name}")
        await watchers[0].leave()
        await expect(rows.nth(0).locator("[data-label=Watchers]")).to_have_text("2")
        await expect(head).to_be_focused()
    await expect(page.get_by_text("Nobody watches anything like that.")).to_be_visible()


async def test_it_is_a_table_without_scripts(browser: Browser, service: Service, keeper: str) -> None:
    """Filtered by its form and sorted by the links of its columns."""
    name = uuid4().hex[:10]
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    async with AsyncExitStack() as ends:
        for number, watcher in enumerate(await sockets(ends, service, 2)):
            await watcher.watch(f"test.echo?text={name}&n=1")
            await watcher.watch(f"test.echo?text={name}&n={number + 2}")
        await opened(page, service, keeper, f"?q={name}")
        rows = page.locator("[data-part=topics] tbody tr")
        for _ in range(20):
            if await rows.count() == 3:
                break
            await page.wait_for_timeout(500)
            await page.get_by_role("button", name="Show").click()
        await expect(rows).to_have_count(3)
        await expect(rows.nth(0).locator("[data-label=Watchers]")).to_have_text("2")
        await page.get_by_role("link", name="Topic", exact=True).click()
        await expect(page.locator("th[data-sort=topic]")).to_have_attribute("aria-sort", "ascending")
        await expect(rows).to_have_count(3)
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_cards_that_fit(browser: Browser, service: Service, keeper: str, scheme: str) -> None:
    """Nothing is wider than the screen."""
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 740})  # type: ignore[arg-type]
    page = await context.new_page()
    async with AsyncExitStack() as ends:
        (watcher,) = await sockets(ends, service, 1)
        await watcher.watch(f"test.fails?message={'w' * 40}")
        await opened(page, service, keeper)
        await expect(page.locator("[data-part=topics] tbody tr").filter(has_text="w" * 40).first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await context.close()
