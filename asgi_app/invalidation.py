"""Changes of the data outdate the values computed from it, as far as Django lets us see them.

    what is seen                                            static tags   tags of a function
    save, delete, cascades, many-to-many relations          yes           yes
    bulk_create, bulk_update, QuerySet.update, raw SQL      yes           no: call `invalidate(*tags)`
    COPY, stored procedures, triggers, other programs       no            no: call `invalidate(*tags)`

Invariant: a change that is seen is never told before it is committed, one that fails is not told, and reads pay for a
glance at the beginning of their statement.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.fields.related import lazy_related_operation
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from asgi_app.declaring.options import valid_tag
from asgi_app.invalidating.after_commit import dirty, invalidate_after_commit, is_open
from asgi_app.invalidating.fetched import fetch_before_commit
from asgi_app.invalidating.statements import Tables
from cache_layer.errors import StoreUnavailable

__all__ = ["dirty", "invalidate_after_commit", "invalidate_on", "valid_tags"]

log = logging.getLogger(__name__)

Tags: TypeAlias = str | Iterable[str] | Callable[[Any], Iterable[str]]

#: What `invalidate_on` watches with static tags.
_tables = Tables()


def invalidate_on(model: type[models.Model], *, tags: Tags) -> None:
    """Invalidate `tags` whenever rows of `model` change, after the commit.

    `tags` are a name, names, or a function (instance) -> names.  Names stand for the whole table: every statement that
    changes it, or that of a many-to-many relation of the model, through whatever connection of Django, invalidates
    them.  A function is asked before and after a change of one instance, so that a row that moves outdates what it left
    as well as what it came to; for that each `save()` reads the row it changes.  Django tells of no instance for
    `bulk_create`, `bulk_update`, `QuerySet.update` and raw SQL: call `invalidate(*tags)` beside them, in the same
    transaction.  Raises ValueError for a bad tag or an abstract model.

    While the store is away the change stays, and its invalidation waits in the outbox.
    """
    if model._meta.abstract:
        raise ValueError(f"{model.__name__} is abstract, it has no rows: name the models made of it")
    if callable(tags):
        _Instances(model, tags).connect()
        return
    names = valid_tags([tags] if isinstance(tags, str) else tags)
    _tables.watch((part._meta.db_table for part in (model, *model._meta.get_parent_list())), names)
    for field in model._meta.many_to_many:
        lazy_related_operation(partial(_watch_relation, names), model, _through(field))
    watch_connections()


def watch_connections() -> None:
    """See the statements of every connection that is made from now on, and of those this thread has.  Twice is once.

    Called when Django is ready: a connection that another thread had before is out of reach.
    """
    connection_created.connect(_watch, dispatch_uid="millpond: statements")
    for connection in connections.all(initialized_only=True):
        _watch(type(connection), connection)


def valid_tags(tags: Iterable[Any]) -> list[str]:
    """The tags as a list.  Raises ValueError naming every one that cannot be a tag."""
    tags = list(tags)
    if bad := [tag for tag in tags if not valid_tag(tag)]:
        said = ", ".join(map(repr, bad))
        raise ValueError(f"no tag: {said}; a tag is 1 to 255 printable characters without a space at either end")
    return tags


def _through(field: models.ManyToManyField[Any, Any]) -> Any:
    """The model of the relation's own table; its name, while that is not defined yet."""
    return field.remote_field.through


# --- static tags: every statement


def _watch_relation(names: list[str], model: type[models.Model], through: type[models.Model]) -> None:
    _tables.watch([through._meta.db_table], names)


def _watch(sender: Any, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """See the statements of a connection.  Each thread has its own, and tells of it when it is made."""
    if _see not in connection.execute_wrappers:
        # First, because Django's own `execute_wrapper()` takes the last one away when it ends.
        connection.execute_wrappers.insert(0, _see)


def _see(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Run a statement; what it outdates is collected once it has succeeded."""
    connection: BaseDatabaseWrapper = context["connection"]
    tags = _tables.outdated_by(sql if isinstance(sql, str) else _text(sql, connection))
    if not tags:
        return execute(sql, params, many, context)
    alias = connection.alias
    if is_open(connection):
        done = execute(sql, params, many, context)
        invalidate_after_commit(tags, using=alias)
        return done
    # By itself it would be committed before anything could be written down.
    with transaction.atomic(using=alias):
        done = execute(sql, params, many, context)
        invalidate_after_commit(tags, using=alias)
        return fetch_before_commit(context["cursor"], done)


def _text(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """A statement that is no str: bytes, or psycopg's composed one."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    return str(sql.as_string(connection.connection)) if hasattr(sql, "as_string") else str(sql)


# --- tags of a function: every instance


class _Instances:
    """The signals of one model, for tags that follow from the instance."""

    def __init__(self, model: type[models.Model], names: Callable[[Any], Iterable[str]]) -> None:
        self._model = model
        self._names = names
        self._uid = f"millpond:{model._meta.label}:{id(names)}"

    def connect(self) -> None:
        """Twice is once.  Saving by way of a proxy or a child of the model counts too; signals know exact classes."""
        signals = ((pre_save, self._before_saving), (post_save, self._saved), (pre_delete, self._before_deleting))
        for heir in _heirs(self._model):
            for signal, receiver in signals:
                signal.connect(receiver, sender=heir, weak=False, dispatch_uid=self._uid)
        for field in self._model._meta.many_to_many:
            self._connect_relation(field.name, _through(field))

    def _connect_relation(self, name: str, through: Any) -> None:
        def changed(sender: Any, **signal: Any) -> None:
            self._relation_changed(name, **signal)

        m2m_changed.connect(changed, sender=through, weak=False, dispatch_uid=f"{self._uid}:{name}")

    def _before_saving(self, sender: Any, instance: models.Model, using: str, **_: Any) -> None:
        """Remember the tags of the row as it stands in the database: the instance may have been loaded long ago."""
        vars(instance._state)[self._uid] = self._tags(_stored(instance, using))

    def _saved(self, sender: Any, instance: models.Model, using: str, **_: Any) -> None:
        before = vars(instance._state).pop(self._uid, set())
        self._tell(before | self._tags([instance]), using)

    def _before_deleting(self, sender: Any, instance: models.Model, using: str, origin: Any, **_: Any) -> None:
        """Django deletes in a transaction, and has just loaded all rows but the one it was asked to delete."""
        self._tell(self._tags([instance, *(_stored(instance, using) if origin is instance else ())]), using)

    def _relation_changed(
        self, name: str, *, action: str, instance: models.Model, reverse: bool, pk_set: Any, using: str, **_: Any
    ) -> None:
        """Before and after, because the names may follow from the relation; seen from its other end, find ours."""
        changed: Iterable[models.Model] = [instance]
        if reverse:
            which = {name: instance} if pk_set is None else {"pk__in": pk_set}
            changed = self._model._base_manager.using(using).filter(**which)
        self._tell(self._tags(changed), using)

    def _tags(self, instances: Iterable[models.Model]) -> set[str]:
        tags = {tag for instance in instances for tag in self._names(instance)}
        if bad := [tag for tag in tags if not valid_tag(tag)]:
            # No value can carry it, so nothing is outdated by it: no reason to refuse the change.
            log.error("the tags of %s gave what is no tag: %s", self._model._meta.label, bad)
        return tags.difference(bad)

    def _tell(self, tags: set[str], using: str) -> None:
        try:
            invalidate_after_commit(tags, using=using)
        except StoreUnavailable:
            log.exception("%s was changed, and its tags %s wait for the store", self._model._meta.label, sorted(tags))


def _heirs(model: type[models.Model]) -> Iterator[type[models.Model]]:
    yield model
    for heir in model.__subclasses__():
        yield from _heirs(heir)


def _stored(instance: models.Model, using: str) -> list[models.Model]:
    """The row of the instance as the database has it, none for a new one.

    In a transaction it is locked, where the database can: else another one could move it before we do.
    """
    new, key = instance._state.adding, instance._meta.pk
    if instance.pk is None or (new and key is not None and (key.has_default() or key.has_db_default())):
        return []
    rows = type(instance)._base_manager.using(using).filter(pk=instance.pk)
    features = connections[using].features
    if not new and features.has_select_for_update and connections[using].in_atomic_block:
        rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    return list(rows)
