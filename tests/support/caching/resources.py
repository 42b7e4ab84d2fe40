"""Values that are fresh for minutes or for a second, and whose next computation fails if a file says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from asgi_app import Principal, resource

Name = Annotated[str, Meta(max_length=40)]


def _tags(params: Any) -> tuple[str, ...]:
    return (f"caching.{params.name}",)


def _made(name: str) -> dict[str, Any]:
    home = Path(os.environ["MILLPOND_HOME"])
    if (home / f"fails-{name}").exists():
        raise ValueError("no luck")
    with (home / "ledger").open("a") as ledger:
        ledger.write(f"made {name}\n")
    return {"name": name, "run": (home / "ledger").read_text().split("\n").count(f"made {name}")}


@resource("caching.lasting", fresh=600, offload=False, tags=_tags, error_ttl=60)
async def lasting(name: Name) -> dict[str, Any]:
    """Fresh for ten minutes."""
    return _made(name)


@resource("caching.brief", fresh=1, stale=0, stale_if_error=600, offload=False, tags=_tags, error_ttl=60)
async def brief(name: Name) -> dict[str, Any]:
    """Fresh for a second, and kept for the case of an error only."""
    return _made(name)


@resource("caching.mine", vary="user", access="login", offload=False)
async def mine(name: Name, *, principal: Principal) -> str:
    """Each user's own."""
    return f"{name} of {principal.username}"


@resource("caching.guarded", access="login", offload=False)
async def guarded(name: Name) -> str:
    """The same for all who are logged in."""
    return name


@resource("caching.ruled", access=lambda principal, params: not principal.is_anonymous, offload=False)
async def ruled(name: Name) -> str:
    """For whom a function lets in."""
    return name
