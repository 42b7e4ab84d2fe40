"""Who a client is, by its connection token, its API token or its session, and what others see of it.

Invariant: a token may allow less than its user may, never more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from asgi_app import access, standing, tokens
from asgi_app.access import Identity
from asgi_app.errors import Unauthenticated
from asgi_app.registry import Principal
from asgi_app.standing import Asked
from asgi_app.together import Together
from asgi_app.tokens import Claims

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A client whose credentials are good."""

    identity: Identity
    #: Seconds until the credentials end, None for never.
    expires_in: float | None = None
    #: It came with a connection token, and a new one lengthens its life.
    refreshable: bool = False
    #: What its back end wants others to see of it.
    info: Any = None
    #: Topics its back end wants it to follow, whatever their access.
    channels: tuple[str, ...] = ()

    @property
    def user(self) -> str:
        """The id of its user, "" for the public."""
        return self.identity.principal.user_id or ""

    def server_side(self) -> tuple[str, ...]:
        """The topics that the server subscribes by itself: the inbox of whoever is somebody, then what the token says,
        each once."""
        own = (f"inbox#{self.user}",) if self.user else ()
        return tuple(dict.fromkeys((*own, *filter(None, self.channels))))

    def shown(self, client: str, chan_info: Any = None) -> bytes:
        """What others see of it, as JSON; `client` is the id of its connection."""
        head: dict[str, Any] = {"user": self.user, "client": client}
        more = {"conn_info": self.info, "chan_info": chan_info}
        return msgspec.json.encode({**head, **{name: info for name, info in more.items() if info is not None}})


#: A client that says nothing of itself.
PUBLIC = Known(identity=Identity(principal=Principal.public()))


async def identify(scope: Mapping[str, Any], token: str) -> Known:
    """Raises TokenExpired, TokenInvalid, Unauthenticated, Unavailable."""
    if token:
        return await by_token(tokens.verify_connection(token))
    if not any(name in (b"authorization", b"cookie") for name, _ in scope["headers"]):
        return PUBLIC
    identity = await of_request(scope)
    ends = identity.expires_at
    return Known(identity=identity, expires_in=None if ends is None else ends - time.time())


async def of_request(scope: Mapping[str, Any]) -> Identity:
    """Whose the API token or the session of a request is.  Raises Unauthenticated, Unavailable."""
    token, session_key = access.credentials(scope)
    if not token and not session_key:
        return PUBLIC.identity
    if not standing.applies():
        return await access.with_database(lambda: access.identify(scope))
    found = await _together(standing.read).of(Asked(token=token, session_key=session_key))
    if found is None:
        raise Unauthenticated("the token is unknown or expired")
    return found


async def by_token(claims: Claims) -> Known:
    """Who a connection token names.  Raises Unauthenticated for a user who was deactivated, Unavailable."""
    identity = Identity(principal=Principal.public())
    if claims.sub:
        known = Identity(principal=access.stranger(claims.sub), at_most=claims.scopes)
        found = await _together(standing.reread).of(known)
        if isinstance(found, standing.Lost):
            raise Unauthenticated("this user was deactivated")
        identity = found
    return Known(
        identity=identity,
        expires_in=claims.expires_in(time.time()),
        refreshable=True,
        info=claims.info,
        channels=claims.channels,
    )


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, Together[Any, Any]]] = WeakKeyDictionary()


def _together(ask: Callable[[Sequence[Q]], Awaitable[Sequence[A]]]) -> Together[Q, A]:
    """When all come back at once, the database is asked for hundreds of them at a time."""
    kinds = _of_loop.setdefault(asyncio.get_running_loop(), {})
    if ask not in kinds:
        kinds[ask] = Together(ask, standing.MOST)
    return kinds[ask]
