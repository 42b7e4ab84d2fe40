"""A message is sent until it has arrived or is given up, by one deliverer at a time, under one id."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from asgi_app import webhooks
from asgi_app.env import Env
from asgi_app.models import Webhook, WebhookDelivery
from tasks.webhooks import KEPT_DAYS, LEASE, Deliverer, claim, forget, keep_delivering, record
from tests.integration.webhooks.conftest import registered, told
from tests.support.nodes import node
from tests.support.receiver import Receiver
from tests.support.store import StoreServer
from tests.support.watcher import eventually

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def later(**passed: float) -> datetime:
    """A time by which something is due."""
    return datetime.now(UTC) + timedelta(**passed)


async def deliver(settings: Env, now: datetime | None = None) -> int:
    """One round of a scheduler that comes by then; how many attempts it made."""
    deliverer = Deliverer(settings)
    started = await deliverer.start_due(now)
    await deliverer.settle()
    return started


async def only() -> WebhookDelivery:
    return await WebhookDelivery.objects.select_related("webhook").aget()


async def test_a_message_arrives_once_and_signed(owner: User, receiver: Receiver, loopback: Env) -> None:
    """By the clock of the database; an independent verifier takes it, and nothing is sent again."""
    webhook = await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    assert await deliver(loopback) == 1
    assert await deliver(loopback) == 0
    assert await deliver(loopback, later(days=10)) == 0
    [got] = receiver.got
    message = standardwebhooks.Webhook(webhook.secret).verify(got.body, got.headers)
    assert (message["type"], message["data"]["name"]) == ("job.succeeded", "report.mail")
    assert (got.method, got.path) == ("POST", "/hook?a=b")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"
    row = await only()
    assert (row.status, row.attempts, row.last_status, row.last_error) == ("delivered", 1, 204, "")
    assert row.delivered_at is not None
    assert str(row.pk) == got.id


async def test_a_failure_is_tried_again_under_the_same_id(owner: User, receiver: Receiver, loopback: Env) -> None:
    """Not before its time, which grows; each attempt is signed anew."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    receiver.answers = [500, 404]
    assert await deliver(loopback) == 1
    assert (await only()).last_error == "it answered 500"
    assert await deliver(loopback) == 0
    assert await deliver(loopback, later(seconds=8)) == 1
    assert await deliver(loopback, later(seconds=100)) == 0
    assert await deliver(loopback, later(minutes=10)) == 1
    assert len(receiver.got) == 3
    assert len({got.id for got in receiver.got}) == 1
    row = await only()
    assert (row.status, row.attempts, row.last_status) == ("delivered", 3, 204)


async def test_after_the_last_attempt_it_is_dead_and_can_be_sent_again(
    owner: User, receiver: Receiver, loopback: Env
) -> None:
    """Ten attempts; then nobody tries until somebody asks for it, which starts over under the same id."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    receiver.answers = [503] * 10
    now = later()
    for number in range(1, 11):
        assert (await only()).status == "pending"
        assert await deliver(loopback, now) == 1, number
        now += 2 * timedelta(days=1)
    row = await only()
    assert (row.status, row.attempts, row.last_status) == ("dead", 10, 503)
    assert await deliver(loopback, now) == 0
    await WebhookDelivery.objects.filter(pk=row.pk).aupdate(**webhooks.again())
    assert await deliver(loopback) == 1
    assert (await only()).status == "delivered"
    assert len({got.id for got in receiver.got}) == 1


async def test_410_disables_the_webhook(owner: User, receiver: Receiver, loopback: Env) -> None:
    """Nothing more is sent there, and what waited is dead; the owner sees why."""
    gone, other = [await sync_to_async(registered)(owner, receiver.url, glob) for glob in ("report.*", "demo.*")]
    for _ in range(4):
        await sync_to_async(told)(owner)
    receiver.answers = [410, 410]
    await deliver(loopback)
    await deliver(loopback, later(days=3))
    assert 1 <= len(receiver.got) <= 2
    await gone.arefresh_from_db()
    assert (gone.active, gone.disabled_reason) == (False, "it answered 410 Gone")
    assert {row.status async for row in gone.deliveries.all()} == {"dead"}
    assert (await Webhook.objects.aget(pk=other.pk)).active
    await sync_to_async(told)(owner)
    assert await gone.deliveries.acount() == 4


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_is_left_alone_as_long_as_it_asks(
    owner: User, receiver: Receiver, loopback: Env, status: int
) -> None:
    """But nobody is believed more than a day."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    receiver.answers = [(status, {"Retry-After": "3600"})]
    await deliver(loopback)
    assert await deliver(loopback, later(minutes=59)) == 0
    receiver.answers = [(status, {"Retry-After": "999999999"})]
    assert await deliver(loopback, later(minutes=61)) == 1
    row = await only()
    assert row.due_at <= later(hours=25, minutes=2)
    assert await deliver(loopback, later(hours=26)) == 1


async def test_others_on_their_way_to_it_wait_too(owner: User, receiver: Receiver, loopback: Env) -> None:
    """A 429 is meant for all of them."""
    await sync_to_async(registered)(owner, receiver.url)
    for _ in range(2):
        await sync_to_async(told)(owner)
    first, _ = await sync_to_async(claim)(16, [])
    await WebhookDelivery.objects.exclude(pk=first.delivery).aupdate(attempts=0, due_at=later(seconds=-1))
    receiver.answers = [(429, {"Retry-After": "600"})]
    deliverer = Deliverer(loopback)
    answer = await deliverer._sent(first)
    await sync_to_async(record)(first, answer, "", luck=0.5)
    assert await deliver(loopback) == 0
    assert await deliver(loopback, later(minutes=11)) == 2


async def test_two_deliverers_send_a_message_once(owner: User, receiver: Receiver, loopback: Env) -> None:
    """Whoever put it off first sends it."""
    for glob in ("report.*", "*", "*.mail"):
        await sync_to_async(registered)(owner, receiver.url, glob)
    for _ in range(3):
        await sync_to_async(told)(owner)
    while sum(await asyncio.gather(*(deliver(loopback) for _ in range(4)))):
        pass
    assert len(receiver.got) == 9
    assert len({got.id for got in receiver.got}) == 9


async def test_who_lost_the_race_sends_nothing(owner: User, receiver: Receiver, loopback: Env) -> None:
    """Both have read the same rows, one has put them off."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    assert len(await sync_to_async(claim)(16, [])) == 1
    assert await sync_to_async(claim)(16, []) == []
    assert await deliver(loopback) == 0


async def test_an_attempt_that_died_is_made_again(owner: User, receiver: Receiver, loopback: Env) -> None:
    """When its lease is over; and had it lived after all, it would write nothing."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    [lost] = await sync_to_async(claim)(16, [])
    assert await deliver(loopback, later(seconds=LEASE - 5)) == 0
    receiver.answers = [500]
    assert await deliver(loopback, later(seconds=LEASE + 5)) == 1
    before = await only()
    assert before.attempts == 2
    await sync_to_async(record)(lost, None, "late", luck=0.5)
    after = await only()
    assert (after.last_error, after.due_at) == (before.last_error, before.due_at)


async def test_a_rotation_signs_with_both(owner: User, receiver: Receiver, loopback: Env) -> None:
    """The receiver may still have the old secret."""
    webhook = await sync_to_async(registered)(owner, receiver.url)
    await Webhook.objects.filter(pk=webhook.pk).aupdate(**webhooks.rotated(webhook))
    renewed = await Webhook.objects.aget(pk=webhook.pk)
    await sync_to_async(told)(owner)
    await deliver(loopback)
    [got] = receiver.got
    for secret in (webhook.secret, renewed.secret):
        assert standardwebhooks.Webhook(secret).verify(got.body, got.headers)


async def test_an_owner_who_was_deactivated_is_told_nothing(owner: User, receiver: Receiver, loopback: Env) -> None:
    """What a user may see is asked at every delivery."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    await User.objects.filter(pk=owner.pk).aupdate(is_active=False)
    await deliver(loopback)
    row = await only()
    assert (row.status, row.last_error) == ("dead", "its owner was deactivated")
    assert receiver.got == []


async def test_a_webhook_that_is_switched_off_waits(owner: User, receiver: Receiver, loopback: Env) -> None:
    """By an administrator; what was on its way goes on when it is switched on again."""
    webhook = await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    await Webhook.objects.filter(pk=webhook.pk).aupdate(active=False)
    assert await deliver(loopback) == 0
    await Webhook.objects.filter(pk=webhook.pk).aupdate(active=True)
    assert await deliver(loopback) == 1


async def test_old_deliveries_are_forgotten(owner: User) -> None:
    """After a month, whatever became of them."""
    await sync_to_async(registered)(owner, "https://hooks.example/")
    await sync_to_async(told)(owner)
    assert await sync_to_async(forget)() == 0
    assert await sync_to_async(forget)(later(days=KEPT_DAYS - 1)) == 0
    assert await sync_to_async(forget)(later(days=KEPT_DAYS + 1)) == 1


async def test_leaving_lets_attempts_end(owner: User, receiver: Receiver, loopback: Env) -> None:
    """What has been sent is written down; nothing is left behind."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    deliverer = Deliverer(loopback)
    await deliverer.start_due()
    await deliverer.stop()
    await deliverer.stop()
    assert (await only()).status == "delivered"


async def test_a_scheduler_delivers_by_itself(
    owner: User, receiver: Receiver, loopback: Env, store_server: StoreServer, namespace: str
) -> None:
    """Beside what else it does, until it is told to leave."""
    await sync_to_async(registered)(owner, receiver.url)
    async with node(store_server.url, namespace, webhook_allow=loopback.webhook_allow) as running:
        delivering = asyncio.create_task(keep_delivering(running))
        await sync_to_async(told)(owner)
        await eventually(lambda: len(receiver.got) == 1, "the first")
        await sync_to_async(told)(owner)
        await eventually(lambda: len(receiver.got) == 2, "the second")
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
    assert {row.status async for row in WebhookDelivery.objects.all()} == {"delivered"}
