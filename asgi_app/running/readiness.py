"""Is a part ready?  Asked from outside, the way anybody could: PING to the store, GET /readyz to the web.

A probe never raises and never waits long; it returns what is missing, by name, with a reason a person can read.
"""

import asyncio
import http.client
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from asgi_app.running import embedded

#: what is still missing, by name; empty: nothing
Probe = Callable[[], Awaitable[dict[str, str]]]
#: seconds one question may take
PATIENCE = 3.0


def store_probe(url: str) -> Probe:
    """Asks the store."""

    async def probe() -> dict[str, str]:
        reason = await embedded.ping(url)
        return {"store": reason} if reason else {}

    return probe


def roles_probe(host: str, port: int, known_as: str) -> Probe:
    """Asks /readyz, which speaks for the web and names what it knows of the worker and the scheduler."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
    name = "localhost" if known_as.startswith(("*", ".")) else known_as

    async def probe() -> dict[str, str]:
        return await asyncio.to_thread(_ask_readyz, address, port, name)

    return probe


def _ask_readyz(address: str, port: int, name: str) -> dict[str, str]:
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz", headers={"Host": name})
        answer = connection.getresponse()
        return missing_parts(answer.status, answer.read(2**16))
    except (OSError, http.client.HTTPException):
        return {"web": "no answer"}
    finally:
        connection.close()


def missing_parts(status: int, body: bytes) -> dict[str, str]:
    """What an answer of /readyz says is missing: checks that are not ok, and roles it says nothing about."""
    try:
        checks: dict[str, Any] = msgspec.json.decode(body)["checks"]
        missing = {name: _reason(check) for name, check in checks.items()}
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        return {"web": f"/readyz answered {status}"}
    missing |= {role: "not heard of yet" for role in ("worker", "scheduler") if role not in missing}
    return {name: reason for name, reason in missing.items() if reason} or (
        {} if status == 200 else {"web": f"{status}"}
    )


def _reason(check: Any) -> str:
    """What a check says when it is not ok, else nothing.

    A check is a word, or an object with `status` and perhaps `detail`.
    """
    word = check.get("status") if isinstance(check, dict) else check
    if word in ("ok", True):
        return ""
    return str(check.get("detail") or word) if isinstance(check, dict) else str(word)
