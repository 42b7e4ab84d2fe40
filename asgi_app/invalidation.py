"""After commit: changes of the data outdate the values computed from it.

Invariant: no tag is invalidated before the change it stands for is visible to other transactions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from asgi_app import wiring
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

Tags = str | Iterable[str] | Callable[[Any], Iterable[str]]


def invalidate_on(model: type[models.Model], *, tags: Tags) -> None:
    """Invalidate `tags` whenever a row of `model` is saved or deleted, or its many-to-many relations change.

    `tags` are a name, names, or a function (instance) -> names.  While the store is away the change stays and the
    invalidation is lost, which is logged: values are then as old as their freshness allows.  Django sends no signal
    for `bulk_create`, `QuerySet.update` and raw SQL: call `invalidate(*tags)` beside those, in the same transaction.
    """

    if isinstance(tags, str):
        tags = (tags,)
    names = tags if callable(tags) else tuple(tags)  # an iterator would be empty at the second change

    def changed(sender: Any, instance: Any = None, using: str = DEFAULT_DB_ALIAS, **_: Any) -> None:
        found = tuple(names(instance) if callable(names) else names)
        try:
            invalidate_after_commit(found, using=using)
        except StoreUnavailable:
            log.exception("%s was changed, and its tags %s could not be invalidated", model._meta.label, found)

    uid = f"millpond:{model._meta.label}:{id(names) if callable(names) else ','.join(sorted(names))}"
    for signal in (post_save, post_delete):
        signal.connect(changed, sender=model, weak=False, dispatch_uid=uid)
    for field in model._meta.many_to_many:
        m2m_changed.connect(changed, sender=getattr(model, field.name).through, weak=False, dispatch_uid=uid)


def invalidate_after_commit(tags: Iterable[str], *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Invalidate once the current transaction has committed; at once where there is none.

    Inside one transaction the tags of many changes are collected into one invalidation.
    """
    connection = transaction.get_connection(using)
    names = set(tags)
    if not connection.in_atomic_block:
        _invalidate(names)
        return
    # One hook per savepoint level: a rolled back savepoint takes its own tags with it, as Django discards its hooks.
    level = tuple(connection.savepoint_ids)
    for _sids, hook, _robust in connection.run_on_commit:
        collected = getattr(hook, "__self__", None)
        if isinstance(collected, _Collected) and collected.level == level:
            collected.tags |= names
            return
    # A method and no callable object: Django logs the `__qualname__` of a hook that fails.
    transaction.on_commit(_Collected(level, names).tell, using=using, robust=True)


class _Collected:
    """The tags of one transaction (or savepoint), invalidated together."""

    def __init__(self, level: tuple[str, ...], tags: set[str]) -> None:
        self.level = level
        self.tags = tags

    def tell(self) -> None:
        _invalidate(self.tags)


def _invalidate(tags: set[str]) -> None:
    if not tags:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        wiring.call(lambda node: node.cache.invalidate(*tags), 10.0)
    else:
        raise RuntimeError("invalidate() blocks: on an event loop use `await ainvalidate(...)`")
