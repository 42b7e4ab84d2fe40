"""Webhooks over HTTP: to each user their own.

Invariant: a webhook is shown to its owner only, to others it does not exist; its secret is shown once, when it is made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from asgi_app import access, destinations, webhooks
from asgi_app.destinations import Refused
from asgi_app.env import env
from asgi_app.errors import BadParameters, Conflict, NotFound, Unauthenticated
from asgi_app.models import Webhook, WebhookDelivery
from asgi_app.registry import Principal
from asgi_app.views.http import api, body_object, reply

_PAGE = 50
#: Seconds a stranger's name server may take.
_RESOLVING = 5.0


@api("GET", "HEAD", "POST")
async def listing(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/webhooks`: one's own, newest first.  `POST {"url", "actions"}`: 201 with the secret; scope `run`."""
    mine = _mine(principal)
    if request.method == "POST":
        access.require_scope(principal, "run")
        return await _create(principal, body_object(request))
    access.check_readable(principal)
    found = [_public(webhook) async for webhook in mine.order_by("-id")]
    return reply({"items": found, "next": None})


@api("GET", "HEAD", "DELETE")
async def detail(request: HttpRequest, principal: Principal, webhook_id: str) -> HttpResponse:
    """`GET /api/v1/webhooks/{id}`: the webhook.  `DELETE`: 204, it is gone with its deliveries; scope `run`."""
    webhook = await _owned(principal, webhook_id, change=request.method == "DELETE")
    if request.method != "DELETE":
        return reply(_public(webhook))
    await webhook.adelete()
    return HttpResponse(status=204)


@api("POST")
async def rotate(request: HttpRequest, principal: Principal, webhook_id: str) -> HttpResponse:
    """`POST /api/v1/webhooks/{id}/rotate`: a new secret; the one before signs along for 24 hours; scope `run`."""
    webhook = await _owned(principal, webhook_id, change=True)
    fields = webhooks.rotated(webhook)
    if not await Webhook.objects.filter(pk=webhook.pk, secret=webhook.secret).aupdate(**fields):
        raise Conflict("somebody else gave it a new secret at this moment, or removed it")
    return reply({**_public(webhook), "secret": fields["secret"]})


@api("POST")
async def test(request: HttpRequest, principal: Principal, webhook_id: str) -> HttpResponse:
    """`POST /api/v1/webhooks/{id}/test`: 202 with a delivery of type `webhook.test`; scope `run`."""
    webhook = await _owned(principal, webhook_id, change=True)
    _check_active(webhook)
    made = webhooks.trial(webhook)
    await made.asave(force_insert=True)
    return reply(_delivery(await WebhookDelivery.objects.aget(pk=made.pk)), 202)


@api("GET", "HEAD")
async def deliveries(request: HttpRequest, principal: Principal, webhook_id: str) -> HttpResponse:
    """`GET /api/v1/webhooks/{id}/deliveries?cursor=`: what was and is to be sent there, newest first."""
    webhook = await _owned(principal, webhook_id)
    found = WebhookDelivery.objects.filter(webhook=webhook.pk).defer("payload").order_by("-id")
    if (cursor := _cursor(request)) is not None:
        found = found.filter(pk__lt=cursor)
    rows = [row async for row in found[: _PAGE + 1]]
    page = rows[:_PAGE]
    return reply({"items": [_delivery(row) for row in page], "next": str(page[-1].pk) if len(rows) > _PAGE else None})


@api("POST")
async def redeliver(request: HttpRequest, principal: Principal, webhook_id: str, delivery_id: str) -> HttpResponse:
    """`POST /api/v1/webhooks/{id}/deliveries/{delivery}/redeliver`: 202, sent again under its id; scope `run`."""
    webhook = await _owned(principal, webhook_id, change=True)
    _check_active(webhook)
    wanted = WebhookDelivery.objects.filter(pk=_id(delivery_id, "delivery"), webhook=webhook.pk)
    if not await wanted.aupdate(**webhooks.again()):
        raise NotFound("there is no such delivery")
    return reply(_delivery(await wanted.aget()), 202)


async def _create(principal: Principal, body: Mapping[str, Any]) -> HttpResponse:
    url, globs = await _checked(body)
    made = Webhook(
        id=webhooks.new_id(),
        owner_id=principal.user_id,  # type: ignore[misc]  # a text is read as an id
        url=url,
        actions=json.dumps(globs),
        secret=webhooks.new_secret(),
    )
    await made.asave(force_insert=True)
    # Counted afterwards: of several that are made at once none gets past the limit.
    if await _mine(principal).acount() > webhooks.MOST:
        await made.adelete()
        raise Conflict(f"a user has at most {webhooks.MOST} webhooks: remove one first")
    made = await Webhook.objects.aget(pk=made.pk)
    return reply({**_public(made), "secret": made.secret}, 201, Location=f"/api/v1/webhooks/{made.pk}")


async def _checked(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """URL and globs of a new webhook.  Raises BadParameters."""
    bad = [_fault(name, "unknown; allowed are url and actions") for name in sorted(set(body) - {"url", "actions"})]
    globs = body.get("actions", ["*"])
    if not isinstance(globs, list) or not all(map(webhooks.is_glob, globs)):
        bad.append(_fault("actions", "a list of names of actions, * for any characters"))
    elif not 0 < len(globs) <= webhooks.MOST_GLOBS:
        bad.append(_fault("actions", f"1 to {webhooks.MOST_GLOBS} names"))
    url = body.get("url")
    if not isinstance(url, str):
        bad.append(_fault("url", "is missing" if url is None else "must be a text"))
    else:
        try:
            destination = destinations.parse(url, production=env().production)
            async with asyncio.timeout(_RESOLVING):
                await destinations.resolve(destination.host, env().webhook_allow)
        except Refused as refusal:
            bad.append(_fault("url", str(refusal)))
        except TimeoutError:
            bad.append(_fault("url", "its name was not resolved in time"))
    if bad:
        raise BadParameters(bad)
    assert isinstance(url, str)
    return url, globs


def _fault(name: str, reason: str) -> dict[str, str]:
    return {"name": name, "reason": reason}


def _mine(principal: Principal) -> QuerySet[Webhook]:
    if principal.is_anonymous:
        raise Unauthenticated("webhooks belong to a user: log in or send a token")
    return Webhook.objects.filter(owner_id=principal.user_id)  # type: ignore[misc]  # a text is read as an id


async def _owned(principal: Principal, webhook_id: str, *, change: bool = False) -> Webhook:
    """One of the principal's own.  Raises NotFound, Denied without the scope, Unauthenticated."""
    mine = _mine(principal)
    if change:
        access.require_scope(principal, "run")
    else:
        access.check_readable(principal)
    found = await mine.filter(pk=_id(webhook_id, "webhook")).afirst()
    if found is None:
        raise NotFound("there is no such webhook")
    return found


def _id(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no such {what}") from None


def _cursor(request: HttpRequest) -> UUID | None:
    """Where the page before ended.  Raises BadParameters."""
    bad = [_fault(name, "unknown; allowed is cursor") for name in sorted(set(request.GET) - {"cursor"})]
    cursors = request.GET.getlist("cursor")
    try:
        found = UUID(cursors[0]) if cursors else None
    except ValueError:
        found = None
        bad.append(_fault("cursor", "must be the `next` of a listing"))
    if len(cursors) > 1:
        bad.append(_fault("cursor", "is given twice"))
    if bad:
        raise BadParameters(bad)
    return found


def _check_active(webhook: Webhook) -> None:
    if not webhook.active:
        reason = webhook.disabled_reason or "by an administrator"
        raise Conflict(f"the webhook was disabled: {reason}; make a new one")


def _public(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": str(webhook.pk),
        "url": webhook.url,
        "actions": json.loads(webhook.actions),
        "active": webhook.active,
        "disabled_reason": webhook.disabled_reason or None,
        "created_at": _time(webhook.created_at),
    }


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "type": row.event,
        "job": str(row.job) if row.job else None,
        "status": row.status,
        "attempts": row.attempts,
        "next_attempt_at": _time(row.due_at) if row.status == webhooks.PENDING else None,
        "last_status": row.last_status,
        "last_error": row.last_error or None,
        "created_at": _time(row.created_at),
        "delivered_at": _time(row.delivered_at),
    }


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
