"""The front before Django: a value is answered without it, header for header as its view does.

    path and query -> door (remembered) -> access -> this process's copy, or the store -> fresh? -> 200 or 304
                                                        no: read as the view reads, held -> a value? -> 200 or 304

Invariant: it answers only what it is sure of; everything else, each refusal and each job, falls through to Django, with
what was read.  What it remembers is bounded, and holds no rights.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from asgi_app import access, wiring
from asgi_app.env import env
from asgi_app.errors import MillpondError
from asgi_app.generations import Generations
from asgi_app.held import Held, hand_on
from asgi_app.http_caching import demand, hit
from asgi_app.preferences import preferences
from asgi_app.prepared import Prepared
from asgi_app.reading import Reading
from asgi_app.registry import Principal, Resource, registry
from asgi_app.representation import for_everybody, holding, value_headers, vary
from asgi_app.submitting import Question
from cache_layer import metrics
from cache_layer.cache import Found
from cache_layer.errors import StoreUnavailable
from cache_layer.freshness import ANYTHING, is_served
from cache_layer.keys import Key
from cache_layer.position import Position

_PREFIX = "/api/v1/resources/"
#: Questions of a generation that are remembered, and bytes of the answers they hold, about.
_DOORS, _BYTES = 20_000, 32 * 1024 * 1024
#: Hosts and request directives that are remembered; all are forgotten when there are more.
_FEW = 1_000
#: Characters of a path and query, a host, or a header that are worth remembering.
_LONGEST = 1_000
#: Headers that have a say in the answer; the view and what stands around it read no others.
_READ = frozenset(
    b"host if-none-match authorization cookie accept cache-control prefer content-length transfer-encoding "
    b"x-forwarded-proto".split()
)
_PUBLIC = Principal.public()
#: Cookies of these names are taken away or made anew, by Django, where their values are none that it gave.
_SESSION, _CSRF = settings.SESSION_COOKIE_NAME.encode(), settings.CSRF_COOKIE_NAME.encode()
_PAIR = rb"(?:%b=[a-z0-9]{8,64}|%b=(?:[A-Za-z0-9]{32}){1,2}|(?!%b=|%b=)[A-Za-z0-9_-]+=[^;,\"\s]*)" % (
    2 * (re.escape(_SESSION), re.escape(_CSRF))
)
_OUR_COOKIES = re.compile(rb"%b(?:; ?%b)*" % (_PAIR, _PAIR))


@dataclass(slots=True)
class _Door:
    """A question that was asked before, by whoever its value does not differ for."""

    resource: Resource
    params: Any
    key: Key
    #: What the answers below were made of: which write, https, preferred; and the whole seconds of age and left.
    made_of: tuple[Any, ...] = ()
    aged: tuple[int, int] = (-1, -1)
    etag: bytes = b""
    changed: Prepared | None = None
    unchanged: Prepared | None = None
    #: Bytes of the answers.
    size: int = 0


@dataclass(slots=True)
class _Asked:
    principal: Principal
    #: If-None-Match.
    held: bytes
    #: A session may stand behind it.
    cookie: bool
    #: Over https.
    secure: bool
    #: Preference-Applied, and the seconds the request may be held.
    applied: str
    wait: float


class Hot:
    """The front of one process."""

    def __init__(self) -> None:
        self._doors: Generations[_Door] = Generations(_DOORS, _BYTES)
        self._hosts: dict[bytes, bool] = {}
        self._plain: dict[bytes, bool] = {}
        self._preferred: dict[bytes, tuple[str, float]] = {}

    def at_once(self, scope: Any) -> Prepared | None:
        """What this process itself holds for a GET, as it comes from the wire: before a task is made for it."""
        node, found = wiring.node(), None
        if node.near is None or not scope["path"].startswith(_PREFIX):
            return None
        known = self._known(scope, from_the_wire=True)
        if known is not None:
            found = node.cache.at_hand(known[0].key)
        if known is None or found is None or not _serves(known[0], found):
            return None
        metrics.events["answered before Django"] += 1
        return self._prepared(*known, found)

    async def answer(self, scope: Any, receive: Any, send: Any) -> Any:
        """Answer a request; or the `receive` with which Django is to answer it."""
        if not scope["path"].startswith(_PREFIX) or scope["method"] not in ("GET", "HEAD"):
            return receive
        known = self._known(scope)
        if known is None:
            return receive
        door, asked = known
        found = wiring.node().cache.at_hand(door.key)
        if found is None:
            try:
                found = await wiring.node().reader.find(door.key, near=False)
            except StoreUnavailable:
                return receive
        if not _serves(door, found):
            return await self._read(door, found, asked, scope, receive, send)
        await self._prepared(door, asked, found).send(send)
        metrics.events["answered before Django"] += 1
        return None

    def _known(self, scope: Any, from_the_wire: bool = False) -> tuple[_Door, _Asked] | None:
        """What is asked for, by whom; None: that is for Django to find out, or to refuse."""
        asked = self._asked(scope, from_the_wire)
        door = self._door(scope, asked.principal) if asked is not None else None
        return (door, asked) if asked is not None and door is not None and _may(door, asked) else None

    async def _read(self, door: _Door, found: Found, asked: _Asked, scope: Any, receive: Any, send: Any) -> Any:
        """Read what is not fresh or not there, as `answer`."""
        if asked.cookie:
            return receive  # a computation counts for whoever stands behind it
        question = Question(door.resource, door.params, asked.principal, door.key, False)
        answering = wiring.node().reader.answer(question, wait=asked.wait, found=found)
        task = asyncio.get_running_loop().create_task(answering)
        held = Held(receive)
        if not await held.reads(task):
            return None
        if task.exception() is not None or task.result().entry is None:
            hand_on(scope, asked.principal, task)
            return held
        reading = task.result()
        changed, unchanged = _make(door, reading, asked)
        await (unchanged if _holds(asked, reading.position) else changed).send(send)
        metrics.events["answered before Django"] += 1
        return None

    def _asked(self, scope: Any, from_the_wire: bool) -> _Asked | None:
        """Who asks, and what they hold; None: that is for Django to find out."""
        host = held = token = directives = prefer = None
        cookie = False
        for name, value in scope["headers"]:
            if name not in _READ:
                continue
            if name == b"host" and host is None:
                host = value
            elif name == b"accept" and b"event-stream" not in value:
                pass
            elif name == b"cookie" and (
                (_SESSION not in value and _CSRF not in value) or _OUR_COOKIES.fullmatch(value)
            ):
                cookie = True
            elif name == b"if-none-match" and held is None:
                held = value
            elif name == b"authorization" and token is None:
                token = value
            elif name == b"cache-control" and directives is None:
                directives = value
            elif name == b"prefer" and prefer is None:
                prefer = value
            elif name == b"x-forwarded-proto" and not from_the_wire:
                pass  # the server has looked whether to believe it
            else:
                return None
        if host is None or not self._knows(host, scope) or scope.get("root_path"):
            return None
        if directives is not None and not self._asks_nothing(directives):
            return None
        principal = _PUBLIC if token is None else access.remembered(token)
        if principal is None or (principal.is_anonymous and not env().anonymous):
            return None
        applied, wait = ("", env().default_wait) if prefer is None else self._applied(prefer)
        if held is not None and "wait" in applied:
            return None  # it waits for a newer one
        return _Asked(principal, held or b"", cookie and token is None, scope.get("scheme") == "https", applied, wait)

    def _knows(self, host: bytes, scope: Any) -> bool:
        known = self._hosts.get(host)
        if known is None:
            known = access.host_allowed(scope)
            _remember(self._hosts, host, known)
        return known

    def _asks_nothing(self, directives: bytes) -> bool:
        """Whether request directives change nothing, as those of a browser's reload."""
        known = self._plain.get(directives)
        if known is None:
            known = demand({"Cache-Control": directives.decode("latin-1")}) == ANYTHING
            _remember(self._plain, directives, known)
        return known

    def _applied(self, prefer: bytes) -> tuple[str, float]:
        """What is said to be applied, and how long to hold the request."""
        known = self._preferred.get(prefer)
        if known is None:
            said = preferences({"Prefer": prefer.decode("latin-1")})
            known = said.applied, said.seconds(env().default_wait)
            _remember(self._preferred, prefer, known)
        return known

    def _door(self, scope: Any, principal: Principal) -> _Door | None:
        path, query = scope["path"], scope["query_string"]
        door = self._doors.get((path, query, None)) or self._doors.get((path, query, principal.user_id or ""))
        if door is None:
            door = self._new_door(path, query, principal)
        return door

    def _new_door(self, path: str, query: bytes, principal: Principal) -> _Door | None:
        resource = registry.resources.get(path.removeprefix(_PREFIX))
        if resource is None or callable(resource.vary) or callable(resource.tags) or len(query) > _LONGEST:
            return None
        try:
            params = resource.parse_query(query.decode("ascii"))
            door = _Door(resource, params, resource.key(params, principal))
        except (MillpondError, UnicodeDecodeError):
            return None
        whose = None if resource.vary is None else principal.user_id or ""
        self._doors.keep((path, query, whose), door)
        return door

    def _prepared(self, door: _Door, asked: _Asked, found: Found) -> Prepared:
        entry = found.entry
        assert entry is not None
        made_of = (entry.nonce, asked.secure, asked.applied)
        aged = (int(found.age), math.floor(entry.fresh - found.age))
        if door.made_of != made_of or door.changed is None or door.unchanged is None:
            if door.changed is None or door.made_of[0] != entry.nonce:
                self._doors.grown(door, 2 * len(entry.payload) - door.size)
            reading = Reading(state="fresh", position=entry.position, entry=entry, age=found.age)
            door.changed, door.unchanged = _make(door, reading, asked)
            door.etag = entry.position.etag().encode()
            door.made_of, door.aged = made_of, aged
        elif door.aged != aged:
            for answer in (door.changed, door.unchanged):
                answer.grow_older(b"%d" % aged[0], hit(aged[1]).encode())
            door.aged = aged
        return door.unchanged if asked.held == door.etag or _holds(asked, entry.position) else door.changed


def _may(door: _Door, asked: _Asked) -> bool:
    """A session, and a rule that is a function, are Django's to ask."""
    principal, rule = asked.principal, door.resource.access
    if asked.cookie and not for_everybody(door.resource):
        return False
    if not principal.is_anonymous and "read" not in principal.scopes:
        return False
    if rule == "public":
        return True
    return isinstance(rule, str) and not principal.is_anonymous and (rule == "login" or rule in principal.permissions)


def _serves(door: _Door, found: Found) -> bool:
    entry = found.entry
    if entry is None or found.softened:
        return False
    return is_served(found.age, entry.fresh, entry.compute_seconds, door.key.policy, 1.0 - random.random())


def _holds(asked: _Asked, position: Position) -> bool:
    return bool(asked.held) and holding(asked.held.decode("latin-1")).matches(position)


def _make(door: _Door, reading: Reading, asked: _Asked) -> tuple[Prepared, Prepared]:
    entry = reading.entry
    assert entry is not None
    said = value_headers(door.resource, door.key.topic, reading)
    if asked.applied:
        said.append(("Preference-Applied", asked.applied))
    said.append(("Vary", ", ".join(vary(door.resource))))
    ending = _ending(asked.secure)
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in said]
    length = (b"Content-Length", b"%d" % len(entry.payload))
    whole = [(b"Content-Type", b"application/json"), *headers, _FRAMES, length, *ending]
    return Prepared(200, whole, entry.payload), Prepared(304, [*headers, _FRAMES, *ending], b"")


def _remember(known: dict[bytes, Any], said: bytes, value: Any) -> None:
    if len(known) >= _FEW:
        known.clear()
    if len(said) <= _LONGEST:
        known[said] = value


#: What Django's middleware adds to every answer.
_FRAMES = (b"X-Frame-Options", settings.X_FRAME_OPTIONS.encode())
_ALWAYS = [
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", str(settings.SECURE_REFERRER_POLICY).encode()),
    (b"Cross-Origin-Opener-Policy", str(settings.SECURE_CROSS_ORIGIN_OPENER_POLICY).encode()),
]


def _ending(secure: bool) -> list[tuple[bytes, bytes]]:
    seconds = settings.SECURE_HSTS_SECONDS
    return [(b"Strict-Transport-Security", b"max-age=%d" % seconds), *_ALWAYS] if secure and seconds else _ALWAYS
