"""Users keep their webhooks over HTTP: their own, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import standardwebhooks
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient

from asgi_app import access, webhooks
from asgi_app.env import Env, env
from asgi_app.models import Webhook, WebhookDelivery
from asgi_app.views import webhooks as views
from tasks.webhooks import Deliverer
from tests.integration.webhooks.conftest import registered, told
from tests.support.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

BASE = "/api/v1/webhooks"
#: Asks with a token: method, path, body -> status and answer.
Asking = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture(autouse=True)
def loopback_is_allowed(monkeypatch: pytest.MonkeyPatch, loopback: Env) -> None:
    monkeypatch.setattr(views, "env", lambda: loopback)


def asking_as(user: User, *scopes: str) -> Asking:
    """With a new API token of theirs."""

    async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        token = await sync_to_async(access.create_token)(user.username, None, scopes or ("read", "run"))
        headers = {"authorization": f"Bearer {token}"}
        data = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        answer = await AsyncClient().generic(method, path, headers=headers, **data)  # type: ignore[arg-type]
        return answer.status_code, json.loads(answer.content) if answer.content else None

    return ask


@pytest.fixture
def ask(owner: User) -> Asking:
    return asking_as(owner)


async def test_a_webhook_from_its_making_to_its_end(ask: Asking, receiver: Receiver) -> None:
    """Its secret is shown once; it is listed, shown, and removed."""
    status, made = await ask("POST", BASE, {"url": receiver.url, "actions": ["report.*"]})
    assert status == 201
    assert made.pop("secret").startswith("whsec_")
    assert made == {
        "id": made["id"],
        "url": receiver.url,
        "actions": ["report.*"],
        "active": True,
        "disabled_reason": None,
        "created_at": made["created_at"],
    }
    assert await ask("GET", BASE) == (200, {"items": [made], "next": None})
    assert await ask("GET", f"{BASE}/{made['id']}") == (200, made)
    assert await ask("DELETE", f"{BASE}/{made['id']}") == (204, None)
    assert (await ask("GET", f"{BASE}/{made['id']}"))[0] == 404


async def test_a_test_message_arrives(ask: Asking, receiver: Receiver, loopback: Env) -> None:
    """Signed with the secret that was shown, and listed among the deliveries."""
    _, made = await ask("POST", BASE, {"url": receiver.url})
    assert made["actions"] == ["*"]
    status, delivery = await ask("POST", f"{BASE}/{made['id']}/test")
    assert (status, delivery["type"], delivery["status"], delivery["job"]) == (202, "webhook.test", "pending", None)
    deliverer = Deliverer(loopback)
    await deliverer.start_due()
    await deliverer.settle()
    [got] = receiver.got
    message = standardwebhooks.Webhook(made["secret"]).verify(got.body, got.headers)
    assert (message["type"], message["data"]) == ("webhook.test", {"webhook": made["id"]})
    _, found = await ask("GET", f"{BASE}/{made['id']}/deliveries")
    [listed] = found["items"]
    assert (listed["id"], listed["status"], listed["attempts"], listed["last_status"]) == (got.id, "delivered", 1, 204)
    assert listed["next_attempt_at"] is None


async def test_a_rotation_gives_a_new_secret(ask: Asking, receiver: Receiver) -> None:
    """Once again shown once; the old one still signs for a day."""
    _, made = await ask("POST", BASE, {"url": receiver.url})
    status, rotated = await ask("POST", f"{BASE}/{made['id']}/rotate")
    assert status == 200
    assert rotated["secret"] != made["secret"]
    kept = await Webhook.objects.aget()
    assert (kept.secret, kept.old_secret) == (rotated["secret"], made["secret"])
    assert "secret" not in (await ask("GET", f"{BASE}/{made['id']}"))[1]


async def test_deliveries_are_listed_page_by_page_and_sent_again(
    ask: Asking, owner: User, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first; what is dead starts over."""
    monkeypatch.setattr(views, "_PAGE", 2)
    webhook = await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(registered)(owner, receiver.url)
    for _ in range(5):
        await sync_to_async(told)(owner)
    listed: list[str] = []
    path = f"{BASE}/{webhook.pk}/deliveries"
    following: str | None = ""
    while following is not None:
        _, page = await ask("GET", path + (f"?cursor={following}" if following else ""))
        assert len(page["items"]) <= 2
        listed += [item["id"] for item in page["items"]]
        following = page["next"]
    assert listed == [str(row.pk) async for row in webhook.deliveries.order_by("-pk")]
    assert len(listed) == 5
    await WebhookDelivery.objects.filter(pk=listed[0]).aupdate(status="dead", attempts=10)
    status, again = await ask("POST", f"{path}/{listed[0]}/redeliver")
    assert (status, again["id"], again["status"], again["attempts"]) == (202, listed[0], "pending", 0)
    for wrong in ("?cursor=x", "?page=2", f"?cursor={listed[0]}&cursor={listed[1]}"):
        assert (await ask("GET", path + wrong))[0] == 400


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": "https://user:pw@example.org/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://2130706433/"}, "url"),
        ({"url": "ftp://127.0.0.1/"}, "url"),
        ({"url": "https://127.0.0.1:22/"}, "url"),
        ({"url": "https://127.0.0.1/", "actions": []}, "actions"),
        ({"url": "https://127.0.0.1/", "actions": "*"}, "actions"),
        ({"url": "https://127.0.0.1/", "actions": ["A b"]}, "actions"),
        ({"url": "https://127.0.0.1/", "actions": ["*"] * 51}, "actions"),
        ({"url": "https://127.0.0.1/", "secret": "mine"}, "secret"),
    ],
)
async def test_bad_input_is_named(ask: Asking, body: dict[str, Any], name: str) -> None:
    """And makes nothing."""
    status, problem = await ask("POST", BASE, body)
    assert (status, [fault["name"] for fault in problem["errors"]]) == (400, [name])
    assert not await Webhook.objects.aexists()


async def test_without_leave_loopback_is_inside(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default only public addresses can be registered, in production only over https."""
    monkeypatch.setattr(views, "env", env)
    assert (await ask("POST", BASE, {"url": "https://127.0.0.1/"}))[0] == 400
    assert (await ask("POST", BASE, {"url": "http://localhost:8080/"}))[0] == 400
    strict = msgspec.structs.replace(env(), env="production", webhook_allow=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(views, "env", lambda: strict)
    assert (await ask("POST", BASE, {"url": "http://127.0.0.1:8080/"}))[0] == 400
    assert (await ask("POST", BASE, {"url": "https://127.0.0.1:8080/"}))[0] == 201


async def test_a_user_has_at_most_twenty(ask: Asking, owner: User) -> None:
    """One more is refused, and none is left behind."""
    for _ in range(webhooks.MOST - 1):
        await sync_to_async(registered)(owner, "https://hooks.example/")
    assert (await ask("POST", BASE, {"url": "https://127.0.0.1/"}))[0] == 201
    status, problem = await ask("POST", BASE, {"url": "https://127.0.0.1/"})
    assert (status, problem["type"]) == (409, "conflict")
    assert await Webhook.objects.acount() == webhooks.MOST


async def test_a_disabled_webhook_takes_nothing(ask: Asking, owner: User) -> None:
    """It says why, and is still there to be looked at."""
    webhook = await sync_to_async(registered)(
        owner, "https://hooks.example/", active=False, disabled_reason="it answered 410 Gone"
    )
    status, problem = await ask("POST", f"{BASE}/{webhook.pk}/test")
    assert (status, problem["type"]) == (409, "conflict")
    assert "410" in problem["detail"]
    _, shown = await ask("GET", f"{BASE}/{webhook.pk}")
    assert (shown["active"], shown["disabled_reason"]) == (False, "it answered 410 Gone")


async def test_other_people_s_webhooks_do_not_exist(ask: Asking, owner: User) -> None:
    """Neither for another user, nor for the staff, nor under an id that is none; nor one's delivery under another."""
    webhook = await sync_to_async(registered)(owner, "https://hooks.example/")
    await sync_to_async(told)(owner)
    delivery = await WebhookDelivery.objects.aget()
    mine = await sync_to_async(registered)(owner, "https://hooks.example/")
    for name, staff in (("bob", False), ("root", True)):
        other = asking_as(await sync_to_async(User.objects.create_user)(name, is_staff=staff))
        assert await other("GET", BASE) == (200, {"items": [], "next": None})
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/rotate"),
            ("POST", "/test"),
            ("GET", "/deliveries"),
            ("POST", f"/deliveries/{delivery.pk}/redeliver"),
        ]:
            assert (await other(method, f"{BASE}/{webhook.pk}{path}"))[0] == 404, (method, path)
    for path in (f"/{uuid4()}", "/x", f"/{webhook.pk}/deliveries/x/redeliver"):
        assert (await ask("POST" if "deliveries" in path else "GET", BASE + path))[0] == 404
    assert (await ask("POST", f"{BASE}/{mine.pk}/deliveries/{delivery.pk}/redeliver"))[0] == 404
    assert await Webhook.objects.acount() == 2


async def test_changes_need_the_scope_run(owner: User) -> None:
    """And looking the scope read; the public has no webhooks."""
    webhook = await sync_to_async(registered)(owner, "https://hooks.example/")
    reading, running = asking_as(owner, "read"), asking_as(owner, "run")
    assert (await reading("GET", BASE))[0] == 200
    assert (await running("GET", BASE))[0] == 403
    assert (await reading("POST", BASE, {"url": "https://127.0.0.1/"}))[0] == 403
    for method, path in [("DELETE", ""), ("POST", "/rotate"), ("POST", "/test")]:
        assert (await reading(method, f"{BASE}/{webhook.pk}{path}"))[0] == 403
    assert (await AsyncClient().get(BASE)).status_code == 401
    assert await Webhook.objects.acount() == 1
