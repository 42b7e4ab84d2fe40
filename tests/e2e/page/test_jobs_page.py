"""A person looks at the jobs: sees them move, cancels and retries them, and misses nothing of what happens to them."""

from __future__ import annotations

import os
import re
import signal
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.test_faults import processes
from tests.e2e.test_jobs_over_http import User
from tests.support.service import Service, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PASSWORD = "heron in the reeds"


def named() -> str:
    return uuid4().hex[:12]


def person(service: Service, name: str, *, staff: bool = False) -> User:
    """Somebody with a token, who can sign in as well."""
    found = User(service, f"staff-{name}" if staff else name)
    code = (
        "from django.contrib.auth.models import User as U; "
        f"u = U.objects.get(username='{'staff-' if staff else ''}{name}'); u.set_password('{PASSWORD}'); u.save()"
    )
    service.command("shell", "-c", code)
    return found


@pytest.fixture(scope="module")
def walker(service: Service) -> User:
    return person(service, "walker")


@pytest.fixture(scope="module")
def warden(service: Service) -> User:
    return person(service, "warden", staff=True)


async def sign_in(page: Page, service: Service, name: str, then: str = "/jobs") -> None:
    """Through the page for it, to the page of the jobs."""
    await page.goto(f"{service.url}/login?next={then}")
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "connected")


def row_of(page: Page, name: str) -> Locator:
    """The row of the job that has this among its parameters."""
    return page.locator(".job").filter(has=page.locator(".job__parameters", has_text=name))


async def test_an_action_is_seen_to_move_and_to_end(service: Service, walker: User, page: Page) -> None:
    """A job that somebody starts elsewhere appears by itself; its bar moves without a reload, and then it has ended."""
    await sign_in(page, service, "walker")
    name = named()
    walker.run("test.haul", {"name": name, "seconds": 12})
    row = row_of(page, name)
    await expect(row).to_have_attribute("data-status", "running")
    bar = row.get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]\d*$"))
    before = await bar.get_attribute("aria-valuenow")
    await expect(bar).not_to_have_attribute("aria-valuenow", before or "")
    await expect(row.locator(".job__standing")).to_contain_text(re.compile(r"% · \d+ of 20 · load \d+"))
    await expect(row).to_have_attribute("data-status", "succeeded")
    await expect(row.locator(".job__state")).to_contain_text("succeeded")
    await expect(bar).to_be_hidden()


async def test_a_job_is_cancelled(service: Service, walker: User, page: Page) -> None:
    """The button says that it is being done; when it is over it is said aloud, and then it can be retried."""
    name = named()
    walker.run("test.haul", {"name": name, "seconds": 50})
    await sign_in(page, service, "walker")
    row = row_of(page, name)
    await expect(row).to_have_attribute("data-status", "running")
    await row.get_by_role("button", name="Cancel").click()
    await expect(page.locator("[data-part=aloud]")).to_contain_text("test.haul")
    await expect(row).to_have_attribute("data-status", "cancelled")
    await expect(page.locator("[data-part=aloud]")).to_have_text("test.haul: cancelled")
    await expect(row.get_by_role("button", name="Cancel")).to_be_hidden()
    await expect(row.get_by_role("button", name="Retry")).to_be_visible()


async def test_a_failed_job_is_retried(service: Service, walker: User, page: Page) -> None:
    """It says what went wrong; the new job is a row of its own, a press away, and the old one stays what it was."""
    name = named()
    walker.run("test.fickle", {"name": name})
    await sign_in(page, service, "walker", "/jobs?show=failed")
    row = row_of(page, name)
    await expect(row.locator(".job__problem")).to_have_text("ValueError: not in the mood")
    failed = await row.get_attribute("data-id")
    await row.get_by_role("button", name="Retry").click()
    await expect(row.locator(".job__said")).to_contain_text("Runs again as a new job")
    await row.get_by_role("button", name="Show it").click()
    again = page.locator(f".job:not([data-id='{failed}'])").filter(has_text=name)
    await expect(again).to_have_attribute("data-status", "succeeded")
    await expect(again.locator(".job__name")).to_be_focused()
    await expect(page.locator(f".job[data-id='{failed}']")).to_have_attribute("data-status", "failed")


async def test_a_killed_worker_is_a_second_attempt(own_service: Service, page: Page) -> None:
    """At first nothing has run, and it is said how something may; a process that is killed is an attempt that died, and
    the history says which worker's it was."""
    keeper = person(own_service, "keeper")
    await sign_in(page, own_service, "keeper")
    await expect(page.get_by_role("heading", name="Nothing has run yet")).to_be_visible()
    await expect(page.locator("[data-part=empty] pre")).to_contain_text(f"{own_service.url}/api/v1/actions/")
    name = named()
    keeper.run("test.haul", {"name": name, "seconds": 20})
    row = row_of(page, name)
    await expect(row).to_have_attribute("data-status", "running")
    await row.get_by_role("button", name="test.haul", exact=True).click()
    begun = [line.split() for line in own_service.ledger() if line.startswith(f"haul {name} ")]
    os.kill(int(begun[0][2]), signal.SIGKILL)
    await expect(row.locator(".job__attempt")).to_have_text("attempt 2")
    await expect(row).to_have_attribute("data-status", "running")
    attempts = row.locator(".details tbody tr")
    await expect(attempts).to_have_count(2)
    await expect(attempts.nth(0)).to_contain_text("running")
    await expect(attempts.nth(1)).to_contain_text("worker died")
    await expect(attempts.nth(1).locator("td").nth(3)).to_have_text(re.compile(r".+:\d+:\w+"))
    await row.get_by_role("button", name="Cancel").click()
    await expect(row).to_have_attribute("data-status", "cancelled")


async def test_the_keyboard_alone_unfolds_and_cancels(service: Service, walker: User, page: Page) -> None:
    """Arrows choose the state, Tab reaches the job and its buttons in the order one sees, Enter does it."""
    name = named()
    walker.run("test.haul", {"name": name, "seconds": 50})
    await sign_in(page, service, "walker")
    await expect(row_of(page, name)).to_have_attribute("data-status", "running")
    await page.get_by_role("radio", name="All").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page).to_have_url(f"{service.url}/jobs?show=live")
    row = row_of(page, name)
    await expect(row).to_have_attribute("data-status", "running")
    for _ in range(200):
        await page.keyboard.press("Tab")
        if await row.locator(".job__name").evaluate("element => element === document.activeElement"):
            break
    await expect(row.locator(".job__name")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(row.get_by_role("region", name="test.haul")).to_contain_text(name)
    await page.keyboard.press("Tab")
    await expect(row.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(row).to_have_attribute("data-status", "cancelled")
    await expect(row.locator(".job__name")).to_be_focused()


async def test_a_lost_connection_is_said_and_nothing_is_missed(service: Service, walker: User, page: Page) -> None:
    """The banner comes and goes; what ended and what was begun meanwhile stands there when the connection is back."""
    ends, begins = named(), named()
    walker.run("test.haul", {"name": ends, "seconds": 6})
    await sign_in(page, service, "walker")
    await expect(row_of(page, ends)).to_have_attribute("data-status", "running")
    await page.context.set_offline(True)
    await expect(page.locator("[data-banner]")).to_be_visible()
    await expect(row_of(page, ends)).to_have_attribute("data-status", "running")
    begun = walker.run("test.once", {"name": begins, "seconds": 0})
    walker.job(begun["id"], Prefer="wait=20")
    until(lambda: walker.ask("GET", "/jobs?name=test.haul&status=running").json()["items"] == [], "the other has ended")
    await page.context.set_offline(False)
    await expect(page.locator("[data-banner]")).to_be_hidden()
    await expect(row_of(page, ends)).to_have_attribute("data-status", "succeeded")
    await expect(row_of(page, begins)).to_have_attribute("data-status", "succeeded")


async def test_rows_stay_where_they_are_under_a_pointer(service: Service, walker: User, page: Page) -> None:
    """New jobs are announced and not shown while somebody is at the list; a press shows them, and goes there."""
    first, second = named(), named()
    walker.run("test.once", {"name": first, "seconds": 0})
    await sign_in(page, service, "walker")
    await row_of(page, first).hover()
    top = await row_of(page, first).bounding_box()
    walker.run("test.once", {"name": second, "seconds": 0})
    news = page.get_by_role("button", name="1 new job: show")
    await expect(news).to_be_visible()
    assert await row_of(page, first).bounding_box() == top
    await expect(row_of(page, second)).to_have_count(0)
    await news.click()
    await expect(row_of(page, second).locator(".job__name")).to_be_focused()
    await expect(news).to_be_hidden()


async def test_the_public_looks_and_does_not_touch(service: Service, walker: User, page: Page) -> None:
    """Public computations are shown, actions of others are not; that there are no buttons without a sign-in is said."""
    public, private = named(), named()
    walker.run("test.haul", {"name": private, "seconds": 0})
    service.get(f"/api/v1/resources/test.slow?name={public}&seconds=30", Prefer="respond-async")
    await page.goto(f"{service.url}/jobs")
    await expect(row_of(page, public)).to_have_attribute("data-status", "running")
    await expect(row_of(page, public).get_by_role("button", name="Cancel")).to_be_hidden()
    await expect(row_of(page, private)).to_have_count(0)
    await expect(page.locator("main").get_by_role("link", name="Sign in")).to_have_count(1)
    await page.locator("main").get_by_role("link", name="Sign in").click()
    await page.get_by_label("User name").fill("walker")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{service.url}/jobs")
    await row_of(page, public).get_by_role("button", name="Cancel").click()
    await expect(row_of(page, public)).to_have_attribute("data-status", "cancelled")


async def test_a_job_is_discarded(service: Service, walker: User, warden: User, page: Page) -> None:
    """One's own action by its owner; a computation, which is everybody's, only by the staff.  The focus goes on."""
    own, shared = named(), named()
    walker.run("test.once", {"name": own, "seconds": 0})
    service.get(f"/api/v1/resources/test.echo?text={shared}", Prefer="wait=20")
    await sign_in(page, service, "walker")
    await row_of(page, shared).locator(".job__name").click()
    await expect(row_of(page, shared).get_by_role("link", name="Its result")).to_be_visible()
    await expect(row_of(page, shared).get_by_role("button", name="Discard")).to_be_hidden()
    await row_of(page, own).locator(".job__name").click()
    await row_of(page, own).get_by_role("button", name="Discard").click()
    await expect(row_of(page, own)).to_have_count(0)
    await expect(page.locator(".job__name:focus")).to_have_count(1)
    await page.get_by_role("button", name="Sign out").click()
    await sign_in(page, service, "staff-warden", "/jobs?name=test.echo")
    await row_of(page, shared).locator(".job__name").click()
    await row_of(page, shared).get_by_role("button", name="Discard").click()
    await expect(row_of(page, shared)).to_have_count(0)
    assert shared not in service.get("/api/v1/jobs?name=test.echo").text


async def test_the_address_says_which_jobs(service: Service, walker: User, page: Page) -> None:
    """State and name are in the address: they outlive a reload, and Back goes to what was shown before."""
    name = named()
    walker.run("test.refuses", {"name": name})
    await sign_in(page, service, "walker")
    await expect(row_of(page, name)).to_have_attribute("data-status", "failed")
    await page.get_by_label("Name").fill("test.refuses")
    await page.keyboard.press("Enter")
    await page.get_by_role("radio", name="Failed").check()
    await expect(page).to_have_url(f"{service.url}/jobs?name=test.refuses&show=failed")
    await page.reload()
    await expect(page.get_by_role("radio", name="Failed")).to_be_checked()
    await expect(row_of(page, name)).to_be_visible()
    await expect(page.locator(".job:not([data-status=failed], [data-status=dead])")).to_have_count(0)
    await page.get_by_role("radio", name="Live").check()
    await expect(page.locator("[data-part=nothing]")).to_contain_text("No live job of test.refuses")
    await page.go_back()
    await expect(row_of(page, name)).to_be_visible()


async def test_a_silent_store_is_said_and_waited_for(own_service: Service, browser: Browser) -> None:
    """Who has actions sees them, and is told that computations are missing; else the list says that it cannot be read.
    It tries again, and when the store answers all is there."""
    name = named()
    person(own_service, "keeper").run("test.once", {"name": name, "seconds": 0})
    keeper, page = await browser.new_page(locale="en-US"), await browser.new_page(locale="en-US")
    await sign_in(keeper, own_service, "keeper")
    await expect(row_of(keeper, name)).to_have_attribute("data-status", "succeeded")
    (store,) = processes(own_service, "valkey-server") or processes(own_service, "redis-server")
    own_service.get(f"/api/v1/resources/test.echo?text={named()}", Prefer="wait=20")
    store.send_signal(signal.SIGSTOP)
    try:
        await page.goto(f"{own_service.url}/jobs")
        await expect(page.get_by_role("alert")).to_contain_text("The list could not be read")
        await keeper.reload()
        await expect(keeper.get_by_role("alert")).to_contain_text("Computations are missing")
        await expect(keeper.locator(".job")).to_have_count(1)
    finally:
        store.send_signal(signal.SIGCONT)
    await expect(page.locator(".job")).to_have_count(1, timeout=40_000)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(keeper.locator(".job")).to_have_count(2, timeout=40_000)
    await expect(keeper.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_nothing_is_wider_than_the_screen(service: Service, walker: User, page: Page, width: int) -> None:
    """Unfolded, with a long parameter and an error: no horizontal scrolling."""
    name = "w" * 40
    walker.run("test.refuses", {"name": name})
    await page.set_viewport_size({"width": width, "height": 800})
    await sign_in(page, service, "walker", "/jobs?show=failed")
    row = row_of(page, name).first
    await row.locator(".job__name").click()
    await expect(row.locator(".details tbody tr")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
