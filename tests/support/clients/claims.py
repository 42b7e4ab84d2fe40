"""Tokens as another back end would mint them: by a JWT library and the shared secret alone."""

from __future__ import annotations

import secrets
import time
from typing import Any

import jwt

#: What the services of these tests are started with.
SECRET = secrets.token_urlsafe(48)


def minted(sub: str = "", ttl: float | None = None, *, secret: str = SECRET, **claims: Any) -> str:
    """A token of user `sub` ("": the public) that ends in `ttl` seconds (None: never)."""
    if sub:
        claims["sub"] = sub
    if ttl is not None:
        claims["exp"] = int(time.time() + ttl)
    return jwt.encode({"iat": int(time.time()), **claims}, secret, algorithm="HS256")
