"""A person looks at the inbox: sees what comes, what was read on another tab, and misses nothing of what came."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.page.test_jobs_page import PASSWORD, person
from tests.support.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def reader(service: Service) -> str:
    """A username."""
    name = f"reader-{uuid4().hex[:8]}"
    person(service, name)
    return name


def notify(service: Service, user: str, *calls: str) -> None:
    """Each of `calls` is what stands behind the user in the call."""
    found = f"from django.contrib.auth.models import User; u = User.objects.get(username='{user}')"
    told = (f"notify(u, {call})" for call in calls)
    service.command("shell", "-c", "; ".join(["from asgi_app import notify", found, *told]))


async def sign_in(page: Page, service: Service, user: str) -> None:
    await page.goto(f"{service.url}/login?next=/inbox")
    await page.get_by_label("User name").fill(user)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Inbox", exact=True)).to_be_visible()


async def live(page: Page) -> None:
    await expect(page.locator("[data-connection-text]")).to_have_text("Live")


async def test_what_comes_is_there_and_what_was_read_is_read_everywhere(
    page: Page, service: Service, reader: str
) -> None:
    """Two tabs: one marks as read, with the keyboard, and the other says so; the header counts on every page."""
    await sign_in(page, service, reader)
    other = await page.context.new_page()
    await other.goto(f"{service.url}/jobs")
    await live(page)
    await live(other)
    notify(service, reader, "'First', 'a body', level='success'", "'Half', collapse='k'", "'Whole <b>', collapse='k'")
    notes = page.locator(".note")
    await expect(notes).to_have_count(2)
    await expect(notes.locator("h2")).to_have_text(["Whole <b>", "First"])
    await expect(page.locator("[data-part=count]")).to_have_text("2 unread")
    await expect(other.locator("[data-unread-count]")).to_have_text("2")
    await notes.first.get_by_role("button").focus()
    await page.keyboard.press("Enter")
    await expect(notes.nth(1).get_by_role("button")).to_be_focused()
    await expect(other.locator("[data-unread-count]")).to_have_text("1")
    await page.get_by_role("button", name="Mark all as read").click()
    await expect(page.locator("[data-part=count]")).to_have_text("all read")
    await expect(other.locator("[data-unread-badge]")).to_be_hidden()
    await other.close()


async def test_what_came_while_the_connection_was_lost(page: Page, service: Service, reader: str) -> None:
    """The page says that it is lost, and shows what came meanwhile once it is back."""
    await sign_in(page, service, reader)
    await live(page)
    notify(service, reader, "'Before'")
    await expect(page.locator("[data-unread-count]")).to_have_text("1")
    await page.context.set_offline(True)
    await page.evaluate("window.dispatchEvent(new Event('offline'))")
    await expect(page.locator("[data-connection-text]")).to_have_text("Connection lost")
    notify(service, reader, *(f"'While away {n}'" for n in range(5)))
    await page.context.set_offline(False)
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    titles = [*(f"While away {n}" for n in reversed(range(5))), "Before"]
    await expect(page.locator(".note h2")).to_have_text(titles)
    await live(page)


async def test_without_scripts(browser: Browser, service: Service, reader: str) -> None:
    """A plain list, older ones behind a link, and forms that say what was read."""
    notify(service, reader, *(f"'N {n}'" for n in range(52)))
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await sign_in(page, service, reader)
    await expect(page.locator(".note")).to_have_count(50)
    await expect(page.locator("[data-part=count]")).to_have_text("52 unread")
    await page.get_by_role("button", name=re.compile(r"Mark as read\s*: N 51")).click()
    await expect(page.locator("[data-part=count]")).to_have_text("51 unread")
    await page.get_by_role("link", name="Older ones").click()
    await expect(page.locator(".note h2")).to_have_text(["N 1", "N 0"])
    await page.get_by_role("button", name="Mark all as read").click()
    await expect(page.locator("[data-part=count]")).to_have_text("all read")
    await context.close()


async def test_a_stranger_is_asked_to_sign_in(page: Page, service: Service) -> None:
    """And sees nothing of anybody's."""
    await page.goto(f"{service.url}/inbox")
    await expect(page.get_by_role("main").get_by_role("link", name="sign in")).to_be_visible()
    await expect(page.locator(".note")).to_have_count(0)
