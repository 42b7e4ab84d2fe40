"""500 sockets, 100 publications a second on a log: a web process, the store's subscriptions, and the store are killed.

Kept: every client is contiguous after it came back, nothing is told twice; only what died with the store is lost, and
told as lost, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.chaos.push.books import codes
from tests.chaos.push.children import Child
from tests.chaos.push.deployment import Deployment, deployed
from tests.chaos.push.scene import Audience, Scene, audience

_TOPIC = "push.long.kills"
CLIENTS, RATE = 500, 100
#: Seconds after which every client has everything: a stock client waits for a second at most before its first try, and
#: for two before its second.
_BACK_WITHIN = 30.0


async def play(scene: Scene) -> None:
    """All three faults, one after the other."""
    with deployed(scene.home) as deployment:
        clients, rate = scene.clients(CLIENTS), scene.clients(RATE)
        async with audience(scene, deployment, clients) as crowd, deployment.publisher() as publisher:
            whole = await crowd.add(clients, {_TOPIC: "log"})
            scene.expect(whole == clients, f"{whole} of {clients} clients subscribed")
            stage = _Stage(scene, deployment, crowd, publisher, rate)
            await stage.round("kill -9 of a web process", stage.kill_web)
            await stage.round("CLIENT KILL TYPE pubsub", stage.kill_feeds)
            await stage.round("kill -9 of the store", stage.kill_store, losses=1)


class _Stage:
    def __init__(self, scene: Scene, deployment: Deployment, crowd: Audience, publisher: Child, rate: int) -> None:
        self._scene, self._deployment, self._crowd, self._publisher = scene, deployment, crowd, publisher
        self._rate = rate
        self._losses = 0

    async def round(self, what: str, fault: Callable[[], Awaitable[None]], losses: int = 0) -> None:
        """Publish, break something, publish on; then everybody has everything."""
        scene, crowd = self._scene, self._crowd
        self._losses += losses
        await crowd.seen()
        await self._publisher.ask("begin", topic=_TOPIC, rate=self._rate)
        await asyncio.sleep(scene.seconds(5))
        before = await crowd.seen()
        await fault()
        await asyncio.sleep(scene.seconds(10, least=4.0))
        whole = await crowd.whole(_BACK_WITHIN)
        scene.expect(whole == crowd.count, f"{what}: {whole} of {crowd.count} clients are back")
        done = await self._publisher.ask("end", topic=_TOPIC)
        await crowd.arrive(scene, _TOPIC, done["top"], _BACK_WITHIN, what)
        for number, seen in enumerate(await crowd.seen()):
            ms = {name: seconds * 1000 for name, seconds in before[number]["latency"].items()}
            back = seen["recovery"]
            closes = codes(seen["closes"])
            scene.say(
                f"{what}: {seen['recovered']} clients were cut ({closes}) and back after {back['median']:.2f} s in the "
                f"median, {back['max']:.2f} s at the most; delivery before: {before[number]['heard']} heard, "
                f"{ms['median']:.1f} ms in the median, {ms['p99']:.1f} ms for 99 %; {seen['events']}"
            )
        await crowd.audit(scene, _TOPIC, done["ledger"], what, losses=self._losses)
        scene.say(f"{what}: {done['published']} published, {done['failed']} refused by the store")

    async def kill_web(self) -> None:
        """One of two, in the middle of a broadcast."""
        self._scene.dice.choice(self._deployment.web()).kill()

    async def kill_feeds(self) -> None:
        """All that hear from the store, three times."""
        for _ in range(3):
            with self._deployment.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.7)

    async def kill_store(self) -> None:
        """It comes back with nothing."""
        self._deployment.store().kill()
