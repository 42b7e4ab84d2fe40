"""A person tries the API on its page: finds an operation, fills in a form, sends it, and goes on from the answer."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def operation(page: Page, name: str) -> Locator:
    return page.locator(f"[id='{name}']")


async def test_the_keyboard_alone_reads_a_resource(service: Service, page: Page) -> None:
    """Unfold, type, Enter: the status, the headers and the value stand there."""
    await page.goto(f"{service.url}/api/v1/docs")
    echo = operation(page, "read.test.echo")
    await echo.locator("summary").first.focus()
    await page.keyboard.press("Enter")
    await expect(echo.locator("input[name=n]")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(echo.locator("input[name=n]")).to_be_focused()
    await page.keyboard.type("7")
    await page.keyboard.press("Enter")
    await expect(echo.get_by_role("status")).to_contain_text("200 OK")
    await expect(echo.locator(".answer__headers")).to_contain_text("millpond-topic")
    await expect(echo.locator(".answer__body")).to_contain_text('"n": 7')


async def test_an_answer_leads_to_the_job_and_the_job_to_the_value(service: Service, page: Page) -> None:
    """The buttons below an answer are the links of the document; what is required is asked for before."""
    await page.goto(f"{service.url}/api/v1/docs#read.test.slow")
    slow = operation(page, "read.test.slow")
    await slow.get_by_role("button", name="Send").click()
    await expect(slow.locator("input[name=name]")).to_be_focused()
    await slow.locator("input[name=name]").fill(uuid4().hex)
    await slow.get_by_text("Headers").click()
    await slow.locator("input[name=Prefer]").fill("respond-async")
    await slow.get_by_role("button", name="Send").click()
    await slow.get_by_role("button", name="job").click()
    job = operation(page, "readJob")
    await expect(job.locator("input[name=id]")).to_have_value(re.compile(r"[0-9a-f-]{36}"))
    await job.get_by_role("button", name="Send").click()
    while not await job.get_by_role("button", name="value").is_visible():
        await expect(job.locator(".answer__body")).to_contain_text('"version"')
        await job.get_by_role("button", name="Send").click()
        await expect(job.locator(".answer__next")).to_be_visible()
    await job.get_by_role("button", name="value").click()
    await slow.locator("input[name=Prefer]").fill("")
    await slow.get_by_role("button", name="Send").click()
    await expect(slow.get_by_role("status")).to_contain_text("200 OK")


async def test_a_token_shows_what_its_user_may_see(service: Service, page: Page) -> None:
    """Another token, another document; requests carry it, and the command does not show it."""
    code = "from django.contrib.auth.models import User; User.objects.get_or_create(username='reader')"
    service.command("shell", "-c", code)
    token = service.command("token", "create", "reader").strip()
    await page.goto(f"{service.url}/api/v1/docs")
    mine = operation(page, "read.test.mine")
    await expect(operation(page, "read.test.echo")).to_be_visible()
    await expect(mine).to_have_count(0)
    await page.get_by_label("Token").fill(token)
    await page.keyboard.press("Enter")
    await mine.locator("summary").first.click()
    await mine.get_by_role("button", name="Send").click()
    await expect(mine.locator(".answer__body")).to_contain_text("reader")
    await expect(mine.locator(".answer__curl")).to_contain_text("Bearer $TOKEN")


async def test_a_stream_is_shown_while_it_comes(service: Service, page: Page) -> None:
    """Events appear one by one, until it is stopped."""
    await page.goto(f"{service.url}/api/v1/docs#streamEvents")
    stream = operation(page, "streamEvents")
    await stream.locator("textarea[name=topic]").fill("test.echo")
    await stream.get_by_role("button", name="Send").click()
    await expect(stream.locator(".answer__body")).to_contain_text("event: snapshot")
    await stream.get_by_role("button", name="Stop").click()
    await expect(stream.get_by_role("status")).to_have_text("Stopped")


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_nothing_is_wider_than_the_screen(service: Service, page: Page, width: int) -> None:
    """An unfolded operation with its answer fits on a phone."""
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(f"{service.url}/api/v1/docs#read.test.echo")
    echo = operation(page, "read.test.echo")
    await echo.get_by_text("Headers").click()
    await echo.get_by_role("button", name="Send").click()
    await expect(echo.locator(".answer__body")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
