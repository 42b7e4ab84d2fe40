"""The deliverer of webhooks: sends what `asgi_app/webhooks.py` has written down, until it has arrived or is given up.

Invariant: any number of deliverers may run.  An attempt begins by putting its delivery off (a lease) and ends by a
write that asks for its number; a process that dies in between only delays it.  So a message arrives at least once,
always under the same `webhook-id`, and in no particular order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import Error
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from asgi_app import __version__, destinations, webhooks
from asgi_app.destinations import Lookup, Refused
from asgi_app.env import Env
from asgi_app.models import Webhook, WebhookDelivery
from asgi_app.wiring import Node
from tasks.posting import Answer, Unanswered, post

log = logging.getLogger(__name__)

#: Seconds between two looks, jittered; also after each attempt that ended.
EVERY = 1.0
#: Attempts at a time in one process, of them for one user and for one webhook: a slow receiver holds up itself.
SLOTS, PER_OWNER, PER_WEBHOOK = 16, 6, 2
#: Seconds an attempt may take in all, and those after which somebody else may try.
DEADLINE, LEASE = 10.0, 60.0
#: A receiver is believed this many seconds when it says how long it wants to be left alone.
LONGEST_WAIT = 86_400.0
#: Days after which a delivery is forgotten, whatever became of it; rows that are removed together.
KEPT_DAYS, BATCH = 30, 1000
#: Seconds between two removals.
FORGET_EVERY = 60.0
#: Seconds attempts are given to end when the process leaves.
GRACE = 2.0

_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Millpond/{__version__}"}
_GONE = 410
_WAIT_STATUSES = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An attempt that nobody else makes meanwhile."""

    delivery: UUID
    webhook: UUID
    owner: Any
    #: Whether the owner may still see anything.
    owner_active: bool
    number: int
    url: str
    body: bytes
    signing: tuple[str, ...]


class Deliverer:
    """Makes attempts, a bounded number at a time."""

    def __init__(self, settings: Env, *, tls: ssl.SSLContext | None = None, look_up: Lookup | None = None) -> None:
        self._settings = settings
        self._tls = tls or ssl.create_default_context()
        self._look_up: dict[str, Lookup] = {"look_up": look_up} if look_up else {}
        self._flying: dict[asyncio.Task[None], Claimed] = {}

    async def start_due(self, now: datetime | None = None) -> int:
        """Begin as many due attempts as there is room for; how many.  `now`: by the clock of the database."""
        started = 0
        while free := SLOTS - len(self._flying):
            claimed = await database_sync_to_async(claim)(free, list(self._flying.values()), now)
            for one in claimed:
                task = asyncio.get_running_loop().create_task(self._attempt(one, now))
                self._flying[task] = one
                task.add_done_callback(self._over)
            started += len(claimed)
            if not claimed:
                break
        return started

    async def wait(self, seconds: float) -> None:
        """Until an attempt has ended, at most `seconds`."""
        if self._flying:
            await asyncio.wait(self._flying, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Until all attempts have ended."""
        while self._flying:
            await asyncio.wait(self._flying)

    async def stop(self) -> None:
        """Let attempts end for a moment, then drop them: their deliveries are tried again when their lease is over."""
        if self._flying:
            await asyncio.wait(self._flying, timeout=GRACE)
        for task in self._flying:
            task.cancel()
        await asyncio.gather(*self._flying, return_exceptions=True)

    def _over(self, task: asyncio.Task[None]) -> None:
        one = self._flying.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery %s: what became of it was not written down", one.delivery, exc_info=error)

    async def _attempt(self, one: Claimed, now: datetime | None) -> None:
        answer: Answer | None = None
        error = ""
        try:
            answer = await self._sent(one)
        except (Refused, Unanswered) as refusal:
            error = str(refusal)
        await database_sync_to_async(record)(one, answer, error, luck=random.random(), now=now)

    async def _sent(self, one: Claimed) -> Answer:
        if not one.owner_active:
            raise Refused("its owner was deactivated")
        loop = asyncio.get_running_loop()
        until = loop.time() + DEADLINE
        destination = destinations.parse(one.url, production=self._settings.production)
        addresses = await destinations.resolve(destination.host, self._settings.webhook_allow, **self._look_up)
        signature = webhooks.signed(str(one.delivery), int(time.time()), one.body, one.signing)
        headers = {**_HEADERS, **signature}
        return await post(
            destination, addresses, headers, one.body, deadline=max(0.0, until - loop.time()), tls=self._tls
        )


def claim(most: int, flying: list[Claimed], now: datetime | None = None) -> list[Claimed]:
    """Take up to `most` due deliveries for this process, the longest due first, beside those that fly already."""
    of_webhook, of_owner = Counter(one.webhook for one in flying), Counter(one.owner for one in flying)
    due = (
        WebhookDelivery.objects.filter(status=webhooks.PENDING, due_at__lte=now or Now(), webhook__active=True)
        .exclude(webhook__in=[webhook for webhook, count in of_webhook.items() if count >= PER_WEBHOOK])
        .exclude(webhook__owner__in=[owner for owner, count in of_owner.items() if count >= PER_OWNER])
        .select_related("webhook__owner")
        .order_by("due_at")
    )
    claimed: list[Claimed] = []
    for delivery in due[: 2 * SLOTS]:
        webhook = delivery.webhook
        full = of_webhook[webhook.pk] >= PER_WEBHOOK or of_owner[webhook.owner_id] >= PER_OWNER
        if len(claimed) < most and not full and _leased(delivery, now):
            claimed.append(_claimed(delivery))
            of_webhook[webhook.pk] += 1
            of_owner[webhook.owner_id] += 1
    return claimed


def _leased(delivery: WebhookDelivery, now: datetime | None) -> bool:
    seen = WebhookDelivery.objects.filter(pk=delivery.pk, status=webhooks.PENDING, attempts=delivery.attempts)
    until = (now or Now()) + timedelta(seconds=LEASE)
    return seen.filter(due_at__lte=now or Now()).update(attempts=F("attempts") + 1, due_at=until) == 1


def _claimed(delivery: WebhookDelivery) -> Claimed:
    webhook = delivery.webhook
    return Claimed(
        delivery=delivery.pk,
        webhook=webhook.pk,
        owner=webhook.owner_id,
        owner_active=webhook.owner.is_active,
        number=delivery.attempts + 1,
        url=webhook.url,
        body=delivery.payload.encode(),
        signing=tuple(webhooks.signing_secrets(webhook, timezone.now())),
    )


def record(one: Claimed, answer: Answer | None, error: str, *, luck: float, now: datetime | None = None) -> None:
    """Write down what became of an attempt; nothing when somebody else has made a later one."""
    said: dict[str, Any] = {"last_status": answer.status if answer else None, "last_error": error}
    if answer is not None and 200 <= answer.status < 300:
        _write(one, {**said, "status": webhooks.DELIVERED, "delivered_at": now or Now()})
    elif answer is not None and answer.status == _GONE:
        _write(one, {**said, "status": webhooks.DEAD, "last_error": "it is gone"})
        disable(one.webhook, "it answered 410 Gone")
    else:
        said["last_error"] = error or f"it answered {answer.status if answer else 'nothing'}"
        _again_later(one, answer, said, webhooks.pause(one.number, luck), now)


def _again_later(
    one: Claimed, answer: Answer | None, said: Mapping[str, Any], pause: float | None, now: datetime | None
) -> None:
    asked = _wait_asked(answer)
    if asked:
        until = (now or Now()) + timedelta(seconds=asked)
        others = WebhookDelivery.objects.filter(webhook=one.webhook, status=webhooks.PENDING, due_at__lt=until)
        others.exclude(pk=one.delivery).update(due_at=until)
    if pause is None or not one.owner_active:
        _write(one, {**said, "status": webhooks.DEAD})
        log.warning("delivery %s of webhook %s is given up: %s", one.delivery, one.webhook, said["last_error"])
    else:
        _write(one, {**said, "due_at": (now or Now()) + timedelta(seconds=max(pause, asked))})


def _wait_asked(answer: Answer | None) -> float:
    if answer is None or answer.status not in _WAIT_STATUSES:
        return 0.0
    return min(answer.retry_after or 0.0, LONGEST_WAIT)


def _write(one: Claimed, fields: Mapping[str, Any]) -> None:
    mine = WebhookDelivery.objects.filter(pk=one.delivery, status=webhooks.PENDING, attempts=one.number)
    mine.update(**fields)


def disable(webhook: UUID, reason: str) -> None:
    """Send nothing more to a webhook; what was on its way there is dead."""
    Webhook.objects.filter(pk=webhook, active=True).update(active=False, disabled_reason=reason)
    waiting = WebhookDelivery.objects.filter(webhook=webhook, status=webhooks.PENDING)
    waiting.update(status=webhooks.DEAD, last_error="the webhook was disabled")
    log.warning("webhook %s is disabled: %s", webhook, reason)


def forget(now: datetime | None = None) -> int:
    """Remove the oldest deliveries that are older than `KEPT_DAYS`; how many."""
    old = WebhookDelivery.objects.filter(created_at__lt=(now or Now()) - timedelta(days=KEPT_DAYS))
    ids = list(old.order_by("created_at").values_list("pk", flat=True)[:BATCH])
    return WebhookDelivery.objects.filter(pk__in=ids).delete()[0] if ids else 0


async def keep_delivering(node: Node) -> None:
    """Deliver until cancelled."""
    deliverer = Deliverer(node.env)
    forgotten = 0.0
    try:
        while True:
            await deliverer.wait(EVERY * random.uniform(0.5, 1.5))
            try:
                await deliverer.start_due()
                if time.monotonic() - forgotten > FORGET_EVERY:
                    since, many = time.monotonic(), await database_sync_to_async(forget)()
                    forgotten = (
                        since if many < BATCH else forgotten
                    )  # else there are more, and they go in the next round
            except Error as error:
                log.warning("webhooks wait: %s", error)
            except Exception:
                log.exception("webhooks were not delivered")
    finally:
        await deliverer.stop()
