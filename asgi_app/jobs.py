"""A job as users see it: ids, the public object, and who may look at it.

Invariant: a job is shown only to principals who could have asked for it; to others it does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

from asgi_app import access
from asgi_app.errors import MillpondError, Misdeclared, NotFound
from asgi_app.registry import Principal, Resource, registry
from cache_layer.chance import drawn
from cache_layer.keys import Key

Fields = Mapping[str, str]
#: Owner of jobs that no user asked for.  No id of a user.
SERVICE = "*"
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "dead", "expired"})
#: A hexadecimal digit -> as it is with the two bits of the variant.
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


def new_job_id(unix_ms: int, rest: bytes | None = None) -> str:
    """A UUIDv7 (RFC 9562, section 5.7).  `rest`, ten bytes, makes it deterministic; else it is random."""
    digits = (rest or drawn(10))[:10].hex()
    time_ = f"{unix_ms:012x}"  # as UUID(int=...) has it, in a fraction of the time
    return f"{time_[:8]}-{time_[8:]}-7{digits[1:4]}-{_VARIANT[digits[4]]}{digits[5:8]}-{digits[8:]}"


def firing_id(name: str, unix_ms: int) -> str:
    """The id of a scheduled run: every scheduler names the same firing alike, so that it happens once."""
    return new_job_id(unix_ms, blake2b(f"{name}@{unix_ms}".encode(), digest_size=10).digest())


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job id."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def public(fields: Fields) -> dict[str, Any]:
    """The job object of the API, from the fields of its record.

    `eta` is in seconds, from how far it is and how long its like have taken; `history` has the last attempts.
    """
    done = fields["status"] == "succeeded" and fields["kind"] == "computation"
    return {
        "id": fields["id"],
        "kind": fields["kind"],
        "name": fields["name"],
        "params": json.loads(fields["params"]),
        "status": fields["status"],
        "progress": json.loads(fields["progress"]) if fields.get("progress") else None,
        "attempt": int(fields["fence"]),
        "created_at": _time(fields.get("created_at")),
        "started_at": _time(fields.get("started_at")),
        "finished_at": _time(fields.get("finished_at")),
        "queue": fields["queue"],
        "priority": int(fields["priority"]),
        "position": int(fields["position"]) if fields.get("position") else None,
        "eta": round(float(fields["eta"]), 1) if fields.get("eta") else None,
        "error": json.loads(fields["error"]) if fields.get("error") and fields["status"] != "succeeded" else None,
        "result_url": f"/api/v1/resources/{fields['topic']}" if done else None,
        "topic": f"job:{fields['id']}",
        "history": [_attempt(attempt) for attempt in json.loads(fields.get("history") or "[]")],
        "version": int(fields["version"]),
    }


def share_done(fields: Fields) -> float | None:
    """How much of a job is done, 0 to 1; None when it has not said so."""
    progress = json.loads(fields["progress"]) if fields.get("progress") else {}
    percent = progress.get("percent")
    return None if percent is None else float(percent) / 100


def key_of(fields: Fields) -> tuple[Resource, Any, Key]:
    """The question a computation answers.  Raises MillpondError when its declaration is gone or has changed."""
    resource = registry.resource(fields["name"])
    params = resource.parse(json.loads(fields["params"]), text=False)
    key = resource.key(params, principal_of(fields))
    if not fields.get("lease", key.digest).endswith(key.digest):
        raise Misdeclared(f"{resource.name} is declared otherwise here than where its computation was asked for")
    return resource, params, key


def principal_of(fields: Fields) -> Principal:
    """On whose behalf a job runs."""
    saved = json.loads(fields["principal"])
    return Principal(
        user_id=saved["user_id"],
        username=saved["username"],
        scopes=frozenset(saved["scopes"]),
        is_anonymous=saved["is_anonymous"],
        permissions=frozenset(saved["permissions"]),
    )


@lru_cache(1000)
def dump_principal(principal: Principal) -> str:
    """What `principal_of` reads, as JSON text."""
    return json.dumps(
        {
            "user_id": principal.user_id,
            "username": principal.username,
            "scopes": sorted(principal.scopes),
            "is_anonymous": principal.is_anonymous,
            "permissions": sorted(principal.permissions),
        }
    )


async def check_visible(fields: Fields | None, principal: Principal) -> Fields:
    """The fields again, when `principal` may see the job; else NotFound, as for a job that never was."""
    if fields is None or not await visible(fields, principal):
        raise NotFound("there is no such job")
    return fields


async def visible(fields: Fields, principal: Principal) -> bool:
    """May `principal` see the job?"""
    if fields["kind"] == "action" and access.is_staff(principal):
        return True
    try:
        if fields["kind"] == "action":
            action = registry.action(fields["name"])
            await access.check(action, principal, action.parse(json.loads(fields["params"]), text=False))
            return fields["owner"] == (principal.user_id or "")
        resource, params, key = key_of(fields)
        await access.check(resource, principal, params)
        return resource.key(params, principal).digest == key.digest
    except MillpondError:
        return False


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt as users see it."""
    times = {name: _time(attempt[name]) for name in ("started_at", "ended_at")}
    return {**{name: attempt[name] for name in ("attempt", "outcome", "detail", "worker")}, **times}


def _time(ms: str | int | None) -> str | None:
    if not ms:
        return None
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
