"""Which tables a query reads, and that changes of them outdate its rows.

Invariant: a query of which it is not sure what it reads is refused; one that only mentions the name of a table counts
as reading it, which costs a computation, where the opposite would keep old rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.expressions import RawSQL
from django.db.models.sql import Query
from django.db.models.sql.where import ExtraWhere

from asgi_app.invalidation import invalidate_on

#: `db_table` may name a schema too, as in `app"."orders`.
_QUOTES = re.compile(r'["`\[\].]+')


def cache_queries_of(*changed: type[models.Model]) -> None:
    """Outdate the rows of cached queries whenever one of these models changes.

    The first query of a model declares it for its process.  Processes that change the models and cache no query of
    them have to say so: call this in `ready()` of the application, which all of them run.  Twice is once.  Raises
    ValueError for a model that is abstract or not managed by Django.
    """
    for model in changed:
        concrete = model._meta.concrete_model or model
        for part in (concrete, *concrete._meta.get_parent_list()):
            _watch(part)
        for field in concrete._meta.many_to_many:
            _watch(field.remote_field.through)


def tables_read(query: Query, sql: str) -> tuple[str, ...]:
    """The tags of the tables that a query, compiled to `sql`, reads; changes of them are declared.

    Raises ValueError for a query that holds SQL of its own, or reads what Django does not manage.
    """
    if any(_is_raw(part) for part in _parts(query)):
        raise ValueError("it is not known what raw SQL reads: give tags=, and invalidate them when that changes")
    found = _mentioned(sql.lower())
    known = {_plain(model._meta.db_table) for model in found}
    unknown = {name for part in _parts(query) for name in _own_tables(part) if _plain(name) not in known}
    if unknown:
        said = ", ".join(sorted(unknown))
        raise ValueError(f"no model stands for {said}: give tags=, and invalidate them when that changes")
    for model in found:
        _watch(model)
    return tuple(sorted({_tag(model) for model in found}))


@cache
def _watch(model: type[models.Model]) -> None:
    if not model._meta.managed:
        raise ValueError(
            f"{model._meta.label} is not managed by Django and may be a view of other tables: "
            "give tags=, and invalidate them when those change"
        )
    invalidate_on(model, tags=_tag(model))


def _tag(model: type[models.Model]) -> str:
    return f"table:{_plain(model._meta.db_table)}"


def _plain(table: str) -> str:
    return _QUOTES.split(table.strip('"`[]'))[-1].lower()


@lru_cache(maxsize=1024)
def _mentioned(sql: str) -> tuple[type[models.Model], ...]:
    return tuple(model for pattern, model in _tables() if pattern.search(sql))


@cache
def _tables() -> tuple[tuple[re.Pattern[str], type[models.Model]], ...]:
    """Every table that a model stands for; of a proxy its concrete model."""
    found = {
        _plain(model._meta.db_table): model
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy
    }
    return tuple((re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])"), model) for name, model in found.items())


def _own_tables(part: Any) -> Iterable[str]:
    if not isinstance(part, Query):
        return ()
    return (join.table_name for alias, join in part.alias_map.items() if part.alias_refcount.get(alias))


def _is_raw(part: Any) -> bool:
    if isinstance(part, Query):
        return bool(part.extra or part.extra_tables or part.extra_order_by)
    return isinstance(part, RawSQL | ExtraWhere)


def _parts(root: Any) -> Iterator[Any]:
    """The query, the queries and all expressions in it."""
    waiting, seen = [root], set[int]()
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, Query):
            waiting += _of_query(part)
        else:
            waiting += getattr(part, "children", ())
            waiting += part.get_source_expressions() if hasattr(part, "get_source_expressions") else ()


def _of_query(query: Query) -> Iterator[Any]:
    yield query.where
    yield from query.annotations.values()
    yield from query.select
    yield from query.order_by
    yield from query.combined_queries
    yield from query.group_by if isinstance(query.group_by, tuple) else ()
    for join in query.alias_map.values():
        relation = getattr(join, "filtered_relation", None)
        yield getattr(relation, "resolved_condition", None)
