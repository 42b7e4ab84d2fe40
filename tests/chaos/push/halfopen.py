"""Connections that look healthy and carry nothing: between a web process and the store, and between it and a client.

Kept: the web process finds out within 15 seconds, is never taken for seeing while it is blind, and nothing stays
untold.  A client whose line is dead is gone after its unanswered ping, and nobody sees it as present any more.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import httpx
import msgspec

from tests.chaos.push.clients import Crowd, until
from tests.chaos.push.deployment import Deployment, clock, deployed
from tests.chaos.push.scene import Audience, Scene, audience
from tests.support.proxy import Proxy
from tests.support.store import StoreServer

CLIENTS, RATE = 100, 20
_TOPIC, _SEEN = "push.long.halfopen", "push.seen.halfopen"
_FOUND_WITHIN = 15.0
#: A ping every 25 seconds, ten for its answer, and a little.
_GONE_WITHIN = 45.0


async def play(scene: Scene) -> None:
    """The store's connections first: those there are become deaf, once as a whole and once in one direction."""
    scene.home.mkdir(parents=True)
    server = StoreServer(scene.home / "direct.sock")
    server.start()
    try:
        with Proxy(server.socket, scene.home / "proxy.sock") as proxy:
            with deployed(scene.home / "home", MILLPOND_REDIS_URL=proxy.url) as service:
                clients = scene.clients(CLIENTS)
                service.service._settings["MILLPOND_REDIS_URL"] = server.url  # the publisher's way is direct
                async with audience(scene, service, clients) as crowd:
                    whole = await crowd.add(clients, {_TOPIC: "log"})
                    scene.expect(whole == clients, f"{whole} of {clients} clients subscribed")
                    for round_ in range(3):
                        await _blind(scene, service, crowd, proxy, f"half-open connections {round_ + 1}")
                    await _frozen(scene, service, crowd, server)
            if scene.scale >= 1:
                await _dead_client(scene, scene.home / "client")
    finally:
        server.stop()


async def _blind(scene: Scene, service: Deployment, crowd: Audience, proxy: Proxy, what: str) -> None:
    async with service.publisher() as publisher:
        await publisher.ask("begin", topic=_TOPIC, rate=RATE)
        await asyncio.sleep(scene.seconds(3))
        proxy.half_open()
        proxy.heal()  # what is there stays dead; what is new is well
        began = clock()
        await asyncio.sleep(scene.seconds(2))
        done = await publisher.ask("end", topic=_TOPIC)
        at = await crowd.arrive(scene, _TOPIC, done["top"], 2 * _FOUND_WITHIN, what)
        scene.say(f"{what}: everybody had everything {at - began:.1f} s after they died")
        scene.expect(at - began <= _FOUND_WITHIN, f"{what}: found after {at - began:.1f} s")
        seen = await crowd.seen()
        scene.expect(not any(one["closes"] for one in seen), f"{what}: clients were closed: {seen}")
        await crowd.audit(scene, _TOPIC, done["ledger"], what)


async def _frozen(scene: Scene, service: Deployment, crowd: Audience, server: StoreServer) -> None:
    """The store answers nothing, and so nobody may take the process for seeing."""
    async with service.publisher() as publisher:
        await publisher.ask("burst", topic=_TOPIC, count=3)
        server.freeze()
        began = clock()
        try:
            ready = True
            while ready and clock() < began + _FOUND_WITHIN:
                await asyncio.sleep(0.25)
                ready = await asyncio.to_thread(_is_ready, service)
            scene.say(f"frozen store: not ready after {clock() - began:.1f} s")
            scene.expect(not ready, "frozen store: the service still says that it is ready")
        finally:
            server.thaw()
        done = await publisher.ask("burst", topic=_TOPIC, count=3)
        await crowd.arrive(scene, _TOPIC, done["top"], 2 * _FOUND_WITHIN, "frozen store")
        await crowd.audit(scene, _TOPIC, done["ledger"], "frozen store")


def _is_ready(service: Deployment) -> bool:
    return httpx.get(f"{service.service.url}/readyz", timeout=20).status_code == 200


async def _dead_client(scene: Scene, home: Path) -> None:
    """Its packets go nowhere; the process sees nothing but silence."""
    with deployed(home, processes=1) as service, Proxy(service.port) as proxy:
        near = Crowd(service.port, random.Random(scene.dice.random()))
        far = Crowd(proxy.port, random.Random(scene.dice.random()))
        try:
            near.add(1, {_SEEN: "log"})
            far.add(3, {_SEEN: "log"})
            await until(lambda: len(near.caught_up()) == 1 and len(far.caught_up()) == 3, 20)
            scene.expect(await _present(service.port) == 4, "dead clients: four are there at first")
            proxy.half_open()
            began = time.monotonic()
            while (there := await _present(service.port)) > 1 and time.monotonic() < began + 2 * _GONE_WITHIN:
                await asyncio.sleep(0.5)
            scene.say(f"dead clients: {there} present after {time.monotonic() - began:.1f} s")
            scene.expect(time.monotonic() - began <= _GONE_WITHIN, f"dead clients: {there} are still present")
        finally:
            await far.stop()
            await near.stop()


async def _present(port: int) -> int:
    """How many clients are there, as somebody sees who does not follow the topic."""
    from tests.chaos.push.sockets import Socket

    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asked = b'{"connect":{},"id":1}\n' + b'{"presence_stats":{"channel":"%b"},"id":2}' % _SEEN.encode()

    def heard(text: bytes) -> None:
        for line in text.split(b"\n"):
            reply = msgspec.json.decode(line)
            if reply.get("id") == 2 and not answer.done():
                answer.set_result(reply["presence_stats"]["num_clients"])

    asker: Socket = Socket("localhost", lambda: asker.send(asked), heard, lambda _: None)
    await asyncio.get_running_loop().create_connection(lambda: asker, "127.0.0.1", port)
    try:
        return await asyncio.wait_for(answer, 10)
    finally:
        asker.abort()
