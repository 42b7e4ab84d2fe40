"""The operations every service has, whatever it declares: one entry for each; a path of `urls.py` without one fails a
test.  Pure.

Invariant: order here is order in the document.
"""

from __future__ import annotations

from typing import Any

from asgi_app.describing.operations import Operation, answer, parameter
from asgi_app.describing.shapes import JOB_ID, TEXT, Schema, listing, record, ref
from asgi_app.errors import BadParameters, Denied, NotFound, TooManyRequests

BASE = "/api/v1"
#: Headings, with what stands under them.
GROUPS = {
    "Resources": "Values of declared functions: computed once, kept, and shown live.",
    "Actions": "Declared jobs with side effects.",
    "Jobs": "What runs or ran: computations of resources, and actions.",
    "Changes": "Telling the service that something has changed.",
    "Service": "The service itself: how to connect to it, and how it is.",
}

JOB = ref("schemas", "Job")
ID = parameter("id", "path", "Of the job.", JOB_ID)
PREFER = parameter(
    "Prefer",
    "header",
    "RFC 7240: `wait=N` holds the request up to N seconds (30 at the most) for the value, or, with If-None-Match, for "
    "a newer one; `respond-async` never waits.  What is not understood is ignored.",
    TEXT,
    example="wait=5",
)
IF_NONE_MATCH = parameter(
    "If-None-Match", "header", "ETags the client has; with one that is current the answer is 304.", TEXT
)
CACHE_CONTROL = parameter(
    "Cache-Control",
    "header",
    "RFC 9111: `only-if-cached`, `max-age`, `min-fresh`, `max-stale`.  None forces a computation.",
    TEXT,
)
IDEMPOTENCY_KEY = parameter(
    "Idempotency-Key",
    "header",
    "The same key with the same body is the same job; with another body it is a 422.",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
PARAMETERS: dict[str, Schema] = {
    "JobId": ID,
    "Prefer": PREFER,
    "IfNoneMatch": IF_NONE_MATCH,
    "CacheControl": CACHE_CONTROL,
    "IdempotencyKey": IDEMPOTENCY_KEY,
}


def _about_a_job(operation: str, doc: str) -> Schema:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}, "description": doc}


#: What may be done with the job that an answer shows.
LINKS: dict[str, Schema] = {
    "job": _about_a_job("readJob", "How it is doing."),
    "cancel": _about_a_job("cancelJob", "End it."),
}
JOB_LINKS: dict[str, Schema] = {name: ref("links", name) for name in LINKS}

ACCEPTED_HEADERS = ("Cache-Control", "Location", "Retry-After")
_KEPT_BY_NOBODY = ("Cache-Control",)
_JOB_HEADERS = ("Cache-Control", "ETag", "Retry-After")
_NO_STORE: Any = {"headers": _KEPT_BY_NOBODY}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=f"{BASE}/resources",
        id="listResources",
        group="Resources",
        doc="Every resource one may see.",
        answers={200: answer("The resources, by name.", listing(ref("schemas", "Resource")), **_NO_STORE)},
    ),
    Operation(
        method="GET",
        path=f"{BASE}/events",
        id="streamEvents",
        group="Resources",
        doc="Any topics as one event stream.\n\nEvents `snapshot`, `update`, `progress`, `error` and `reset`, each "
        "with `{topic, epoch, offset, data}`; their `id` resumes all topics of the stream.",
        parameters=(
            parameter(
                "topic",
                "query",
                "A resource with its parameters, `sales.daily?days=7`, or `job:` and an id; may be given again.",
                {"type": "array", "items": TEXT, "minItems": 1},
                required=True,
            ),
            parameter("last_event_id", "query", "As Last-Event-ID, for clients that cannot set it.", TEXT),
            parameter("Last-Event-ID", "header", "The `id` of the last event that was received.", TEXT),
        ),
        answers={200: answer("The stream.", TEXT, media="text/event-stream", headers=("Cache-Control", "Vary"))},
        errors=(BadParameters, Denied, NotFound, TooManyRequests),
        scope="read",
    ),
    Operation(
        method="GET",
        path=f"{BASE}/jobs/{{id}}",
        id="readJob",
        group="Jobs",
        doc="A job.\n\nOther people's jobs do not exist.",
        parameters=(ref("parameters", "JobId"),),
        answers={200: answer("The job, while it exists.", JOB, headers=_JOB_HEADERS, links=JOB_LINKS)},
        errors=(NotFound,),
    ),
    Operation(
        method="DELETE",
        path=f"{BASE}/jobs/{{id}}",
        id="cancelJob",
        group="Jobs",
        doc="Cancel a job.",
        parameters=(ref("parameters", "JobId"),),
        answers={
            200: answer("It is over.", JOB, headers=_JOB_HEADERS, links=JOB_LINKS),
            202: answer("It has been told to end.", JOB, headers=_JOB_HEADERS, links=JOB_LINKS),
        },
        errors=(NotFound,),
        scope="run",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/invalidate",
        id="invalidate",
        group="Changes",
        doc="Outdate every value that carries one of these tags.\n\nOnce it answers, no older value is served.",
        body={
            **record(
                {"tags": {"type": "array", "maxItems": 1000, "items": {**TEXT, "minLength": 1, "maxLength": 255}}}
            ),
            "additionalProperties": False,
        },
        answers={200: answer("Done.", record({"tags": {"type": "array", "items": TEXT}}), **_NO_STORE)},
        errors=(BadParameters,),
        scope="invalidate",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/connection/token",
        id="connectionToken",
        group="Service",
        doc="A short-lived token for the websocket, for who is asking.\n\nA JWT (HS256), to be given to any Centrifuge "
        "client that connects to `/connection/websocket`.",
        answers={200: answer("The token.", record({"token": TEXT}), **_NO_STORE)},
        public=False,
    ),
    Operation(
        method="GET",
        path=f"{BASE}/openapi.json",
        id="describe",
        group="Service",
        doc="This document: what one may see of the API.",
        parameters=(ref("parameters", "IfNoneMatch"),),
        answers={
            200: answer("OpenAPI 3.1.", {"type": "object"}, headers=("Cache-Control", "ETag", "Vary")),
            304: answer("It has not changed.", headers=("Cache-Control", "ETag", "Vary")),
        },
    ),
    Operation(
        method="GET",
        path=f"{BASE}/docs",
        id="docs",
        group="Service",
        doc="A page to try the API.",
        answers={200: answer("The page.", TEXT, media="text/html")},
        bare=True,
    ),
    Operation(
        method="GET",
        path="/livez",
        id="alive",
        group="Service",
        doc="Whether this process answers.",
        answers={200: answer("It does.", record({"status": {"const": "alive"}}), **_NO_STORE)},
        bare=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        id="ready",
        group="Service",
        doc="Every part the service needs, by name.",
        answers={
            200: answer("All are there.", ref("schemas", "Checks"), **_NO_STORE),
            503: answer(
                "One is broken, or this process is leaving.",
                ref("schemas", "Checks"),
                headers=("Cache-Control", "Retry-After"),
            ),
        },
        bare=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        id="metrics",
        group="Service",
        doc="What this process counts, for Prometheus.",
        answers={200: answer("Text.", TEXT, media="text/plain", headers=_KEPT_BY_NOBODY)},
        bare=True,
    ),
)
