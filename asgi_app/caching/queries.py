"""The rows of a queryset from the cache: `cached_query(queryset)`, and `await acached_query(queryset)`.

    queryset -> compiled SQL, parameters, database -> key -> Reader: fresh | stale, refreshed behind | load
    what is kept are rows as the database gave them; Django's own iterables make of them what the queryset would give

Invariant: inside of a transaction nothing is stored, and what it has changed itself is read from the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.core.exceptions import EmptyResultSet, SynchronousOnlyOperation
from django.db import connections
from django.db.models import QuerySet
from django.db.models.sql.compiler import SQLCompiler

from asgi_app import wiring
from asgi_app.caching.apart import Circumstances, apart
from asgi_app.caching.bypass import bypass, is_store_away
from asgi_app.caching.packing import pack, unpack
from asgi_app.caching.query_tables import cache_queries_of, tables_read
from asgi_app.declaring import options
from asgi_app.env import env
from asgi_app.errors import ComputationFailed, NotCached, Unavailable, from_problem
from asgi_app.inline import Inline
from asgi_app.invalidating.after_commit import dirty, is_open
from asgi_app.invalidation import valid_tags
from asgi_app.reading import Reading
from asgi_app.registry import Principal
from asgi_app.submitting import Question
from cache_layer.freshness import ANYTHING, Demand, Policy
from cache_layer.keys import Key, digest

__all__ = ["acached_query", "cache_queries_of", "cached_query"]

Row = TypeVar("Row")

#: The name of all queries in the store; no resource can have it.
_NAME = "@query"
#: Raised when the stored form changes.
_FORM = "1"
#: Seconds a failed query is not tried again, so that those who wait for it do not stampede.
_ERROR_TTL = 1.0
#: Seconds a reader waits beyond the time limit.
_PATIENCE = 1.0
_ONLY_CACHED = Demand(only_cached=True)


def cached_query(
    queryset: QuerySet[Any, Row],
    *,
    fresh: float = 30,
    stale: float = 300,
    tags: Iterable[str] | None = None,
    name: str | None = None,
    time_limit: float = 60,
) -> list[Row]:
    """The rows of a queryset, as `list(queryset)` gives them, from the cache or the database; times are in seconds.

    Instances, `values()`, `values_list()`, annotations, deferred fields and `select_related()` all come as Django makes
    them, new ones at each call.  Queries that differ in SQL, parameters or database are different ones; one is run once
    in the cluster, on a connection of its own, and others wait for it.  `tags` are by default the tables it reads, and
    changes of them by way of Django outdate it; see `cache_queries_of` for processes that only write.  `name` is for
    the log.  Aggregates are no querysets: declare a resource for them.

    In a transaction it is looked up, but not stored; if the transaction has changed what the query reads, it is run
    there.  While the store is away it is run as if there were no cache, in a bounded number.

    Raises what the query raises; ValueError for a queryset with `prefetch_related()`, `select_for_update()` or, without
    `tags`, raw SQL; TypeError for parameters or columns of a type that cannot be kept; Unavailable when too much is
    computed here; ComputationFailed when it has just failed for somebody else.
    """
    asked = _Asked.of(queryset, _policy(fresh, stale), tags, name, time_limit)
    if asked is None:
        return []
    inside, changed = asked.transaction()
    if changed:
        return list(queryset.all())
    demand = _ONLY_CACHED if inside else ANYTHING
    try:
        reading = wiring.call(lambda node: asked.answer(node, demand), time_limit + 2 * _PATIENCE)
    except NotCached:
        return list(queryset.all())
    except Unavailable as refusal:
        if (rows := asked.rows_despite(refusal)) is not None:
            return rows
        with bypass():
            return list(queryset.all())
    rows = asked.rows_of(reading)
    return list(queryset.all()) if rows is None else rows


async def acached_query(
    queryset: QuerySet[Any, Row],
    *,
    fresh: float = 30,
    stale: float = 300,
    tags: Iterable[str] | None = None,
    name: str | None = None,
    time_limit: float = 60,
) -> list[Row]:
    """See `cached_query`.

    A coroutine on the web process's own loop is in no transaction; synchronous code in one calls `cached_query`.
    """
    build = partial(_Asked.of, queryset, _policy(fresh, stale), tags, name, time_limit)
    try:
        asked = build()
    except SynchronousOnlyOperation:  # some databases are asked for their version before there is any SQL
        asked = await sync_to_async(build)()
    if asked is None:
        return []
    demand = ANYTHING
    if not wiring.on_loop():
        inside, changed = await sync_to_async(asked.transaction)()
        if changed:
            return await _run(queryset)
        demand = _ONLY_CACHED if inside else ANYTHING
    try:
        reading = await wiring.acall(lambda node: asked.answer(node, demand))
    except NotCached:
        return await _run(queryset)
    except Unavailable as refusal:
        if (rows := asked.rows_despite(refusal)) is not None:
            return rows
        with bypass():
            return await _run(queryset)
    rows = asked.rows_of(reading)
    return await _run(queryset) if rows is None else rows


async def _run(queryset: QuerySet[Any, Row]) -> list[Row]:
    return [row async for row in queryset.all()]


def _policy(fresh: float, stale: float) -> Policy:
    reasons = list(options.number_reasons(fresh=fresh, stale=stale))
    if reasons:
        raise ValueError("; ".join(reasons))
    return Policy(fresh=fresh, stale=stale, stale_if_error=stale, error_ttl=_ERROR_TTL)


@dataclass(slots=True)
class _Asked:
    """One call, and what its own run of the query came to, if it was the one to run it."""

    queryset: QuerySet[Any, Any]
    compiler: SQLCompiler
    key: Key
    alias: str
    time_limit: float
    rows: list[tuple[Any, ...]] | None = None
    error: Exception | None = None

    @classmethod
    def of(
        cls,
        queryset: QuerySet[Any, Any],
        policy: Policy,
        tags: Iterable[str] | None,
        name: str | None,
        time_limit: float,
    ) -> _Asked | None:
        """None for a queryset that is known to be empty."""
        _refuse(queryset)
        # A router may answer otherwise in another thread, where the query will be run.
        alias = queryset.db
        queryset = queryset.using(alias)
        query = queryset.query
        compiler = query.get_compiler(using=alias)
        try:
            sql, params = compiler.as_sql()
        except EmptyResultSet:
            return None
        names = tables_read(query, sql) if tags is None else tuple(sorted(set(valid_tags(tags))))
        said = msgspec.json.encode([sql, [_packed(value) for value in params], _columns(compiler)])
        label = name or queryset.model._meta.label
        key = Key(_NAME, digest(_FORM, alias, said), f"query {label}", names, policy)
        return cls(queryset, compiler, key, alias, time_limit)

    def transaction(self) -> tuple[bool, bool]:
        """Whether this thread is in a transaction of the database, and whether that has changed what is read."""
        changed = dirty(self.key.name, self.key.digest, self.key.tags, using=self.alias)
        return is_open(connections[self.alias]), changed

    async def answer(self, node: wiring.Node, demand: Demand) -> Reading:
        """Ask the cache.  Raises NotCached, Unavailable."""
        work = partial(self._fill, self.queryset.all(), Circumstances.of_now())
        inline = Inline(name=self.key.topic, time_limit=self.time_limit, work=work)
        question = Question(inline, None, Principal.public(), self.key, trusted=True)
        wait = 0.0 if demand.only_cached else self.time_limit + _PATIENCE
        return await node.reader.answer(question, wait=wait, demand=demand)

    def rows_of(self, reading: Reading) -> list[Any] | None:
        """The rows of a reading, None where the query has to be run by its caller.  Raises what the query raised."""
        kept = reading.error is None or "unkept" not in reading.error
        if kept and reading.entry is not None:
            packed = msgspec.json.decode(reading.entry.payload)
            return self._rebuilt([tuple(map(unpack, row)) for row in packed])
        if self.error is not None:
            raise self.error
        if kept and reading.error is not None:
            raise from_problem(reading.error)
        return self._own()

    def rows_despite(self, refusal: Unavailable) -> list[Any] | None:
        """The rows although the cache was of no help; None where the query has to be run by its caller.

        Raises the refusal when too much is computed here: then it is the database that is spared.
        """
        if not is_store_away(refusal):
            raise refusal
        return self._own()

    def _own(self) -> list[Any] | None:
        return None if self.rows is None else self._rebuilt(self.rows)

    def _rebuilt(self, rows: list[tuple[Any, ...]]) -> list[Any]:
        """What the queryset would give for these rows, made by Django's own code."""
        queryset: Any = self.queryset.all()
        replay = _Replay(self.compiler, rows)
        queryset.query.get_compiler = lambda *_, **__: replay
        return list(queryset._iterable_class(queryset))

    async def _fill(self, queryset: QuerySet[Any, Any], circumstances: Circumstances) -> msgspec.Raw:
        self.error = None
        async with apart(circumstances):
            try:
                rows = await sync_to_async(_rows)(queryset)
                encoded = msgspec.json.encode([[pack(value) for value in row] for row in rows])
            except Exception as error:
                self.error = error
                raise
        self.rows = rows
        if len(encoded) > env().max_value:
            reason = "it is larger than MILLPOND_MAX_VALUE"
            raise ComputationFailed(f"the rows are not kept: {reason}", extra={"unkept": reason})
        return msgspec.Raw(encoded)


class _Replay:
    """A compiler as Django's iterables use one, that gives rows which are there already."""

    def __init__(self, compiler: SQLCompiler, rows: list[tuple[Any, ...]]) -> None:
        self.select = compiler.select
        self.klass_info = compiler.klass_info
        self.annotation_col_map = compiler.annotation_col_map
        self._rows = rows

    def execute_sql(self, *_: Any, **__: Any) -> None:
        return None

    def results_iter(self, *_: Any, **__: Any) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)


def _refuse(queryset: QuerySet[Any, Any]) -> None:
    if not isinstance(queryset, QuerySet):
        raise ValueError(f"a queryset is needed, not {type(queryset).__name__}")
    if getattr(queryset, "_prefetch_related_lookups", ()):
        raise ValueError("prefetch_related() is several queries: cache each, or use select_related()")
    if queryset.query.select_for_update:
        raise ValueError("select_for_update() locks rows, which the cache cannot")


def _rows(queryset: QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
    compiler = queryset.query.get_compiler(using=queryset.db)
    return [tuple(row) for row in compiler.results_iter(tuple_expected=True)]


def _columns(compiler: SQLCompiler) -> list[str]:
    """How the columns are converted: the same SQL may stand for different types."""
    return [_said(getattr(expression, "output_field", None)) for expression, _, _ in compiler.select or ()]


def _said(field: Any) -> str:
    kind = type(field)
    return f"{kind.__module__}.{kind.__qualname__} {field if hasattr(field, 'model') else ''}"


def _packed(value: Any) -> Any:
    """A parameter, for the key.  Raises TypeError for a type of which no two values can be told apart for certain."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list | tuple):
        return ["list", [_packed(item) for item in value]]
    if type(value).__name__ in ("Json", "Jsonb") and hasattr(value, "obj"):  # psycopg's wrappers
        return [type(value).__name__, pack(value.obj)]
    return pack(value)
