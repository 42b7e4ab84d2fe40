"""A person looks at the live dashboards: values come, outlive a lost connection, and follow the filters."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.support.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

REPORTS = ("carriers", "hourly", "routes", "cancellations")


async def test_values_arrive_and_are_replaced_by_newer_ones(demo_service: Service, page: Page) -> None:
    """The clock of the replay goes on by itself, and the page says that it is a replay."""
    await page.goto(demo_service.url)
    clock = page.locator(".replay__time")
    await expect(clock).to_contain_text("20")
    before = await clock.inner_text()
    await expect(clock).not_to_have_text(before)
    await expect(page.locator(".replay")).to_contain_text("not live data")
    await expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "connected")
    for name in ("clock", "hours", *REPORTS, "host"):
        await expect(page.locator(f"#panel-{name} [data-part=version]")).to_contain_text(re.compile(r"version \w+-\d+"))


async def test_every_chart_has_its_numbers_in_words_and_as_a_table(demo_service: Service, page: Page) -> None:
    """What a canvas shows is also a label and, on demand, a table."""
    await page.goto(demo_service.url)
    panel = page.locator("#panel-hourly")
    await expect(panel.get_by_role("img")).to_have_attribute("aria-label", re.compile("Worst at .* min"))
    await panel.get_by_text("Show the data as a table").click()
    await expect(panel.locator(".panel__data tbody tr").first).to_be_visible()


async def test_filters_are_restored_from_the_address_and_written_to_it(demo_service: Service, page: Page) -> None:
    """A shared address shows the same reports; a choice changes topics and address, a reset changes both back."""
    await page.goto(f"{demo_service.url}/?origin=JFK&month=2")
    topic = page.locator("#panel-routes [data-part=topic]")
    await expect(topic).to_have_text("flights.delays_by_route?month=2&origin=JFK")
    await expect(page.locator("#panel-routes")).to_have_attribute("data-state", "fresh")
    await page.locator("select[name=carrier]").select_option("AA")
    await expect(topic).to_have_text("flights.delays_by_route?carrier=AA&month=2&origin=JFK")
    await expect(page).to_have_url(f"{demo_service.url}/?origin=JFK&month=2&carrier=AA")
    await expect(page.locator("#panel-carriers tr[data-chosen]")).to_have_count(1)
    await page.get_by_role("button", name="Show all").click()
    await expect(topic).to_have_text("flights.delays_by_route")
    await expect(page).to_have_url(f"{demo_service.url}/")


async def test_the_slow_report_shows_its_progress_and_then_itself(demo_service: Service, page: Page) -> None:
    """Asked for by a press of the button; the bar says how far it is, and goes when the value is there."""
    await page.goto(demo_service.url)
    panel = page.locator("#panel-confidence")
    await expect(panel).to_have_attribute("data-state", "idle")
    await panel.get_by_role("button", name="Compute").click()
    bar = panel.get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    await expect(panel.locator(".whisker__dot").first).to_be_visible(timeout=60_000)
    await expect(bar).to_be_hidden()


async def test_a_lost_connection_is_said_and_values_stay(demo_service: Service, page: Page) -> None:
    """The banner comes and goes; what was on screen stays meanwhile, and goes on afterwards."""
    await page.goto(demo_service.url)
    await expect(page.locator("#panel-hours")).to_have_attribute("data-state", "fresh")
    version = page.locator("#panel-clock [data-part=version]")
    await page.context.set_offline(True)
    await expect(page.locator("[data-banner]")).to_be_visible()
    await expect(page.locator("#panel-hours")).to_have_attribute("data-state", "offline")
    await expect(page.locator("#panel-hours canvas")).to_be_visible()
    held = await version.inner_text()
    await page.context.set_offline(False)
    await expect(page.locator("[data-banner]")).to_be_hidden()
    await expect(version).not_to_have_text(held)
    await expect(page.locator("#panel-hours")).to_have_attribute("data-state", "fresh")


async def test_the_keyboard_reaches_everything_and_leaves_again(demo_service: Service, page: Page) -> None:
    """Tab begins at the skip link, passes the filters and the button, and ends outside the page."""
    await page.goto(demo_service.url)
    await expect(page.locator("#panel-host")).to_have_attribute("data-state", "fresh")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    passed: list[str] = []
    while not await page.evaluate("document.activeElement === document.body"):
        name = await page.evaluate("document.activeElement.name || document.activeElement.textContent")
        passed.append(name.strip())
        assert len(passed) < 200, "the focus is trapped"
        await page.keyboard.press("Tab")
    assert {"carrier", "origin", "month", "samples", "Compute"} <= set(passed)


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_nothing_is_wider_than_the_screen(demo_service: Service, page: Page, width: int) -> None:
    """On a phone as on a desk: no horizontal scrolling."""
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(demo_service.url)
    for name in ("hours", *REPORTS):
        await expect(page.locator(f"#panel-{name}")).to_have_attribute("data-state", "fresh")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_the_theme_is_chosen_and_remembered(demo_service: Service, page: Page) -> None:
    """A choice colours the page and its charts, and holds after a reload."""
    await page.goto(demo_service.url)
    await expect(page.locator("#panel-hours canvas")).to_be_visible()
    await page.get_by_label("Dark").check(force=True)
    await expect(page.locator("body")).to_have_css("background-color", "rgb(10, 19, 21)")
    await page.reload()
    await expect(page.get_by_label("Dark")).to_be_checked()
    await expect(page.locator("#panel-hours canvas")).to_have_count(1)


async def test_without_the_demo_every_declared_resource_has_a_panel(service: Service, page: Page) -> None:
    """The values stand there as JSON, and other parameters can be asked for."""
    await page.goto(service.url)
    panel = page.locator("[data-declared-panels] section[data-resource='test.echo']")
    await expect(panel.locator("pre")).to_be_visible()
    await panel.get_by_label("Parameters").fill("nobody=1")
    await panel.get_by_label("Parameters").press("Enter")
    await expect(panel.get_by_role("status")).to_contain_text("nobody")
    await panel.get_by_label("Parameters").fill("text=heron")
    await panel.get_by_label("Parameters").press("Enter")
    await expect(panel.locator("pre")).to_contain_text("heron")
