"""2,000 sockets are dropped at once, and come back as stock clients do, while publications go on.

Kept: all are back within 30 seconds with all they have missed; the store is read once per topic and process at the
most, the database hardly at all, and the web processes answer others meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import jwt

from tests.chaos.push.books import quantile
from tests.chaos.push.children import Child
from tests.chaos.push.deployment import Deployment, cpu, deployed
from tests.chaos.push.publisher import put_value
from tests.chaos.push.scene import Audience, Scene, audience

CLIENTS, _TOPICS, _USERS = 2000, 8, 20
_SECRET = "a-secret-of-this-run-alone-for-connection-tokens"
_VALUE = "push.value?name=storm"
#: Publications a second on each topic.
_RATE = 2
_BACK_WITHIN = 30.0
#: Seconds one request may wait while all come back.
_LAG = 0.5
_READS = ("xrange", "xrevrange")


async def play(scene: Scene) -> None:
    """Half of them are of the public, half come with tokens of a few users."""
    with deployed(scene.home, MILLPOND_TOKEN_SECRET=_SECRET, MILLPOND_MAX_CONNECTIONS_PER_PRINCIPAL="5000") as service:
        put_value(scene.home, "storm", 1, 1000)
        clients = scene.clients(CLIENTS)
        tokens = ["", *await asyncio.to_thread(_tokens, service)]
        async with audience(scene, service, clients) as crowd, service.publisher() as publisher:
            await _gather(scene, crowd, clients, tokens)
            for topic in _logs():
                await publisher.ask("begin", topic=topic, rate=_RATE)
            await asyncio.sleep(scene.seconds(5))
            for number in range(2):
                await _storm(scene, service, crowd, f"storm {number + 1}")
            await _settle(scene, crowd, publisher)


def _logs() -> list[str]:
    return [f"push.long.storm{number}" for number in range(_TOPICS)]


async def _gather(scene: Scene, crowd: Audience, clients: int, tokens: list[str]) -> None:
    """Every client follows one log and the value."""
    began, groups = time.monotonic(), len(_logs()) * 2
    for group in range(groups):
        topics = {_logs()[group // 2]: "log", _VALUE: "value"}
        some = clients // groups + (group < clients % groups)
        whole = 0
        each = [""] if group % 2 == 0 else tokens[1:]
        for number, token in enumerate(each):
            share = some // len(each) + (number < some % len(each))
            if share:
                whole = await crowd.add(share, topics, token=token)  # type: ignore[arg-type]
    scene.expect(whole == clients, f"{whole} of {clients} clients subscribed")
    scene.say(f"{whole} clients of the public and of {_USERS} users, there after {time.monotonic() - began:.1f} s")


async def _storm(scene: Scene, service: Deployment, crowd: Audience, what: str) -> None:
    await crowd.seen()
    seconds = scene.seconds(8, least=4.0)
    calm = await asyncio.to_thread(service.commands)
    await asyncio.sleep(seconds)
    before, queries, used = await asyncio.to_thread(service.commands), _queries(scene.home), cpu(service.web())
    usual = Counter(before) - Counter(calm)
    async with asyncio.TaskGroup() as group:
        pings = [group.create_task(_ping(service.port, seconds)) for _ in range(8)]
        dropped = await crowd.drop()
        await asyncio.sleep(seconds)
        whole = await crowd.whole(_BACK_WITHIN - seconds)
    scene.expect(whole == crowd.count, f"{what}: {whole} of {crowd.count} clients were back within {_BACK_WITHIN:g} s")
    seen = await crowd.seen()
    after = Counter(await asyncio.to_thread(service.commands)) - Counter(before)
    reads = max(0, sum(after[name] - usual[name] for name in _READS))
    queries = _queries(scene.home) - queries
    waits = [wait for task in pings for wait in task.result()]
    last = max(one["back_at"] for one in seen) - dropped
    middle, late, latest = (1000 * quantile(waits, share) for share in (0.5, 0.99, 1.0))
    scene.say(
        f"{what}: {whole} back, the last {last:.2f} s after they were dropped, the median after "
        f"{seen[0]['recovery']['median']:.2f} s; {reads} reads of {_TOPICS} logs, {queries} queries of the database; "
        f"requests waited {middle:.0f} ms in the median, {late:.0f} for 99 %, {latest:.0f} at the most; "
        f"{cpu(service.web()) - used:.1f} CPU s of the web"
    )
    more = {name: count - usual[name] for name, count in after.items() if count - usual[name] > 4}
    scene.say(f"{what}: commands of the store beyond the usual: {more}; clients: {[one['events'] for one in seen]}")
    processes = len(service.web())
    scene.expect(
        reads <= (_TOPICS + _USERS) * processes, f"{what}: {reads} reads of {_TOPICS} logs by {processes} processes"
    )
    # A few clients at a time share no query with others.
    most = crowd.count / 5 if scene.scale >= 1 else 4 * crowd.count
    scene.expect(queries <= most, f"{what}: {queries} queries of the database for {crowd.count} clients")
    if scene.scale >= 1:
        scene.expect(quantile(waits, 0.99) < _LAG, f"{what}: requests waited {quantile(waits, 0.99):.2f} s")


async def _settle(scene: Scene, crowd: Audience, publisher: Child) -> None:
    for topic in _logs():
        done = await publisher.ask("end", topic=topic)
        await crowd.arrive(scene, topic, done["top"], 20.0, topic)
        await crowd.audit(scene, topic, done["ledger"], topic)
    await crowd.audit(scene, _VALUE, "/none", _VALUE)


async def _ping(port: int, seconds: float) -> list[float]:
    """Seconds that requests of one connection have waited for their answers."""
    until, waits = time.monotonic() + seconds, list[float]()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (began := time.monotonic()) < until:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
    finally:
        writer.close()
    return waits


def _tokens(service: Deployment) -> list[str]:
    """Of new users."""
    code = (
        "from django.contrib.auth import get_user_model as m\n"
        f"print(*(m().objects.create_user(f'storm{{n}}').pk for n in range({_USERS})))"
    )
    ids = service.service.command("shell", "-v", "0", "-c", code).split()[-_USERS:]
    expires = int(time.time()) + 3600
    return [jwt.encode({"sub": user, "exp": expires}, _SECRET, algorithm="HS256") for user in ids]


def _queries(home: Path) -> int:
    """How many queries all processes have made of the database."""
    return sum(int(file.read_text() or 0) for file in home.glob("queries-*"))
