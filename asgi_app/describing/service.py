"""The operations every service has, but for those on jobs and webhooks.  Pure."""

from __future__ import annotations

from asgi_app.describing.common import BASE, NO_STORE
from asgi_app.describing.operations import Operation, answer, parameter
from asgi_app.describing.shapes import COUNT, NUMBER, TEXT, listing, nullable, record, ref
from asgi_app.errors import BadParameters, Denied, NotFound, TooManyRequests

_WATCH = record(
    {
        "processes": {
            "type": "array",
            "items": record(
                {
                    "process": TEXT,
                    "host": TEXT,
                    "pid": COUNT,
                    "draining": {"type": "boolean"},
                    "feed": {"type": "boolean", "description": "It hears the store."},
                    "lag": {**NUMBER, "description": "Seconds the loop kept somebody waiting lately."},
                    "connections": {"type": "object", "additionalProperties": COUNT, "description": "By transport."},
                    "subscriptions": COUNT,
                    "watched": {**COUNT, "description": "Topics."},
                }
            ),
        },
        "topics": {
            "type": "array",
            "items": record(
                {
                    "topic": TEXT,
                    "kind": {"enum": ["value", "job", "log", "inbox"]},
                    "watchers": COUNT,
                    "hidden": {**COUNT, "description": "Of the watchers, those who do not look at the moment."},
                    "told": {**NUMBER, "description": "News a minute."},
                    "computed": {**NUMBER, "description": "Computations a minute, also to the same value."},
                    "seconds": {**nullable(NUMBER), "description": "Of a computation: the median of the latest ones."},
                    "state": {"enum": ["", "fresh", "stale", "pending", "failed"]},
                    "error": TEXT,
                }
            ),
        },
        "omitted": COUNT,
        "slow": {
            "type": "array",
            "items": record({"user": TEXT, "transport": TEXT, "stuck": NUMBER, "age": NUMBER}),
            "description": "Who does not take what is written to them.",
        },
    }
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=f"{BASE}/resources",
        id="listResources",
        group="Resources",
        doc="Every resource one may see.",
        answers={200: answer("The resources, by name.", listing(ref("schemas", "Resource")), headers=NO_STORE)},
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
                "`sales.daily?days=7`, a resource with parameters; `job:` and an id; a log topic.  May be given again.",
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
        answers={200: answer("Done.", record({"tags": {"type": "array", "items": TEXT}}), headers=NO_STORE)},
        errors=(BadParameters,),
        scope="invalidate",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/publish",
        id="publish",
        group="Changes",
        doc="Publish on a log topic.\n\nEveryone who follows it is told, in the order of the offsets.  A topic that "
        "keeps no history has no positions: epoch and offset are missing then.",
        body={
            **record({"topic": {**TEXT, "minLength": 1, "maxLength": 255}, "data": {}}),
            "additionalProperties": False,
        },
        answers={
            200: answer(
                "Done.",
                record(
                    {"topic": TEXT, "epoch": TEXT, "offset": {"type": "integer", "minimum": 1}},
                    maybe=("epoch", "offset"),
                ),
                headers=NO_STORE,
            )
        },
        errors=(BadParameters, NotFound),
        scope="publish",
        public=False,
    ),
    Operation(
        method="GET",
        path=f"{BASE}/watch",
        id="watch",
        group="Service",
        doc="Who watches what, in all web processes; for the staff.\n\nAs the processes told it in the last seconds: "
        "each names its most watched topics, and `omitted` counts the others.",
        answers={200: answer("It.", _WATCH, headers=NO_STORE)},
        errors=(Denied,),
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/connection/token",
        id="connectionToken",
        group="Service",
        doc="A short-lived token for the websocket, for who is asking.\n\nA JWT (HS256), to be given to any Centrifuge "
        "client that connects to `/connection/websocket`.",
        answers={200: answer("The token.", record({"token": TEXT}), headers=NO_STORE)},
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
        answers={200: answer("It does.", record({"status": {"const": "alive"}}), headers=NO_STORE)},
        bare=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        id="ready",
        group="Service",
        doc="Every part the service needs, by name.",
        answers={
            200: answer("All are there.", ref("schemas", "Checks"), headers=NO_STORE),
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
        answers={200: answer("Text.", TEXT, media="text/plain", headers=NO_STORE)},
        bare=True,
    ),
)
