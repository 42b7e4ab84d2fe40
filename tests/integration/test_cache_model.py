"""The cache against a dict: whatever is done to it, in whatever order, a look-up finds what the dict says.

Two processes, one of them with values of its own; four keys that share tags, two computed in place and two by jobs.
Computations begin before and end after anything else.  Time passes by moving what the store has left of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from cache_layer.cache import Cache, Committed, Found, fresh_token
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.queues import Bell, Limits
from cache_layer.records import Records
from tests.support import jobs
from tests.support.keys import key
from tests.support.processes import Process
from tests.support.store import StoreServer

T = TypeVar("T")

#: Seconds; without jitter (`luck` 0.5) values are fresh for exactly FRESH, and gone after LIFE.
FRESH, LIFE = 1000.0, 3000.0
_POLICY = {"fresh": FRESH, "stale": 1000.0, "stale_if_error": LIFE - FRESH}
KEYS = {
    name: key(name, tags=tags, **_POLICY)
    for name, tags in {
        "place.red": ("red",),
        "place.both": ("blue", "red"),
        "job.blue": ("blue",),
        "job.both": ("blue", "red"),
    }.items()
}
IN_PLACE = sorted(name for name in KEYS if name.startswith("place"))
BY_JOB = sorted(name for name in KEYS if name.startswith("job"))
_NO_BELL = Bell(queue="default", message=b"", list="")
_runs = count(1)

#: What else happens, and how.
ACCIDENTS: list[tuple[str, Any]] = [
    *(("time", seconds) for seconds in (100, 900, 2500)),
    *(("evicted", tag) for tag in ("red", "blue", None)),
    *(("spoilt", how) for how in ("shorter", "longer", "of another", "rubbish", "a hash")),
    ("lease", None),
    ("lost", None),
]

names = st.sampled_from(sorted(KEYS))
processes = st.integers(0, 1)


@dataclass
class Held:
    """A value that is there."""

    payload: bytes
    #: Seconds that have passed for it at least.
    age: float = 0.0
    soft: bool = False


@dataclass(eq=False)
class Computation:
    """One that has read the database and not yet committed."""

    name: str
    holder: str
    payload: bytes
    versions: tuple[bytes, ...]
    #: None: in place.
    fence: int | None = None
    #: Something it was computed from was outdated since.
    outdated: bool = False


class CacheMachine(RuleBasedStateMachine):
    """What is done, and the dicts."""

    computations: Bundle[Computation] = Bundle("computations")

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.namespace = f"model{next(_runs)}"
        self.database = dict.fromkeys(KEYS, 0)
        self.held: dict[str, Held] = {}
        #: Who may fill a key.
        self.leases: dict[str, Computation] = {}
        #: The newest position of a key, and the bytes it stands for.
        self.versions: dict[str, tuple[Position, bytes]] = {}
        self.running: list[Computation] = []
        self.jobs = count(1)
        self.stack = AsyncExitStack()
        self.processes: list[Process] = [
            self.run(self.stack.enter_async_context(Process(url, self.namespace, near=near))) for near in (True, False)
        ]
        self.near, self.far = self.processes
        for process in self.processes:  # a new connection to a store that was emptied outdates all that is in it since
            self.run(connected(process))
        self.records = Records(self.far.store, Limits(queue=1000))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def command(self, *words: str | bytes | int) -> Any:
        return self.run(self.far.store.command(*words))

    def told(self) -> None:
        """What somebody else does to the store is seen within the gate's bound; here, by the next step."""
        self.run(self.near.told())

    # --- computing

    @rule(target=computations, name=st.sampled_from(IN_PLACE), process=processes, force=st.booleans())
    def begin(self, name: str, process: int, force: bool) -> Any:
        cache, token = self.processes[process].cache, fresh_token()
        found = self.run(cache.lookup(KEYS[name]))
        begun = self.run(cache.begin(KEYS[name], seen=found.nonce, token=token, lease=600.0, force=force))
        assert begun.what == ("busy" if name in self.leases else "begun")
        if begun.what == "busy":
            return multiple()
        return self._computes(name, token, begun.tag_versions)

    @rule(target=computations, name=st.sampled_from(BY_JOB), process=processes)
    def submit(self, name: str, process: int) -> Any:
        job_id = f"job{next(self.jobs)}"
        found = self.run(self.processes[process].cache.lookup(KEYS[name]))
        submitted = self.run(
            self.records.submit(KEYS[name], job_id=job_id, bell=_NO_BELL, seen=found.nonce, force=False)
        )
        assert submitted.what == ("joined" if name in self.leases else "created")
        if submitted.what == "joined":
            assert submitted.job_id == self.leases[name].holder
            return multiple()
        return self._claims(name, job_id)

    @rule(target=computations, computation=consumes(computations), process=processes)
    def commit(self, computation: Computation, process: int) -> Any:
        expected = self._expected(computation)
        committed = self._commits(self.processes[process].cache, computation)
        assert committed.what == expected
        if expected == "superseded" and computation.fence is not None and committed.ring >= 0:
            return self._claims(computation.name, computation.holder)
        self._ends(computation)
        if expected == "superseded" and computation.fence is not None:
            self.run(self._give_up(computation))
        if expected == "stored":
            self._stored(computation, committed.position)
        return multiple()

    @initialize()
    def begins_with_values(self) -> None:
        self.compute_all()

    @rule()
    def compute_all(self) -> None:
        """Whatever is not being computed is, and committed at once, elsewhere."""
        for name in KEYS:
            made = self.begin(name, 0, True) if name in IN_PLACE else self.submit(name, 0)
            if isinstance(made, Computation):
                self.commit(made, 1)

    def _computes(self, name: str, holder: str, versions: tuple[bytes, ...], fence: int | None = None) -> Computation:
        made = Computation(name, holder, b"%d" % self.database[name], versions, fence)
        self.running.append(made)
        self.leases[name] = made
        return made

    def _claims(self, name: str, job_id: str) -> Computation:
        claim = self.run(jobs.claim(self.records, job_id, KEYS[name]))
        assert claim.what == "claimed"
        self.running = [other for other in self.running if other.holder != job_id]
        return self._computes(name, job_id, claim.tag_versions, claim.fence)

    def _expected(self, computation: Computation) -> str:
        if self.leases.get(computation.name) is not computation:
            return "revoked"
        return "superseded" if computation.outdated else "stored"

    def _commits(self, cache: Cache, computation: Computation) -> Committed:
        job = {"job_id": computation.holder, "fence": computation.fence, "worker": "w"}
        return self.run(
            cache.commit(
                KEYS[computation.name],
                computation.payload,
                holder=computation.holder,
                tag_versions=computation.versions,
                compute_seconds=0.0,
                computed_at=time.time(),
                luck=0.5,
                **(job if computation.fence is not None else {}),  # type: ignore[arg-type]
            )
        )

    def _ends(self, computation: Computation) -> None:
        self.running.remove(computation)
        if self.leases.get(computation.name) is computation:
            del self.leases[computation.name]

    async def _give_up(self, computation: Computation) -> None:
        """What a worker does with a job that has run too often, save that no failure is remembered."""
        await self.records.end(computation.holder, computation.fence or 0, "cancelled", worker="w")

    def _stored(self, computation: Computation, position: Position) -> None:
        """A position never goes back within its epoch, and equal bytes keep theirs."""
        before = self.versions.get(computation.name)
        if before is None:
            assert position.offset == 1
        else:
            same = before[1] == computation.payload
            assert position == Position(before[0].epoch, before[0].offset + (not same))
        self.versions[computation.name] = position, computation.payload
        self.held[computation.name] = Held(computation.payload)

    # --- what outdates

    @rule(name=names)
    def change(self, name: str) -> None:
        """The database changes, and nobody is told yet."""
        self.database[name] += 1

    @rule(
        process=processes,
        tags=st.frozensets(st.sampled_from(["red", "blue"])),
        keys=st.frozensets(names, max_size=2),
        everything=st.integers(0, 9).map(lambda dice: dice == 0),
        soft=st.booleans(),
    )
    def invalidate(
        self, process: int, tags: frozenset[str], keys: frozenset[str], everything: bool, soft: bool
    ) -> None:
        single = frozenset((KEYS[name].name, KEYS[name].digest) for name in keys)
        outdated = Outdated(tags=tags, keys=single, everything=everything, soft=soft)
        self.run(self.processes[process].cache.invalidate(outdated))
        for name, what in KEYS.items():
            if everything or tags & set(what.tags):
                self._outdate(name, soft)
            if name in keys:
                self._outdate_key(name, soft)

    @rule(process=processes, name=names, soft=st.booleans())
    def invalidate_one(self, process: int, name: str, soft: bool) -> None:
        self.invalidate(process, frozenset(), frozenset([name]), False, soft)

    @rule(name=names, process=processes, how=st.sampled_from(["tag", "key", "everything"]), soft=st.booleans())
    def outdate_in_mid_computation(self, name: str, process: int, how: str, soft: bool) -> None:
        """Begin, change the database, say so, commit; a job runs again."""
        made = self.begin(name, process, True) if name in IN_PLACE else self.submit(name, process)
        self.change(name)
        tags, keys = frozenset(KEYS[name].tags[:1]), frozenset([name])
        self.invalidate(
            1 - process,
            tags if how == "tag" else frozenset(),
            keys if how == "key" else frozenset(),
            how[0] == "e",
            soft,
        )
        while isinstance(made, Computation):
            made = self.commit(made, process)

    def _outdate(self, name: str, soft: bool) -> None:
        for computation in self.running:
            computation.outdated = computation.outdated or computation.name == name
        if not soft:
            self.held.pop(name, None)
        elif name in self.held:
            self.held[name].soft = True

    def _outdate_key(self, name: str, soft: bool) -> None:
        """By its name: whoever computes it in place loses the right to."""
        self._outdate(name, soft)
        if name in IN_PLACE:
            self.leases.pop(name, None)
        if name in self.held:
            self.held[name].age = max(FRESH, self.held[name].age)

    # --- what else happens

    @rule(accident=st.sampled_from(ACCIDENTS), name=names, other=names)
    def something_happens(self, accident: tuple[str, Any], name: str, other: str) -> None:
        what, more = accident
        match what:
            case "time":
                self.time_passes(more)
            case "evicted":
                self.a_tag_is_evicted(more)
            case "spoilt":
                self.an_entry_is_spoilt(name, other, more)
            case "lease":
                self.a_lease_is_lost(name)
            case _:
                self.everything_is_lost()

    def time_passes(self, seconds: int) -> None:
        for name, what in KEYS.items():
            entry = self.far.names.entry(what)
            left = self.command("PTTL", entry)
            if left > 0:
                self.command("PEXPIRE", entry, left - seconds * 1000)
            if name in self.held:
                self.held[name].age += seconds
                if self.held[name].age >= LIFE:
                    del self.held[name]
        self.told()

    def a_tag_is_evicted(self, tag: str | None) -> None:
        self.command("UNLINK", self.far.names.tag(tag) if tag else self.far.names.everything())
        for name, what in KEYS.items():
            if tag is None or tag in what.tags:
                self._outdate(name, soft=False)
        self.told()

    def a_lease_is_lost(self, name: str) -> None:
        self.command("UNLINK", self.far.names.lease(KEYS[name]))
        self.leases.pop(name, None)

    def everything_is_lost(self) -> None:
        self.command("FLUSHALL")
        self.held.clear()
        self.leases.clear()
        self.versions.clear()
        self.told()

    def an_entry_is_spoilt(self, name: str, other: str, how: str) -> None:
        entry = self.far.names.entry(KEYS[name])
        raw = self.command("GET", entry) if self.command("TYPE", entry) == b"string" else b""
        foreign = (
            self.command("GET", self.far.names.entry(KEYS[other])) if other in self.held and other != name else b""
        )
        spoilt = {"shorter": raw[:-1], "longer": raw + b"1", "of another": foreign or b"x", "rubbish": b"y" * 200}
        self.command("UNLINK", entry)
        if how in spoilt:
            self.command("SET", entry, spoilt[how], "PX", 600_000)
        else:
            self.command("HSET", entry, "a", "b")
            self.command("PEXPIRE", entry, 600_000)
        self.held.pop(name, None)
        self.told()

    # --- what is found

    @invariant()
    def finds_what_is_there(self) -> None:
        for process in self.processes:
            for name, what in KEYS.items():
                self._judge(name, self.run(process.cache.lookup(what)))

    def _judge(self, name: str, found: Found) -> None:
        held = self.held.get(name)
        assert (found.entry.payload if found.entry else None) == (held.payload if held else None)
        if held is not None and found.entry is not None:
            fresh = found.age < found.entry.fresh and not found.softened
            assert fresh == (held.age < FRESH and not held.soft)
            assert found.age > held.age - 0.01
            assert found.entry.position == self.versions[name][0]

    def teardown(self) -> None:
        """Ends the jobs; then nothing is left that would stay for ever."""
        try:
            for computation in self.running:
                if computation.fence is not None:
                    self.run(self._give_up(computation))
            lost = self.leases.keys() - {computation.name for computation in self.running}
            assert not lost
            eternal = [
                name
                for name in self.command("KEYS", f"*{{{self.namespace}}}*")
                if self.command("PTTL", name) == -1 and not name.startswith(b"l:")
            ]
            assert not eternal, f"keys without a TTL: {eternal}"
        finally:
            self.run(self.stack.aclose())


async def connected(process: Process) -> None:
    """Open all connections that it will use at once."""
    await asyncio.gather(*(process.store.command("PING") for _ in range(8)))


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[StoreServer]:
    """A store to be emptied."""
    server = StoreServer(tmp_path / "store.sock")
    server.start()
    yield server
    server.stop()


def test_the_cache_is_a_dict_that_forgets(own_store: StoreServer) -> None:
    """See the module."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        class Machine(CacheMachine):
            def __init__(self) -> None:
                super().__init__(own_store.url, loop)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=80,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate],  # shrinking would take longer than a test may
            ),
        )
