"""Webhooks: who wants to be told of the end of a job, what is told, and how it is signed (Standard Webhooks 1.0).

Invariant: a message is written in the transaction that ends its job: none is told of an end that was rolled back, and
each committed end is told at least once, under one id, or stands among the dead deliveries.  What sends is
`tasks/webhooks.py`.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.utils import timezone

from asgi_app.jobs import SERVICE, new_job_id, public
from asgi_app.models import Job, Webhook, WebhookDelivery

#: Webhooks of one user.
MOST = 20
#: Globs of one webhook, and characters of each.
MOST_GLOBS, LONGEST_GLOB = 50, 200
#: How long the secret before signs along.
ROTATION = timedelta(hours=24)
#: Seconds after the first attempt that failed, the second, …: about three days, as Standard Webhooks recommends.
PAUSES = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
TEST = "webhook.test"

_SECRET_PREFIX = "whsec_"  # noqa: S105  (what the specification has secrets begin with)
_GLOB = re.compile(rf"[a-z0-9_.*]{{1,{LONGEST_GLOB}}}")


def note_completion(job: Job) -> None:
    """Write down that a job is over, for each webhook that wants to know; in the caller's transaction.

    One indexed query where there is none.  Raises DatabaseError.
    """
    if job.owner in ("", SERVICE):
        return
    wanting = [webhook for webhook in _of(job) if wants(webhook.actions, job.name)]
    if wanting:
        message = payload(f"job.{job.status}", public(job.fields()))
        made = [delivery(webhook, f"job.{job.status}", message, job.id) for webhook in wanting]
        WebhookDelivery.objects.using(job._state.db).bulk_create(made)


def _of(job: Job) -> list[Webhook]:
    mine = Webhook.objects.using(job._state.db).only("id", "owner_id", "actions")
    try:
        found = list(mine.filter(owner=job.owner, active=True))  # type: ignore[misc]  # a text is read as an id
    except (ValueError, TypeError, ValidationError):  # an id that is none of a user of ours
        return []
    return [webhook for webhook in found if str(webhook.owner_id) == job.owner]  # " 1" and "１" find user 1


def wants(globs: str, name: str) -> bool:
    """Whether an action's name matches one of a webhook's globs (their JSON); `*` is any number of any characters."""
    return any(_matches(glob, name) for glob in json.loads(globs))


def _matches(glob: str, name: str) -> bool:
    """In time that grows with the product of both, whatever the glob (a regular expression could take for ever)."""
    first, *parts = glob.split("*")
    if not parts:
        return glob == name
    *middle, last = parts
    if not name.startswith(first) or not name[len(first) :].endswith(last):
        return False
    rest = name[len(first) : len(name) - len(last)]
    for part in middle:
        _, found, rest = rest.partition(part) if part else ("", "*", rest)
        if not found:
            return False
    return True


def is_glob(text: object) -> bool:
    """Whether this can name actions."""
    return isinstance(text, str) and _GLOB.fullmatch(text) is not None


def payload(event: str, data: Mapping[str, Any]) -> str:
    """A message, as JSON.  Its time is that of the event: the end of the job."""
    ended = data.get("finished_at") or datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": event, "timestamp": ended, "data": data}, separators=(",", ":"), ensure_ascii=False)


def delivery(webhook: Webhook, event: str, message: str, job: UUID | None = None) -> WebhookDelivery:
    """A message to one webhook, due at once; not saved yet."""
    return WebhookDelivery(id=new_id(), webhook_id=webhook.pk, job=job, event=event, payload=message)


def trial(webhook: Webhook) -> WebhookDelivery:
    """A message that says nothing but that it arrived; not saved yet."""
    return delivery(webhook, TEST, payload(TEST, {"webhook": str(webhook.pk)}))


def again() -> dict[str, Any]:
    """The fields of a delivery that starts over, for an UPDATE."""
    return {"status": PENDING, "attempts": 0, "due_at": Now(), "delivered_at": None}


def rotated(webhook: Webhook) -> dict[str, Any]:
    """The fields of a webhook with a new secret, beside which the one before signs for a day."""
    return {
        "secret": new_secret(),
        "old_secret": webhook.secret,
        "old_secret_until": timezone.now() + ROTATION,
    }


def new_id() -> UUID:
    """A UUIDv7."""
    return UUID(new_job_id(time.time_ns() // 1_000_000))


def new_secret() -> str:
    """32 random bytes, as Standard Webhooks write a secret."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signing_secrets(webhook: Webhook, now: datetime) -> list[str]:
    """What signs a message at this time, the newest first."""
    until = webhook.old_secret_until
    return [webhook.secret, *([webhook.old_secret] if webhook.old_secret and until and now < until else [])]


def signed(message_id: str, timestamp: int, body: bytes, signing: Iterable[str]) -> dict[str, str]:
    """The headers by which a receiver knows a message, that it is ours, and that it is not an old one sent again."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, content) for secret in signing),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def pause(attempts: int, luck: float) -> float | None:
    """Seconds to wait after so many attempts, None: that was the last.  `luck` is uniform in [0, 1).

    Random over a range as wide as the pause itself and around it, so that what failed together parts and the whole
    still takes about three days.
    """
    return PAUSES[attempts - 1] * (0.5 + luck) if attempts <= len(PAUSES) else None
