"""What the tables of operations share: headings, parameters, links.  Pure."""

from __future__ import annotations

from asgi_app.describing.operations import parameter
from asgi_app.describing.shapes import JOB_ID, TEXT, Schema, ref

BASE = "/api/v1"
#: Headings, with what stands under them, in their order.
GROUPS = {
    "Resources": "Values of declared functions: computed once, kept, and shown live.",
    "Actions": "Declared jobs with side effects.",
    "Jobs": "What runs or ran: computations of resources, and actions.",
    "Inbox": "What one is notified of.",
    "Changes": "Telling the service that something has changed.",
    "Webhooks": "Being told of the end of one's actions, at an address of one's own.",
    "Service": "The service itself: how to connect to it, and how it is.",
}
PARAMETERS: dict[str, Schema] = {
    "JobId": parameter("id", "path", "Of the job.", JOB_ID),
    "Prefer": parameter(
        "Prefer",
        "header",
        "RFC 7240: `wait=N` holds the request up to N seconds (30 at the most) for the value, or, with If-None-Match, "
        "for a newer one; `respond-async` never waits.  What is not understood is ignored.",
        TEXT,
        example="wait=5",
    ),
    "IfNoneMatch": parameter(
        "If-None-Match", "header", "ETags the client has; with one that is current the answer is 304.", TEXT
    ),
    "CacheControl": parameter(
        "Cache-Control",
        "header",
        "RFC 9111: `only-if-cached`, `max-age`, `min-fresh`, `max-stale`.  None forces a computation.",
        TEXT,
    ),
    "IdempotencyKey": parameter(
        "Idempotency-Key",
        "header",
        "The same key with the same body is the same job; with another body it is a 422.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
}


def by_id(operation: str, doc: str) -> Schema:
    """A link to an operation on the thing that the answer shows."""
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}, "description": doc}


LINKS: dict[str, Schema] = {
    "job": by_id("readJob", "How it is doing."),
    "cancel": by_id("cancelJob", "End it."),
    "retry": by_id("retryJob", "Run it again, once it is over without success."),
    "discard": by_id("discardJob", "Forget it, once it is over."),
}
#: What may be done with the job that an answer shows.
JOB_LINKS: dict[str, Schema] = {name: ref("links", name) for name in LINKS}

NO_STORE = ("Cache-Control",)
ACCEPTED_HEADERS = ("Cache-Control", "Location", "Retry-After")
