"""A rolling deploy: each of two web processes is told to leave, under load, one after the other.

Kept: its sockets are closed with 3001, in batches, none without a word; nobody misses anything; no HTTP request fails.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import psutil

from tests.chaos.push.books import codes
from tests.chaos.push.deployment import Deployment, deployed
from tests.chaos.push.scene import Scene, audience

CLIENTS, RATE = 500, 50
_TOPIC = "push.long.deploy"
_BACK_WITHIN, _GONE_WITHIN = 30.0, 30.0
#: Requests a second that others make.
_ASKED = 40


async def play(scene: Scene) -> None:
    """Both processes, one after the other."""
    with deployed(scene.home) as service:
        clients = scene.clients(CLIENTS)
        async with audience(scene, service, clients) as crowd, service.publisher() as publisher:
            whole = await crowd.add(clients, {_TOPIC: "log"})
            scene.expect(whole == clients, f"{whole} of {clients} clients subscribed")
            await publisher.ask("begin", topic=_TOPIC, rate=scene.clients(RATE))
            answers, over = Counter[str](), asyncio.Event()
            asking = asyncio.create_task(_ask(service.port, answers, over))
            for process in service.web():
                await asyncio.sleep(scene.seconds(3))
                await crowd.seen()
                gone = await _leaves(scene, service, process)
                whole = await crowd.whole(_BACK_WITHIN)
                scene.expect(whole == clients, f"{whole} of {clients} clients came back")
                for seen in await crowd.seen():
                    back = seen["recovery"]
                    scene.say(
                        f"a process left within {gone:.2f} s; closed: {codes(seen['closes'])}; back after "
                        f"{back['median']:.2f} s in the median, {back['max']:.2f} s at the most; {seen['events']}"
                    )
                    scene.expect(set(seen["closes"]) <= {"3001"}, f"closed with {codes(seen['closes'])}")
            over.set()
            await asking
            done = await publisher.ask("end", topic=_TOPIC)
            await crowd.arrive(scene, _TOPIC, done["top"], 20.0, "deploy")
            await crowd.audit(scene, _TOPIC, done["ledger"], "deploy")
            scene.say(f"answers over HTTP meanwhile: {dict(answers)}")
            scene.expect(set(answers) <= {"200"}, f"answers over HTTP: {dict(answers)}")


async def _leaves(scene: Scene, service: Deployment, process: psutil.Process) -> float:
    """Tell it to; seconds until it was gone and two were there again."""
    began = time.monotonic()
    process.terminate()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > began + _GONE_WITHIN:
            scene.blame(f"process {process.pid} did not leave within {_GONE_WITHIN:g} s")
            break
        await asyncio.sleep(0.02)
    gone = time.monotonic() - began
    while len(await asyncio.to_thread(service.web)) < 2 and time.monotonic() < began + _GONE_WITHIN:
        await asyncio.sleep(0.2)
    return gone


async def _ask(port: int, answers: Counter[str], over: asyncio.Event) -> None:
    """Requests, each with a connection of its own, as a proxy that keeps none makes them."""
    while not over.is_set():
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status = (await reader.readline()).split()
                answers[status[1].decode() if len(status) > 1 else "no answer"] += 1
                writer.close()
        except (OSError, TimeoutError) as error:
            answers[type(error).__name__] += 1
        await asyncio.sleep(1 / _ASKED)
