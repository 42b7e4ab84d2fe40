"""After commit: what a transaction outdates is collected, written down with it, and invalidated once others see it.

Invariant: nothing is invalidated before the change it stands for is visible to other transactions; what was rolled back
is not invalidated, what was committed is, at least once (`outbox.py`).
"""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, cast
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from asgi_app import wiring
from asgi_app.invalidating import outbox
from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import Outdated, of_tags

#: Seconds for one invalidation, from a thread that waits for it.
_DEADLINE = 10.0


def invalidate_after_commit(outdated: Outdated | Iterable[str], *, using: str | None = None) -> None:
    """Invalidate once the transaction of database `using` has committed; at once where there is none.

    Without `using`: after each transaction this thread has open, whatever the database.  What the changes of one
    transaction outdate is collected; a savepoint that is rolled back takes what was collected in it along.  At once it
    raises StoreUnavailable, and the invalidation stands in the outbox; after a commit that is logged by Django.
    """
    if not isinstance(outdated, Outdated):
        outdated = of_tags(*outdated)
    if not outdated:
        return
    waiting_for = [connection for connection in _in_transaction() if using in (None, connection.alias)]
    for connection in waiting_for:
        _collect(connection, outdated)
    if not waiting_for:
        _at_once(outdated, using or DEFAULT_DB_ALIAS)


def dirty(name: str, digest: str, tags: Iterable[str], *, using: str | None = None) -> bool:
    """Whether a transaction of this thread has changed, and not yet committed, what a value of this key is made of.

    Such a value is to be neither taken from the cache nor put there.  Without `using`: of any database.
    """
    tags = tuple(tags)
    return any(
        _concerns(collected.outdated, (name, digest), tags)
        for connection in _in_transaction()
        if using in (None, connection.alias)
        for _, collected in _live(connection)
    )


def anything_dirty() -> bool:
    """Whether `dirty` is worth asking: some transaction of this thread has collected something."""
    return any(_live(connection) for connection in _in_transaction())


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection is in a transaction, be it one that somebody began by switching autocommit off."""
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


class _Collected:
    """What a transaction or a savepoint outdates."""

    def __init__(self, alias: str, outdated: Outdated) -> None:
        self.alias = alias
        self.outdated = outdated
        #: Its rows in the outbox; None: not written down yet.
        self.rows: list[UUID] | None = None

    def invalidate(self) -> None:
        """Do it, then forget it.  Where that fails the outbox has it still."""
        _send(self.outdated)
        outbox.remove(self.alias, self.rows or [])


def _collect(connection: BaseDatabaseWrapper, outdated: Outdated) -> None:
    """Add to what the current savepoint outdates, unless what holds at least as long says so already."""
    live = _live_here(connection)
    if any(_says(collected.outdated, outdated) for _, collected in live):
        return
    # Hooks of a savepoint that was released share the fate of what is around it, and are ours to add to.
    here = {sid for sid in connection.savepoint_ids if sid is not None}
    for sids, collected in live:
        if here <= sids and collected.outdated.soft is outdated.soft:
            collected.outdated |= outdated
            return
    _write_down_at_commit(connection)
    # What Django's `on_commit` does in a transaction, and refuses where autocommit is switched off.  There the hook
    # runs when it is switched on again, and before that the relay has found the row.
    # A method and no callable object: Django logs the `__qualname__` of a hook that fails.
    hook = _Collected(connection.alias, outdated).invalidate
    _hooks(connection).append((set(connection.savepoint_ids), hook, True))


def _says(held: Outdated, new: Outdated) -> bool:
    """Whether `held` outdates all that `new` does, and no softer."""
    if held.soft and not new.soft:
        return False
    return held.everything or (not new.everything and new.tags <= held.tags and new.keys <= held.keys)


def _concerns(outdated: Outdated, key: tuple[str, str], tags: tuple[str, ...]) -> bool:
    return outdated.everything or key in outdated.keys or not outdated.tags.isdisjoint(tags)


def _in_transaction() -> list[BaseDatabaseWrapper]:
    """This thread's connections that are in a transaction."""
    return [connection for connection in connections.all(initialized_only=True) if is_open(connection)]


def _live(connection: BaseDatabaseWrapper) -> list[tuple[set[str | None], _Collected]]:
    """What was collected and neither rolled back nor committed, each with the savepoints it was collected in.

    Django's hooks are the one record of it: whatever rolls back, by whatever way, removes them there.
    """
    hooks = [(sids, getattr(hook, "__self__", None)) for sids, hook, _ in _hooks(connection)]
    return [(sids, owner) for sids, owner in hooks if isinstance(owner, _Collected) and owner.rows is None]


def _live_here(connection: BaseDatabaseWrapper) -> list[tuple[set[str | None], _Collected]]:
    """What lives in the transaction of the caller.

    Under Django's `TestCase` that is the outermost block of the code under test: the test's own transaction is never
    committed, and `captureOnCommitCallbacks` shows what came since, as it would have been done after a commit.
    """
    live = _live(connection)
    of_the_test = sum(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
    if not of_the_test:
        return live
    outermost = connection.savepoint_ids[of_the_test - 1 :][:1]  # the first block of all has no savepoint
    return [(sids, collected) for sids, collected in live if sids.issuperset(outermost) and outermost]


def _hooks(connection: BaseDatabaseWrapper) -> list[tuple[set[str | None], Callable[[], None], bool]]:
    """Django's hooks of the transaction: the savepoints each was made in, the hook, whether it may fail."""
    return cast(Any, connection.run_on_commit)  # type: ignore[no-any-return]


# --- the row in the outbox


def _write_down_at_commit(connection: BaseDatabaseWrapper) -> None:
    """Have the connection write down what was collected, once, at the end of the transaction.

    Django has no hook before the commit.  Written earlier, the row would have to be written again at each change.
    """
    commit = connection.commit
    if getattr(commit, "func", None) is not _commit:
        connection.commit = functools.partial(_commit, connection, commit)  # type: ignore[method-assign]


def _commit(connection: BaseDatabaseWrapper, commit: Callable[[], None]) -> None:
    if not connection.in_atomic_block:  # else Django refuses the commit
        _write_down(connection)
    commit()


def _write_down(connection: BaseDatabaseWrapper) -> None:
    """Make one of what lives, a row in the outbox and the first of the hooks: those after it read what is true."""
    live = [collected for _, collected in _live(connection)]
    if not live:
        return
    alias = connection.alias
    parts = [[c.outdated for c in live if c.outdated.soft is soft] for soft in (False, True)]
    merged = [_Collected(alias, functools.reduce(operator.or_, part)) for part in parts if part]
    rows = outbox.write(alias, [collected.outdated for collected in merged])
    for number, collected in enumerate(merged):
        collected.rows = rows[number : number + 1]
    others = [entry for entry in _hooks(connection) if getattr(entry[1], "__self__", None) not in live]
    _hooks(connection)[:] = [*((set(), collected.invalidate, True) for collected in merged), *others]


# --- into the store


def _at_once(outdated: Outdated, using: str) -> None:
    try:
        _send(outdated)
    except StoreUnavailable:
        outbox.keep(using, outdated)
        raise


def _send(outdated: Outdated) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("invalidate() blocks: on an event loop use `await ainvalidate(...)`")
    try:
        wiring.call(lambda node: node.cache.invalidate(outdated), _DEADLINE)
    except TimeoutError:
        raise StoreUnavailable(f"no invalidation within {_DEADLINE:g} s") from None
