"""The operations on webhooks.  Pure."""

from __future__ import annotations

from asgi_app.describing.common import BASE, NO_STORE, by_id
from asgi_app.describing.operations import Operation, answer, parameter
from asgi_app.describing.shapes import Schema, listing, record, ref
from asgi_app.errors import BadParameters, Conflict, NotFound

_ANY_ID: Schema = {"type": "string", "format": "uuid"}
_ID = parameter("id", "path", "Of the webhook.", _ANY_ID)
_DELIVERY_ID = parameter("delivery", "path", "Of the delivery.", _ANY_ID)
_HOOK, _DELIVERY = ref("schemas", "Webhook"), ref("schemas", "Delivery")
_WITH_SECRET: Schema = {"allOf": [_HOOK, record({"secret": {"type": "string", "pattern": "^whsec_"}})]}
_WANTED = {
    **record(
        {
            "url": {
                "type": "string",
                "maxLength": 2000,
                "description": "Where to send: public, and https in production.",
            },
            "actions": {
                "type": "array",
                "minItems": 1,
                "maxItems": 50,
                "items": {"type": "string", "pattern": "^[a-z0-9_.*]{1,200}$"},
                "default": ["*"],
                "description": "Names of actions; `*` is any characters.",
            },
        },
        maybe=("actions",),
    ),
    "additionalProperties": False,
}
_LINKS = {
    "webhook": by_id("readWebhook", "It."),
    "test": by_id("testWebhook", "Have something sent there."),
    "deliveries": by_id("listDeliveries", "What was sent there."),
    "remove": by_id("removeWebhook", "Send nothing there any more."),
}
_AGAIN = {
    "operationId": "redeliver",
    "parameters": {"id": "$request.path.id", "delivery": "$response.body#/id"},
    "description": "Send it again.",
}
_ONE = f"{BASE}/webhooks/{{id}}"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=f"{BASE}/webhooks",
        id="listWebhooks",
        group="Webhooks",
        doc="One's own webhooks, newest first.",
        answers={200: answer("All of them.", listing(_HOOK), headers=NO_STORE)},
        scope="read",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/webhooks",
        id="createWebhook",
        group="Webhooks",
        doc="Be told at a URL of the end of one's actions.\n\nMessages are signed as Standard Webhooks has it.",
        body=_WANTED,
        answers={
            201: answer(
                "The webhook, with the secret that signs; it is not shown again.",
                _WITH_SECRET,
                headers=("Cache-Control", "Location"),
                links=_LINKS,
            )
        },
        errors=(BadParameters, Conflict),
        scope="run",
        public=False,
    ),
    Operation(
        method="GET",
        path=_ONE,
        id="readWebhook",
        group="Webhooks",
        doc="A webhook of one's own.",
        parameters=(_ID,),
        answers={200: answer("It.", _HOOK, headers=NO_STORE)},
        errors=(NotFound,),
        scope="read",
        public=False,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        id="removeWebhook",
        group="Webhooks",
        doc="Remove a webhook, with all that was to be sent there.",
        parameters=(_ID,),
        answers={204: answer("It is gone.")},
        errors=(NotFound,),
        scope="run",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/rotate",
        id="rotateWebhook",
        group="Webhooks",
        doc="Give it a new secret; the one before signs along for a day.",
        parameters=(_ID,),
        answers={200: answer("The webhook, with its new secret.", _WITH_SECRET, headers=NO_STORE)},
        errors=(NotFound, Conflict),
        scope="run",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/test",
        id="testWebhook",
        group="Webhooks",
        doc="Send a message there that says nothing but that it arrived.",
        parameters=(_ID,),
        answers={202: answer("The delivery.", _DELIVERY, headers=NO_STORE, links={"again": _AGAIN})},
        errors=(NotFound, Conflict),
        scope="run",
        public=False,
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/deliveries",
        id="listDeliveries",
        group="Webhooks",
        doc="What was and is to be sent there, newest first.",
        parameters=(_ID, parameter("cursor", "query", "The `next` of the page before.", _ANY_ID)),
        answers={200: answer("A page of them.", listing(_DELIVERY), headers=NO_STORE)},
        errors=(BadParameters, NotFound),
        scope="read",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/deliveries/{{delivery}}/redeliver",
        id="redeliver",
        group="Webhooks",
        doc="Send something again, under its id.",
        parameters=(_ID, _DELIVERY_ID),
        answers={202: answer("The delivery.", _DELIVERY, headers=NO_STORE, links={"again": _AGAIN})},
        errors=(NotFound, Conflict),
        scope="run",
        public=False,
    ),
)
