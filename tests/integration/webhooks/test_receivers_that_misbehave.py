"""A receiver that is slow, endless, elsewhere or not who it says: it harms itself only."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

import tests.support
from asgi_app.env import Env, env
from asgi_app.models import WebhookDelivery
from tasks import posting
from tasks import webhooks as tasks_webhooks
from tasks.webhooks import PER_OWNER, PER_WEBHOOK, SLOTS, Deliverer
from tests.integration.webhooks.conftest import registered, told
from tests.support.receiver import Receiver
from tests.support.watcher import eventually

pytestmark = pytest.mark.django_db(transaction=True)

CERTIFICATE = Path(tests.support.__path__[0]) / "proxy.pem"


@asynccontextmanager
async def delivering(settings: Env, **options: object) -> AsyncIterator[Deliverer]:
    """A deliverer that is stopped in the end."""
    deliverer = Deliverer(settings, **options)  # type: ignore[arg-type]
    try:
        yield deliverer
    finally:
        await deliverer.stop()


async def outcome(deliverer: Deliverer) -> WebhookDelivery:
    """What became of the only message there is."""
    assert await deliverer.start_due() == 1
    await deliverer.settle()
    return await WebhookDelivery.objects.aget()


def silence(receiver: Receiver) -> Callable[[BaseHTTPRequestHandler], None]:
    """It says nothing until the test is over."""
    return lambda _: (receiver.released.wait(), None)[1]


def to(address: str) -> Callable[[str], Sequence[str]]:
    """A name server by which every name leads there."""
    return lambda _: [address]


async def test_a_silent_receiver_holds_up_itself_only(owner: User, receiver: Receiver, loopback: Env) -> None:
    """However much waits for it, everybody else's messages go, those of its owner too."""
    other = await sync_to_async(User.objects.create_user)("bob")
    with Receiver() as slow:
        slow.answers = [silence(slow)] * (2 * SLOTS)
        await sync_to_async(registered)(owner, slow.url)
        for _ in range(2 * SLOTS):
            await sync_to_async(told)(owner)
        await sync_to_async(registered)(owner, receiver.url, "demo.*")
        await sync_to_async(registered)(other, receiver.url)
        await sync_to_async(told)(owner, name="demo.speed")
        await sync_to_async(told)(other)
        async with delivering(loopback) as deliverer:
            assert await deliverer.start_due() == PER_WEBHOOK + 2
            await eventually(lambda: len(receiver.got) == 2, "the others")
            assert await deliverer.start_due() == 0
            await eventually(lambda: len(slow.got) == PER_WEBHOOK, "those that wait")


async def test_an_owner_has_a_part_of_the_room(owner: User, loopback: Env) -> None:
    """Twenty slow receivers of one user leave room for others."""
    with Receiver() as slow:
        slow.answers = [silence(slow)] * 20
        for _ in range(20):
            await sync_to_async(registered)(owner, slow.url)
        await sync_to_async(told)(owner)
        async with delivering(loopback) as deliverer:
            assert await deliverer.start_due() == PER_OWNER
            await eventually(lambda: len(slow.got) == PER_OWNER, "they wait")


async def test_an_attempt_has_a_deadline(
    owner: User, receiver: Receiver, loopback: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little is said at a time: drops of an answer prolong nothing."""

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not receiver.released.wait(0.01):
            handler.wfile.write(b"X: y\r\n")
            handler.wfile.flush()

    monkeypatch.setattr(tasks_webhooks, "DEADLINE", 0.3)
    receiver.answers = [dripping]
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    async with delivering(loopback) as deliverer:
        row = await outcome(deliverer)
    assert (row.status, row.last_status) == ("pending", None)
    assert row.last_error in ("no answer in time", "its answer is not HTTP/1.1")


async def test_an_endless_answer_is_not_taken_in(
    owner: User, receiver: Receiver, loopback: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status has been said: that counts, and the connection is closed on it."""
    written: list[int] = []
    cut = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not receiver.released.is_set():
                written.append(handler.wfile.write(b"x" * 65536))
        except OSError:
            cut.set()

    monkeypatch.setattr(posting, "_REST", 60.0)
    monkeypatch.setattr(tasks_webhooks, "DEADLINE", 60.0)
    receiver.answers = [endless]
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    async with delivering(loopback) as deliverer:
        row = await outcome(deliverer)
        assert (row.status, row.last_status) == ("delivered", 200)
        await eventually(cut.is_set, "it is cut off")


@pytest.mark.parametrize("rest", [True, False])
async def test_an_answer_that_stalls_has_been_an_answer(
    owner: User, receiver: Receiver, loopback: Env, monkeypatch: pytest.MonkeyPatch, rest: bool
) -> None:
    """What follows the status is dropped anyway, and may be cut off by the deadline."""

    def stalling(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(202)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        receiver.released.wait()

    monkeypatch.setattr(posting, "_REST", 0.05 if rest else 60.0)
    monkeypatch.setattr(tasks_webhooks, "DEADLINE", 60.0 if rest else 1.0)
    receiver.answers = [stalling]
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    async with delivering(loopback) as deliverer:
        row = await outcome(deliverer)
    assert (row.status, row.last_status) == ("delivered", 202)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(owner: User, receiver: Receiver, loopback: Env, status: int) -> None:
    """It would lead to where nobody has looked; it is a failure like others."""
    with Receiver() as elsewhere:
        receiver.answers = [(status, {"Location": elsewhere.url})]
        await sync_to_async(registered)(owner, receiver.url)
        await sync_to_async(told)(owner)
        async with delivering(loopback) as deliverer:
            row = await outcome(deliverer)
        assert (row.status, row.last_status) == ("pending", status)
        assert elsewhere.got == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ],
)
async def test_what_is_no_answer_is_a_failure(owner: User, receiver: Receiver, loopback: Env, answer: bytes) -> None:
    """And nothing of it is repeated to anybody."""

    def raw(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    receiver.answers = [raw]
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    async with delivering(loopback) as deliverer:
        row = await outcome(deliverer)
    assert (row.status, row.last_status) == ("pending", None)
    assert row.last_error in (
        "its answer is not HTTP/1.1",
        "the connection was closed without an answer",
        "the connection failed",
    )


async def test_the_inside_is_refused_at_delivery(owner: User, receiver: Receiver) -> None:
    """Without the operator's leave nothing is sent to loopback, whatever the name was when it was registered."""
    await sync_to_async(registered)(owner, f"http://hooks.example:{receiver.port}/")
    await sync_to_async(told)(owner)
    async with delivering(env(), look_up=to("127.0.0.1")) as deliverer:
        row = await outcome(deliverer)
    assert (row.status, row.last_error) == ("pending", "does not lead to a public address")
    assert receiver.got == []


async def test_production_refuses_plain_http_at_delivery(owner: User, receiver: Receiver, loopback: Env) -> None:
    """A webhook may be older than the setting."""
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    async with delivering(msgspec.structs.replace(loopback, env="production")) as deliverer:
        row = await outcome(deliverer)
    assert row.last_error == "must begin with https://"
    assert receiver.got == []


async def test_a_name_that_changes_its_mind_gains_nothing(owner: User, receiver: Receiver, loopback: Env) -> None:
    """The connection goes to the address that was judged: the name is asked for once an attempt."""
    answers = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return answers.pop(0)

    await sync_to_async(registered)(owner, f"http://hooks.example:{receiver.port}/")
    await sync_to_async(told)(owner)
    async with delivering(loopback, look_up=rebinding) as deliverer:
        row = await outcome(deliverer)
        assert (row.status, asked) == ("delivered", ["hooks.example"])
        assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"
        await sync_to_async(told)(owner)
        await deliverer.start_due()
        await deliverer.settle()
    assert len(receiver.got) == 1


async def test_one_of_several_addresses_may_be_dead(owner: User, receiver: Receiver, loopback: Env) -> None:
    """The next one is tried."""
    await sync_to_async(registered)(owner, f"http://hooks.example:{receiver.port}/")
    await sync_to_async(told)(owner)
    async with delivering(loopback, look_up=lambda _: ["127.0.0.2", "127.0.0.1"]) as deliverer:
        row = await outcome(deliverer)
    assert row.status == "delivered"


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_tls_is_verified_for_the_name(owner: User, loopback: Env) -> None:
    """A certificate of the tests' own is taken where it is trusted, for the name it was made for, and not otherwise."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with Receiver(tls=server_tls()) as receiver:
        for url, tls, arrives in [
            (receiver.url, trusting, True),
            (receiver.url, None, False),
            (f"https://hooks.example:{receiver.port}/", trusting, False),
        ]:
            await WebhookDelivery.objects.all().adelete()
            webhook = await sync_to_async(registered)(owner, url)
            await sync_to_async(told)(owner)
            async with delivering(loopback, tls=tls, look_up=to("127.0.0.1")) as deliverer:
                row = await outcome(deliverer)
            assert (row.status == "delivered") is arrives, (url, row.last_error)
            assert arrives or row.last_error.startswith("its certificate is not valid: ")
            await webhook.adelete()
        assert len(receiver.got) == 1


async def test_leaving_drops_what_hangs(
    owner: User, receiver: Receiver, loopback: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops waits a moment only; the delivery is due again when its lease is over."""
    monkeypatch.setattr(tasks_webhooks, "GRACE", 0.05)
    receiver.answers = [silence(receiver)]
    await sync_to_async(registered)(owner, receiver.url)
    await sync_to_async(told)(owner)
    deliverer = Deliverer(loopback)
    await deliverer.start_due()
    await eventually(lambda: len(receiver.got) == 1, "it hangs")
    await deliverer.stop()
    await asyncio.sleep(0)
    row = await WebhookDelivery.objects.aget()
    assert (row.status, row.attempts) == ("pending", 1)
