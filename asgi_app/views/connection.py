"""Tokens for the websocket."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse

from asgi_app import access
from asgi_app.errors import Unauthenticated
from asgi_app.registry import Principal
from asgi_app.tokens import mint_connection
from asgi_app.views.http import api, reply

#: Seconds a token may be used to connect; the client asks for a new one when it ends.
_LIFE = 600


@api("POST")
async def token(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`POST /api/v1/connection/token`: `{"token": ...}`, a JWT (HS256) for the websocket, for who is asking.

    It allows no more than what it was asked with, and no longer.
    """
    if principal.user_id is None:
        raise Unauthenticated("log in, or send an API token; the public connects without one")
    identity = await access.identify(request.scope)  # type: ignore[attr-defined]
    life = _LIFE if identity.expires_at is None else min(_LIFE, identity.expires_at - time.time())
    return reply({"token": mint_connection(principal.user_id, life, scopes=principal.scopes)})
