"""The bodies and headers of answers, as JSON Schema 2020-12.  Pure.

Invariant: `Job` has the members that `jobs.public` gives, `Problem` those of `errors.problem`; tests compare them.  No
shape is closed: a later version may add members.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STATES = ("queued", "running", "retrying", "succeeded", "failed", "cancelled", "dead", "expired")


def ref(kind: str, name: str) -> dict[str, str]:
    """A reference to one of the document's components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def record(properties: dict[str, Schema], *, maybe: tuple[str, ...] = (), doc: str = "") -> Schema:
    """An object that has all these members; those in `maybe` only sometimes."""
    required = [name for name in properties if name not in maybe]
    said = {"description": doc} if doc else {}
    return {"type": "object", **said, "properties": properties, "required": required}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def listing(item: Schema, **more: Schema) -> Schema:
    """A page of a list; it may have `more` members."""
    cursor = {"type": ["string", "null"], "description": "What to give as `cursor` for the next page; null: no more."}
    return record({"items": {"type": "array", "items": item}, "next": cursor, **more}, maybe=tuple(more))


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ANYTHING: Schema = {}
TIME: Schema = {"type": "string", "format": "date-time"}
JOB_ID: Schema = {"type": "string", "format": "uuid", "description": "UUIDv7."}
LINK: Schema = {"type": "string", "format": "uri-reference"}

PROBLEM = record(
    {
        "type": {"type": "string", "description": "The code of the error, to be compared."},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was wrong this time, for people."},
        "errors": {
            "type": "array",
            "items": record({"name": TEXT, "reason": TEXT}),
            "description": "Of `bad-parameters`: each wrong parameter.",
        },
        "retryable": {"type": "boolean", "description": "The very same request may succeed later."},
        "retry_after": {"type": "number", "minimum": 0, "description": "Seconds."},
    },
    maybe=("errors", "retry_after"),
    doc="An error, as RFC 9457 has it.",
)

PROGRESS = record(
    {
        "done": NUMBER,
        "total": nullable(NUMBER),
        "percent": nullable({"type": "number", "minimum": 0, "maximum": 100}),
        "note": {"type": "string", "maxLength": 200},
    }
)

ATTEMPT = record(
    {
        "attempt": COUNT,
        "outcome": TEXT,
        "detail": nullable(TEXT),
        "worker": nullable(TEXT),
        "started_at": nullable(TIME),
        "ended_at": nullable(TIME),
    }
)

JOB = record(
    {
        "id": JOB_ID,
        "kind": {"type": "string", "enum": ["computation", "action"]},
        "name": {"type": "string", "description": "Of the resource or action."},
        "params": {"type": "object"},
        "status": {"type": "string", "enum": list(STATES)},
        "progress": nullable(ref("schemas", "Progress")),
        "attempt": {**COUNT, "description": "0 until the first one begins."},
        "created_at": nullable(TIME),
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "queue": TEXT,
        "priority": {"type": "integer", "minimum": 0, "maximum": 9, "description": "9 is the most urgent."},
        "position": nullable({"type": "integer", "minimum": 1, "description": "In its queue; the next one is 1."}),
        "eta": nullable({"type": "number", "minimum": 0, "description": "Seconds it may still take."}),
        "error": nullable(ref("schemas", "Problem")),
        "result_url": nullable({**LINK, "description": "Where the value of a computation that succeeded is."}),
        "topic": {"type": "string", "pattern": "^job:"},
        "history": {"type": "array", "items": ref("schemas", "Attempt"), "description": "The last attempts."},
        "version": {**COUNT, "description": "Grows at each change."},
    },
    doc="One run of a resource's function or of an action, from the time it was asked for.",
)

PROMISE = record(
    {
        "id": {"type": "null"},
        "kind": {"type": "string", "const": "computation"},
        "name": TEXT,
        "params": {"type": "object"},
        "status": {"type": "string", "const": "running"},
        "topic": TEXT,
        "result_url": LINK,
    },
    doc="What the web process computes itself: there is no job, only where its value will be.",
)

DECLARED = record(
    {
        "name": TEXT,
        "doc": TEXT,
        "parameters": {"type": "object", "description": "JSON Schema 2020-12 of the object of its parameters."},
        "freshness": record({"fresh": NUMBER, "stale": NUMBER, "stale_if_error": NUMBER, "refresh": TEXT}),
        "offload": {"type": "boolean"},
        "topic": TEXT,
        "links": record({"self": LINK, "events": LINK, "refresh": LINK}),
    },
    doc="A resource as it is declared.",
)

CHECKS = record(
    {
        "status": {"type": "string", "enum": ["ready", "draining", "broken"]},
        "checks": {
            "type": "object",
            "additionalProperties": record(
                {"status": {"type": "string", "enum": ["ok", "failed"]}, "detail": TEXT}, maybe=("detail",)
            ),
        },
    }
)

WEBHOOK = record(
    {
        "id": {"type": "string", "format": "uuid"},
        "url": TEXT,
        "actions": {"type": "array", "items": TEXT},
        "active": {"type": "boolean"},
        "disabled_reason": nullable(TEXT),
        "created_at": TIME,
    }
)

DELIVERY = record(
    {
        "id": {"type": "string", "format": "uuid"},
        "type": {"type": "string", "description": "`job.` and the state in which the job ended, or `webhook.test`."},
        "job": nullable(JOB_ID),
        "status": {"type": "string", "enum": ["pending", "delivered", "dead"]},
        "attempts": COUNT,
        "next_attempt_at": nullable(TIME),
        "last_status": nullable({"type": "integer"}),
        "last_error": nullable(TEXT),
        "created_at": TIME,
        "delivered_at": nullable(TIME),
    }
)

NOTIFICATION = record(
    {
        "id": {"type": "integer", "minimum": 1, "description": "Grows by one with each notification of the inbox."},
        "title": TEXT,
        "body": TEXT,
        "level": {"type": "string", "enum": ["debug", "info", "success", "warning", "error"]},
        "data": {**ANYTHING, "description": "What its sender has added, or null."},
        "created_at": TIME,
        "read_at": nullable(TIME),
    }
)

SCHEMAS: dict[str, Schema] = {
    "Problem": PROBLEM,
    "Progress": PROGRESS,
    "Attempt": ATTEMPT,
    "Job": JOB,
    "Promise": PROMISE,
    "Resource": DECLARED,
    "Checks": CHECKS,
    "Webhook": WEBHOOK,
    "Delivery": DELIVERY,
    "Notification": NOTIFICATION,
}


def _header(doc: str, schema: Schema = TEXT, *, always: bool = True) -> Schema:
    return {"description": doc, "required": always, "schema": schema}


HEADERS: dict[str, Schema] = {
    "ETag": _header("The version, for If-None-Match."),
    "Age": _header("Seconds since the value was computed.", COUNT),
    "Cache-Control": _header("Who may keep it, and for how long (RFC 9111, RFC 5861)."),
    "Cache-Status": _header("How the answer came about (RFC 9211)."),
    "Vary": _header("Which headers of the request it depends on."),
    "Location": _header("Where to look next.", LINK),
    "Retry-After": _header("Seconds to wait before asking again.", COUNT, always=False),
    "Preference-Applied": _header("What of Prefer was heeded (RFC 7240).", always=False),
    "Millpond-Topic": _header("The canonical topic: subscribe to it for what comes next."),
    "Millpond-Position": _header("Where the inbox stands: its epoch, and the id of its newest notification."),
    "Millpond-Computed": _header("When the value was computed.", TIME),
    "WWW-Authenticate": _header("How to say who asks."),
}
