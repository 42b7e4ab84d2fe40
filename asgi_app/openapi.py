"""The OpenAPI 3.1 document of the whole API.  Pure: what is declared and may be seen -> a dict.

Every declared resource and action is a path of its own, with its own parameters; for every other operation there is an
entry in a table of `describing/`, and a path of `urls.py` without one fails a test.

Invariant: the document names nothing that was not handed in, so that it tells nobody of what they may not see.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgi_app.describing import jobs, notifications, service, webhooks
from asgi_app.describing.common import GROUPS, LINKS, PARAMETERS
from asgi_app.describing.declared import NOT_MODIFIED, action_operations, resource_operations
from asgi_app.describing.operations import Components, Operation, written
from asgi_app.describing.shapes import HEADERS, SCHEMAS, Schema
from asgi_app.registry import Action, Resource

#: What every service answers, whatever it declares.
OPERATIONS: tuple[Operation, ...] = (
    *service.OPERATIONS,
    *jobs.OPERATIONS,
    *notifications.OPERATIONS,
    *webhooks.OPERATIONS,
)
_ABOUT = """Slow functions as live resources: computed once, kept, and shown live.

A resource is read with GET: 200 with its value, or 202 with the job that computes it; the same address with
`Accept: text/event-stream` is a stream, and its topic can be subscribed to over the websocket. All errors are
`application/problem+json` with a `type` to be compared."""


def document(
    resources: Iterable[Resource],
    actions: Iterable[Action],
    *,
    version: str,
    anonymous: bool,
    session_cookie: str,
    csrf_header: str,
) -> dict[str, Any]:
    """What is described is the fixed table and what is handed in; `anonymous`: the service is open to the public."""
    shared = Components()
    operations = [
        *OPERATIONS,
        *(each for resource in _by_name(resources) for each in resource_operations(resource, shared)),
        *(each for action in _by_name(actions) for each in action_operations(action, shared)),
    ]
    paths: dict[str, Schema] = {}
    for operation in _in_order(operations):
        described = written(operation, shared, anonymous=anonymous)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millpond", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": doc} for name, doc in GROUPS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS | shared.schemas,
            "responses": {"not-modified": NOT_MODIFIED} | shared.responses,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "links": LINKS,
            "securitySchemes": _schemes(session_cookie, csrf_header),
        },
    }


def _by_name(declared: Iterable[Any]) -> list[Any]:
    return sorted(declared, key=lambda each: str(each.name))


def _in_order(operations: list[Operation]) -> list[Operation]:
    groups = list(GROUPS)
    return sorted(operations, key=lambda operation: groups.index(operation.group))


def _schemes(session_cookie: str, csrf_header: str) -> Schema:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token from `millpond token create`; its scopes are the roles that operations name.",
        },
        "session": {"type": "apiKey", "in": "cookie", "name": session_cookie, "description": "Who is signed in."},
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": csrf_header,
            "description": "Beside the session, for whatever changes something: the value of the cookie `csrftoken`.",
        },
    }
