"""Tokens of the websocket: JWTs, HS256 only, that any back end which knows `MILLPOND_TOKEN_SECRET` may mint.

Claims of a connection: `sub` (optional; need not be a Django user), `exp` (optional), `info`, `channels`.  Of a
subscription: `channel`, `sub`, `exp`, `info`, `client`.  They are those of Centrifugo, so that existing back ends need
no change.  One is our own: `millpond:scopes`, the most that the connection may do, whatever its user may.
Invariant: no token is accepted that is not signed with the key, expired, or meant for another purpose.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import jwt

from asgi_app.env import env

#: Seconds the clock of whoever minted a token may be ahead.  An expiry is exact: clients refresh at that very second.
_LEEWAY = 5.0
_ALGORITHM = "HS256"
#: HMAC-SHA256 pads a shorter key with zeros to its block.  Done beforehand it is the same key, and PyJWT does not warn
#: of a short one at each call: how long a secret must be is judged once, with the settings.
_BLOCK = 64
_SCOPES = "millpond:scopes"


class TokenError(Exception):
    """The token does not do."""


class TokenExpired(TokenError):
    """It was valid: a new one will be."""


class TokenInvalid(TokenError):
    """Not signed by us, malformed, or meant for something else."""


class TokenMismatch(TokenError):
    """A valid subscription token, of another user, or for another channel or connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a valid token says."""

    #: "" for the public.
    sub: str
    #: Unix seconds, None for never.
    expires_at: float | None
    #: Whatever the minting back end wants others to see of the user.
    info: Any
    #: Topics the server subscribes at connect.
    channels: tuple[str, ...]
    #: The most it may do, None for all that its user may.
    scopes: frozenset[str] | None = None
    #: The one connection that a subscription token is for, "" for any.
    client: str = ""

    def expires_in(self, now: float) -> float | None:
        """Seconds left at unix time `now`, None for ever."""
        return None if self.expires_at is None else self.expires_at - now


def mint_connection(
    sub: str,
    ttl: float | None,
    *,
    info: Any = None,
    channels: tuple[str, ...] = (),
    scopes: frozenset[str] | None = None,
    now: float | None = None,
) -> str:
    """A token with which `sub` ("" for the public) may connect within `ttl` seconds (None: for ever)."""
    issued = time.time() if now is None else now
    claims: dict[str, Any] = {"iat": int(issued)}
    optional = {"sub": sub, "info": info, "channels": list(channels)}
    claims |= {name: value for name, value in optional.items() if value}
    if scopes is not None:
        claims[_SCOPES] = sorted(scopes)
    if ttl is not None:
        claims["exp"] = int(issued + ttl)
    return jwt.encode(claims, _key(), algorithm=_ALGORITHM)


def verify_connection(token: str, *, now: float | None = None) -> Claims:
    """What a connection token says.  Raises TokenExpired or TokenInvalid."""
    payload = _verified(token, now)
    if "channel" in payload:
        raise TokenInvalid("this is a subscription token")
    return _claims(payload)


def mint_subscription(
    channel: str, sub: str, ttl: float | None, *, info: Any = None, client: str = "", now: float | None = None
) -> str:
    """A token with which `sub` ("" for the public) may follow `channel`, whatever its access, within `ttl` seconds."""
    issued = time.time() if now is None else now
    claims: dict[str, Any] = {"iat": int(issued), "channel": channel}
    claims |= {name: value for name, value in {"sub": sub, "info": info, "client": client}.items() if value}
    if ttl is not None:
        claims["exp"] = int(issued + ttl)
    return jwt.encode(claims, _key(), algorithm=_ALGORITHM)


def verify_subscription(token: str, channel: str, sub: str, *, client: str = "", now: float | None = None) -> Claims:
    """What a subscription token of user `sub` ("" for the public) for `channel` says, used on connection `client`.

    Raises TokenExpired, TokenInvalid, or TokenMismatch when it is for another user, channel or connection.
    """
    payload = _verified(token, now)
    claims = _claims(payload)
    if not isinstance(payload.get("channel"), str) or not payload["channel"]:
        raise TokenInvalid("this is no subscription token")
    if payload["channel"] != channel or claims.sub != sub or claims.client not in ("", client):
        raise TokenMismatch("the token is for another channel, user or connection")
    return claims


def _verified(token: str, now: float | None) -> dict[str, Any]:
    try:
        payload = jwt.decode(
            token, _key(), algorithms=[_ALGORITHM], leeway=_LEEWAY, options={"verify_exp": False, "verify_aud": False}
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid(str(error)) from None
    expires_at = _expiry(payload)
    if expires_at is not None and expires_at <= (time.time() if now is None else now):
        raise TokenExpired("the token is expired")
    return payload


def _expiry(payload: dict[str, Any]) -> float | None:
    expires_at = payload.get("exp")
    if expires_at is None:
        return None
    try:
        if isinstance(expires_at, (int, float)) and not isinstance(expires_at, bool) and math.isfinite(expires_at):
            return float(expires_at)
    except OverflowError:
        pass
    raise TokenInvalid("exp is not a time")


def _claims(payload: dict[str, Any]) -> Claims:
    sub, client = payload.get("sub", ""), payload.get("client", "")
    if not isinstance(sub, str) or not isinstance(client, str):
        raise TokenInvalid("sub or client is not a string")
    return Claims(
        sub=sub,
        expires_at=_expiry(payload),
        info=payload.get("info"),
        channels=_texts(payload, "channels") or (),
        client=client,
        scopes=None if (scopes := _texts(payload, _SCOPES)) is None else frozenset(scopes),
    )


def _texts(payload: dict[str, Any], claim: str) -> tuple[str, ...] | None:
    found = payload.get(claim)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise TokenInvalid(f"{claim} is not a list of strings")
    return tuple(found)


def _key() -> bytes:
    return env().token_secret.encode().ljust(_BLOCK, b"\0")
