"""The operations on the inbox.  Pure."""

from __future__ import annotations

from asgi_app.describing.common import BASE
from asgi_app.describing.operations import Operation, answer, parameter
from asgi_app.describing.shapes import COUNT, Schema, listing, record, ref
from asgi_app.errors import BadParameters, Denied

_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": 2**53}
_NONE = {"allowEmptyValue": True}
_UNREAD: Schema = {**COUNT, "description": "How many of all have not been read."}
_PARAMETERS = (
    parameter(
        "after",
        "query",
        "Everything since this id, the oldest first; without it the newest come first. It is also the offset of the "
        "topic `inbox#` and the id of the user.",
        {"type": "string", "pattern": "^[0-9]{1,15}$", "examples": ["0"]},
        **_NONE,
    ),
    parameter(
        "cursor",
        "query",
        "The `next` of the page before.",
        {"type": "string", "pattern": "^(before-)?[0-9]{1,15}$"},
        **_NONE,
    ),
    parameter(
        "limit",
        "query",
        "Notifications of a page, at the most.",
        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        **_NONE,
    ),
)
_READ: Schema = {
    "type": "object",
    "properties": {
        "ids": {"type": "array", "items": _NUMBER, "maxItems": 1000},
        "up_to": {"type": "integer", "minimum": 0, "maximum": 2**53},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=f"{BASE}/notifications",
        id="listNotifications",
        group="Inbox",
        doc="The notifications of one's own inbox.\n\nWithout `after`, those that are neither replaced nor expired.",
        parameters=_PARAMETERS,
        answers={
            200: answer(
                "A page of them.",
                listing(ref("schemas", "Notification"), unread=_UNREAD),
                headers=("Cache-Control", "Millpond-Position"),
            )
        },
        errors=(BadParameters, Denied),
        scope="read",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/notifications/read",
        id="readNotifications",
        group="Inbox",
        doc="Say that notifications were read.\n\nThese, or all up to one; every connection of the user is told.",
        body=_READ,
        answers={200: answer("How many are left.", record({"unread": _UNREAD}), headers=("Cache-Control",))},
        errors=(BadParameters, Denied),
        scope="read",
        public=False,
    ),
)
