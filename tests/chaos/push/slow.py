"""One of 200 clients never reads, at a megabyte a second, on a log and on a value.

It follows what a few others follow, too, and the log that all follow: of that one it is measured when news arrives.

Kept: the memory of the web process stays where it was; the others do not notice; the client that takes nothing for 30
seconds is cut.  Whether others notice is asked of one run, in turns: a while without such a client, a while with one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from statistics import median

import psutil

from tests.chaos.push.books import Kind
from tests.chaos.push.children import Child
from tests.chaos.push.deployment import Deployment, deployed, memory
from tests.chaos.push.publisher import put_value
from tests.chaos.push.scene import Audience, Scene, audience
from tests.chaos.push.sockets import never_reading

CLIENTS, FEW = 200, 4
#: What all follow, publications of it a second, and bytes of each.
_ALL, _RATE, _SIZE = "push.long.all", 20, 100
#: (topic, kind, publications a second, bytes of each): a megabyte a second.
_CASES: tuple[tuple[str, Kind, float, int], ...] = (
    ("push.long.slow", "log", 20, 50_000),
    ("push.value?name=slow", "value", 5, 200_000),
)
#: Turns of each kind, and the seconds of one.
_TURNS, _TURN = 6, 5.0
#: Seconds over which memory is looked at.
_WATCHED = 80.0
#: How much slower others may be at 99 of 100 publications; below so many seconds nobody is slow.
_SLOWER, _NOTHING = 1.2, 0.005
#: Bytes the process may grow by: the ring of a log (4 MiB) and what is on its way.
_GROWTH = 16 * 2**20
#: Seconds from its connect until a client that takes nothing is gone: 30 after its buffers were full, or ten after its
#: first ping, whichever is first.
_CUT_WITHIN = (22.0, 50.0)


async def play(scene: Scene) -> None:
    """Both cases, each with a service of its own."""
    for topic, kind, rate, size in _CASES:
        with deployed(scene.home / kind, processes=1) as deployment:
            put_value(scene.home / kind, "slow", 0, 10)
            clients = scene.clients(CLIENTS)
            async with (
                audience(scene, deployment, clients) as crowd,
                audience(scene, deployment, FEW) as few,
                deployment.publisher() as publisher,
            ):
                whole = await crowd.add(clients, {_ALL: "log"}) + await few.add(FEW, {_ALL: "log", topic: kind})
                scene.expect(whole == clients + FEW, f"{whole} of {clients + FEW} clients subscribed")
                await publisher.ask("begin", topic=_ALL, rate=_RATE, size=_SIZE)
                await publisher.ask("begin", topic=topic, rate=rate, size=size)
                await asyncio.sleep(scene.seconds(5))
                await _turns(scene, deployment, crowd, topic)
                await _memory(scene, deployment, topic)
                await publisher.ask("end", topic=topic)
                await publisher.ask("end", topic=_ALL)
                await _settle(scene, crowd, publisher, _ALL, "log")
                await _settle(scene, few, publisher, topic, kind)


async def _turns(scene: Scene, deployment: Deployment, crowd: Audience, topic: str) -> None:
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for turn in range(2 * _TURNS if scene.scale >= 1 else 2):
        slow = turn % 2 == 1
        reader = _never_reads(deployment.port, topic) if slow else None
        await asyncio.sleep(scene.seconds(3, least=0.5))
        await crowd.seen()
        await asyncio.sleep(scene.seconds(_TURN))
        for seen in await crowd.seen():
            found[slow].append((seen["latency"]["median"], seen["latency"]["p99"]))
        if reader is not None:
            reader.close()
    (without, with_one) = ([1000 * median(one[part] for one in found[slow]) for part in (0, 1)] for slow in found)
    turns = ", ".join(
        f"{1000 * one[1]:.0f}/{1000 * other[1]:.0f}" for one, other in zip(found[False], found[True], strict=True)
    )
    scene.say(
        f"{topic}: delivery to the others without and with a client that does not read: median {without[0]:.1f} and "
        f"{with_one[0]:.1f} ms, 99 % {without[1]:.1f} and {with_one[1]:.1f} ms ({with_one[1] / without[1]:.2f} times; "
        f"turn by turn {turns})"
    )
    if scene.scale >= 1:
        worse = with_one[1] > _SLOWER * without[1] + 1000 * _NOTHING
        scene.expect(not worse, f"{topic}: others wait {with_one[1]:.1f} ms instead of {without[1]:.1f} ms")


async def _memory(scene: Scene, deployment: Deployment, topic: str) -> None:
    (web,) = deployment.web()
    until = time.monotonic() + scene.seconds(_WATCHED)
    rss, gone = [memory(web)[0]], list[float]()
    while time.monotonic() < until:
        reader, since = _never_reads(deployment.port, topic), time.monotonic()
        while time.monotonic() < until and not _is_cut(web, reader):
            await asyncio.sleep(0.5)
            rss.append(memory(web)[0])
        if _is_cut(web, reader):
            gone.append(time.monotonic() - since)
        reader.close()
    mib = [round(one / 2**20, 1) for one in (rss[0], max(rss), rss[-1])]
    cut = ", ".join(f"{one:.1f}" for one in gone) or "not yet"
    scene.say(f"{topic}: RSS {mib[0]} MiB at first, {mib[1]} at the most, {mib[2]} at last; cut after {cut} s")
    scene.expect(max(rss) - rss[0] < _GROWTH, f"{topic}: the web process grew from {mib[0]} to {mib[1]} MiB")
    if scene.scale >= 1:
        soonest, latest = _CUT_WITHIN
        scene.expect(gone and all(soonest <= one <= latest for one in gone), f"{topic}: cut after {cut} s")


async def _settle(scene: Scene, crowd: Audience, publisher: Child, topic: str, kind: Kind) -> None:
    ledger = ""
    if kind == "log":
        done = await publisher.ask("burst", topic=topic, count=1)
        ledger = done["ledger"]
        await crowd.arrive(scene, topic, done["top"], 20.0, topic)
    else:
        await asyncio.sleep(3.0)
    await crowd.audit(scene, topic, ledger, topic)


def _never_reads(port: int, topic: str) -> socket.socket:
    connect = b'{"connect":{"name":"js"},"id":1}'
    wanted = ({"subscribe": {"channel": one, "flag": 1}, "id": 2 + n} for n, one in enumerate((topic, _ALL)))
    return never_reading(port, b"\n".join((connect, *(json.dumps(one).encode() for one in wanted))))


def _is_cut(web: psutil.Process, reader: socket.socket) -> bool:
    """Whether the web process has let go of it: at its own end nothing is to be seen, for it does not read."""
    port = reader.getsockname()[1]
    return not any(one.raddr and one.raddr.port == port for one in web.net_connections(kind="tcp"))
