"""A declared resource and a declared action as operations of their own, with what each takes.  Pure.

Invariant: a parameter is described with exactly the bounds that `declaring/parameters.py` enforces, and in a form that
its text in a query is read as that very value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from asgi_app.describing.common import ACCEPTED_HEADERS, BASE, JOB_LINKS
from asgi_app.describing.operations import Components, Operation, answer
from asgi_app.describing.shapes import ANYTHING, TEXT, Schema, ref
from asgi_app.errors import (
    BadParameters,
    ComputationFailed,
    ComputationTimeout,
    Denied,
    IdempotencyMismatch,
    Misdeclared,
    NotCached,
    NotFound,
    NotJson,
    TooManyRequests,
    ValueTooLarge,
)
from asgi_app.registry import Action, Resource

_JOB = ref("schemas", "Job")
_OF_A_VALUE = ("Age", "Cache-Control", "Cache-Status", "ETag", "Millpond-Computed", "Millpond-Topic")
_ALWAYS = ("Preference-Applied", "Vary")
#: Kinds of JSON whose text in a query is the value itself.
_PLAIN = frozenset({"string", "integer", "number", "boolean"})
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LOCAL = "#/$defs/"


def resource_operations(resource: Resource, shared: Components) -> Iterator[Operation]:
    """Reading it, and computing it anew."""
    schema = _shared(resource.schema(), resource.name, shared)
    required = schema.get("required", ())
    queries = tuple(_query(name, each, name in required, shared) for name, each in schema["properties"].items())
    yield Operation(
        method="GET",
        path=f"{BASE}/resources/{resource.name}",
        id=f"read.{resource.name}",
        group="Resources",
        doc=_doc(resource.doc, resource.name, _freshness(resource)),
        parameters=(*queries, *(ref("parameters", name) for name in ("Prefer", "IfNoneMatch", "CacheControl"))),
        answers=_reading(resource, schema),
        errors=(
            *(BadParameters, Denied, NotFound, TooManyRequests, Misdeclared),
            *(ComputationFailed, ValueTooLarge, NotJson, NotCached, ComputationTimeout),
        ),
        scope="read",
        public=resource.access == "public",
    )
    yield Operation(
        method="POST",
        path=f"{BASE}/resources/{resource.name}/refresh",
        id=f"refresh.{resource.name}",
        group="Resources",
        doc=f"Compute {resource.name} anew, although a fresh value may be there.",
        parameters=queries,
        answers={202: _accepted(resource, schema, ACCEPTED_HEADERS)},
        errors=(BadParameters, Denied, TooManyRequests, Misdeclared),
        scope="run",
        public=False,
    )


def action_operations(action: Action, shared: Components) -> Iterator[Operation]:
    """Running it."""
    schedule = f"Runs by itself too: `{action.schedule}`." if action.schedule is not None else ""
    yield Operation(
        method="POST",
        path=f"{BASE}/actions/{action.name}",
        id=f"run.{action.name}",
        group="Actions",
        doc=_doc(action.doc, action.name, schedule),
        parameters=(ref("parameters", "IdempotencyKey"), ref("parameters", "Prefer")),
        body=_shared(action.schema(), action.name, shared),
        answers={202: answer("The job.", _JOB, headers=(*ACCEPTED_HEADERS, "Preference-Applied"), links=JOB_LINKS)},
        errors=(BadParameters, Denied, IdempotencyMismatch, TooManyRequests, Misdeclared),
        scope=None if action.access == "public" else "run",
        public=action.access == "public",
    )


#: A value that the client has already.
NOT_MODIFIED = answer("The client has it.", headers=(*_OF_A_VALUE, *_ALWAYS))


def _reading(resource: Resource, schema: Schema) -> dict[int, Schema]:
    value = answer("The value itself, fresh or stale.", ANYTHING, headers=(*_OF_A_VALUE, *_ALWAYS))
    value["content"]["text/event-stream"] = {"schema": TEXT}
    return {
        200: value,
        202: _accepted(resource, schema, (*ACCEPTED_HEADERS, "Cache-Status", "Millpond-Topic", *_ALWAYS)),
        304: ref("responses", "not-modified"),
    }


def _accepted(resource: Resource, schema: Schema, headers: tuple[str, ...]) -> Schema:
    """202: the job, or where the value will be; and the way to the value once it is there."""
    again = {
        "operationId": f"read.{resource.name}",
        "parameters": {f"query.{name}": f"$request.query.{name}" for name in schema["properties"]},
        "description": "The value, once it is there.",
    }
    if not resource.offload:
        return answer("Where it will be.", ref("schemas", "Promise"), headers=headers, links={"value": again})
    return answer("The job that computes it.", _JOB, headers=headers, links={**JOB_LINKS, "value": again})


def _doc(doc: str, name: str, more: str) -> str:
    first, _, rest = (doc or name).partition("\n\n")
    return "\n\n".join(filter(None, [first, rest, more]))


def _freshness(resource: Resource) -> str:
    policy = resource.policy
    return (
        f"Fresh for {policy.fresh:g} s, then stale for {policy.stale:g} s, {policy.stale_if_error:g} s where computing "
        f"it fails; refreshed: {resource.refresh}."
    )


def _query(name: str, each: Schema, must: bool, shared: Components) -> Schema:
    """A parameter of a query: its plain text, or JSON where a text alone would not say what it is."""
    found = {"name": name, "in": "query", **({"required": True} if must else {})}
    if _is_plain(each, shared):
        return {**found, "schema": each}
    return {**found, "content": {"application/json": {"schema": each}}}


def _is_plain(each: Schema, shared: Components) -> bool:
    target = shared.schemas[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
    if "enum" in target:
        return len({type(choice) for choice in target["enum"]}) == 1 and target["enum"] != [None]
    return target.get("type") in _PLAIN


def _shared(schema: Schema, owner: str, shared: Components) -> Schema:
    """A schema whose own definitions have become components of the document, named for their owner."""
    del schema["$schema"]
    parts = schema.pop("$defs", {})
    names = {f"{_LOCAL}{name}": f"{owner}.{_NO_NAME.sub('_', name)}" for name in parts}
    shared.schemas |= {names[_LOCAL + name]: _pointed(part, names) for name, part in parts.items()}
    pointed: Schema = _pointed(schema, names)
    return pointed


def _pointed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, list):
        return [_pointed(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    found = {name: _pointed(value, names) for name, value in part.items()}
    return found | ref("schemas", names[part["$ref"]]) if part.get("$ref") in names else found
