"""One operation of the API, and how OpenAPI writes it down.  Pure.

Invariant: the statuses of an operation are those of the error classes it names, with the codes of `errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgi_app.describing.shapes import HEADERS, Schema, ref
from asgi_app.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    Denied,
    MillpondError,
    Unauthenticated,
    Unavailable,
)

Errors = tuple[type[MillpondError], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    #: With `{names}` of its variables.
    path: str
    #: operationId.
    id: str
    #: Heading it stands under.
    group: str
    #: A line; what follows an empty one is the description.
    doc: str
    parameters: tuple[Schema, ...] = ()
    #: Schema of its JSON body.
    body: Schema | None = None
    #: Status -> answer, but for the errors.
    answers: Mapping[int, Schema]
    #: What it may raise beside what any operation may.
    errors: Errors = ()
    #: What a token needs for it.
    scope: str | None = None
    #: Answers without credentials, where the service is open to the public.
    public: bool = True
    #: Outside of the API: asks nobody who they are, and answers no problems of its own.
    bare: bool = False

    @property
    def all_errors(self) -> Errors:
        """Every error it may answer."""
        if self.bare:
            return self.errors
        changing: Errors = () if self.method == "GET" else (Denied, BodyTooSlow, BodyTooLarge)
        return (*self.errors, *changing, BadRequest, Unauthenticated, MillpondError, Unavailable)


@dataclass
class Components:
    """What operations share; filled while they are written down."""

    responses: dict[str, Schema] = field(default_factory=dict)
    schemas: dict[str, Schema] = field(default_factory=dict)


def answer(
    doc: str,
    schema: Schema | None = None,
    *,
    media: str = "application/json",
    headers: Iterable[str] = (),
    links: Mapping[str, Schema] | None = None,
) -> Schema:
    """A response object."""
    found: Schema = {"description": doc}
    if names := list(headers):
        found["headers"] = {name: ref("headers", name) for name in names}
    if schema is not None:
        found["content"] = {media: {"schema": schema}}
    return found | ({"links": dict(links)} if links else {})


def parameter(name: str, where: str, doc: str, schema: Schema, **more: Any) -> Schema:
    """A parameter object; one of the path is always required."""
    must = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": doc, **must, "schema": schema, **more}


def written(operation: Operation, shared: Components, *, anonymous: bool) -> Schema:
    """The operation object; what it shares with others is put into `shared`."""
    summary, _, description = operation.doc.partition("\n\n")
    found: Schema = {
        "operationId": operation.id,
        "tags": [operation.group],
        "summary": " ".join(summary.split()),
        "description": _described(description.strip(), operation.scope),
        "parameters": list(operation.parameters),
        "responses": {str(status): answer for status, answer in sorted(operation.answers.items())}
        | _problems(operation.all_errors, shared),
        "security": [] if operation.bare else _security(operation, anonymous),
    }
    if operation.body is not None:
        needed = bool(operation.body.get("required") or operation.body.get("minProperties"))
        found["requestBody"] = {"required": needed, "content": {"application/json": {"schema": operation.body}}}
    return {name: value for name, value in found.items() if value or name == "security"}


def _described(text: str, scope: str | None) -> str:
    return "\n\n".join(filter(None, [text, f"A token needs the scope `{scope}` for it." if scope else ""]))


def _security(operation: Operation, anonymous: bool) -> list[Schema]:
    """Either a token, or the session, with its CSRF token where something is changed, or nothing."""
    session: Schema = {"session": []} if operation.method == "GET" else {"session": [], "csrf": []}
    known: list[Schema] = [{"bearer": [operation.scope] if operation.scope else []}, session]
    return [*known, {}] if operation.public and anonymous else known


def _problems(errors: Errors, shared: Components) -> Schema:
    by_status: dict[int, list[type[MillpondError]]] = {}
    for error in dict.fromkeys(errors):
        by_status.setdefault(error.status, []).append(error)
    return {str(status): _problem(status, kinds, shared) for status, kinds in sorted(by_status.items())}


def _problem(status: int, kinds: list[type[MillpondError]], shared: Components) -> Schema:
    name = ".".join(sorted(kind.code for kind in kinds))
    doc = "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds)
    headers = ["Cache-Control"]
    headers += ["Retry-After"] if status in (429, 502, 503, 504) else []
    headers += ["WWW-Authenticate"] if status == 401 else []
    assert HEADERS.keys() >= set(headers)
    shared.responses[name] = answer(doc, ref("schemas", "Problem"), media="application/problem+json", headers=headers)
    return ref("responses", name)
