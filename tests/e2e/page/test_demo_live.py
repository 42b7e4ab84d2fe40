"""A person on the demo's page: talks in the tower, is told of alerts, and misses nothing while away."""

from __future__ import annotations

import re
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.page.test_jobs_page import person, sign_in
from tests.e2e.test_faults import processes
from tests.e2e.test_jobs_over_http import User
from tests.support.service import Service, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def visitor(demo_service: Service) -> str:
    """A username."""
    name = f"visitor-{uuid4().hex[:8]}"
    person(demo_service, name)
    return name


@pytest.fixture
def tower(demo_service: Service) -> User:
    """Another program, which may say something as the service itself does."""
    return User(demo_service, f"tower-{uuid4().hex[:8]}", "publish")


def said(tower: User, *texts: str) -> None:
    """Each is in the log when this returns."""
    for text in texts:
        answer = tower.ask("POST", "/publish", {"topic": "demo.chat", "data": {"text": text}})
        assert answer.status_code == 200, answer.text


def lines(page: Page, mark: str) -> Locator:
    """The lines of the chat that have this in them."""
    return page.locator(".chat__lines li").filter(has_text=mark)


def answers(service: Service) -> bool:
    try:
        return service.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


async def lost(page: Page) -> None:
    await page.context.set_offline(True)
    await page.evaluate("window.dispatchEvent(new Event('offline'))")
    await expect(page.locator("[data-connection-text]")).to_have_text("Connection lost")


async def back(page: Page) -> None:
    await page.context.set_offline(False)
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    await expect(page.locator("[data-connection-text]")).to_have_text("Live")


async def test_a_line_is_said_with_the_keyboard_and_read_as_text(
    demo_service: Service, page: Page, browser: Browser, visitor: str
) -> None:
    """By everybody; the public reads along, and has no form."""
    await sign_in(page, demo_service, visitor, "/")
    stranger = await (await browser.new_context(locale="en-US")).new_page()
    await stranger.goto(demo_service.url)
    await expect(stranger.locator("#panel-chat")).to_have_attribute("data-state", "fresh")
    mark = uuid4().hex
    box = page.get_by_label("Your line")
    await box.fill(f"<b>{mark}</b>")
    await box.press("Enter")
    await expect(lines(page, mark)).to_have_text(f"You<b>{mark}</b>")
    await expect(box).to_have_value("")
    await expect(lines(stranger, mark)).to_have_text(re.compile(rf"^User \d+<b>{mark}</b>$"))
    await expect(stranger.locator("#panel-chat form")).to_have_count(0)
    await expect(stranger.locator("#panel-chat [data-part=status]")).to_have_text(re.compile("reads? along"))
    await stranger.context.close()


async def test_who_loses_the_network_has_missed_nothing(
    demo_service: Service, page: Page, visitor: str, tower: User
) -> None:
    """What is said before, meanwhile and afterwards stands there once, in order; a line written meanwhile is kept."""
    await sign_in(page, demo_service, visitor, "/")
    mark = uuid4().hex
    said(tower, f"{mark} 0")
    await expect(lines(page, mark)).to_have_count(1)
    await lost(page)
    await expect(page.locator("#panel-chat [data-part=status]")).to_have_text("not connected")
    await page.get_by_label("Your line").fill(f"{mark} mine")
    await page.get_by_label("Your line").press("Enter")
    await expect(page.locator("#panel-chat [data-part=say]")).to_contain_text("is not sent")
    version = page.locator("#panel-clock [data-part=version]")
    before = await version.inner_text()
    said(tower, *(f"{mark} {number}" for number in range(1, 6)))
    await back(page)
    said(tower, f"{mark} 6")
    await expect(lines(page, mark)).to_have_text([f"Tower{mark} {number}" for number in range(7)])
    await expect(version).not_to_have_text(before)
    await page.get_by_label("Your line").press("Enter")
    await expect(lines(page, f"{mark} mine")).to_have_count(1)
    await page.reload()
    await expect(lines(page, mark)).to_have_text([*(f"Tower{mark} {n}" for n in range(7)), f"You{mark} mine"])


async def test_whose_web_process_is_killed_has_missed_nothing(demo_service: Service, page: Page, tower: User) -> None:
    """The page finds the next one by itself."""
    await page.goto(demo_service.url)
    mark = uuid4().hex
    said(tower, f"{mark} 0")
    await expect(lines(page, mark)).to_have_count(1)
    processes(demo_service, "asgi_app", "web")[-1].kill()
    until(lambda: answers(demo_service), "no other web process came")
    said(tower, *(f"{mark} {number}" for number in range(1, 4)))
    await expect(lines(page, mark)).to_have_text([f"Tower{mark} {number}" for number in range(4)], timeout=60_000)
    await expect(page.locator("[data-connection-text]")).to_have_text("Live")


async def test_an_alert_is_said_on_the_page(demo_service: Service, page: Page, visitor: str) -> None:
    """Quietly, with the way to the inbox, and counted in the header; it can be sent away."""
    await sign_in(page, demo_service, visitor, "/")
    found = f"from django.contrib.auth.models import User; u = User.objects.get(username='{visitor}')"
    demo_service.command("shell", "-c", f"from asgi_app import notify; {found}; notify(u, 'Delays <now>')")
    toast = page.locator("[data-toast]").filter(has_text="Delays <now>")
    await expect(toast).to_be_visible()
    await expect(page.locator("[data-unread-count]")).to_have_text(re.compile(r"\d+"))
    await toast.get_by_role("button", name="Dismiss").click()
    await expect(page.locator("[data-toast]")).to_be_hidden()


async def test_who_leaves_during_a_slow_report_finds_it_in_the_inbox(
    demo_service: Service, page: Page, visitor: str
) -> None:
    """The tab is closed while the bar moves; later, elsewhere, its end is there unread, and leads to the report."""
    await sign_in(page, demo_service, visitor, "/?month=3%26origin=LGA")
    panel = page.locator("#panel-confidence")
    await panel.get_by_label("Samples for each carrier").select_option("500")
    await panel.get_by_role("button", name="Compute").click()
    await expect(panel.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    later = await page.context.new_page()
    await page.close()
    await later.goto(f"{demo_service.url}/inbox")
    note = later.locator(".note[data-unread]").filter(has_text="flights.delay_confidence is done")
    await expect(note).to_have_count(1, timeout=100_000)
    await note.get_by_role("link", name="Open").click()
    await expect(later.locator("body")).to_contain_text("rows")


async def test_who_may_not_has_no_button_for_the_mail(demo_service: Service, page: Page, visitor: str) -> None:
    """Who may is told that the end comes to the inbox, and there it comes."""
    await sign_in(page, demo_service, visitor, "/")
    await expect(page.locator("#panel-chat")).to_have_attribute("data-state", "fresh")
    await expect(page.locator("[data-mail]")).to_have_count(0)
    found = f"from django.contrib.auth.models import User; u = User.objects.filter(username='{visitor}')"
    demo_service.command("shell", "-c", f"{found}; u.update(is_superuser=True)")
    await page.reload()
    await page.get_by_role("button", name="Mail the report to the staff").click()
    await expect(page.locator("[data-mail-text]")).to_have_text("Accepted. Its end comes to your inbox.")
    await expect(page.locator("[data-toast-text]")).to_contain_text("demo.mail is done")
