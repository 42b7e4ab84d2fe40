"""May this principal see this?  The one door for HTTP, streams and websockets.

Invariant: who asks is read from the connection itself, and what is not expressly allowed is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import aget_user, get_user_model
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseFailure
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from django.utils.module_loading import import_string

from asgi_app.env import env
from asgi_app.errors import Denied, Misdeclared, Unauthenticated, Unavailable
from asgi_app.registry import Access, Action, Principal, Resource

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.contrib.sessions.backends.base import SessionBase

SCOPES = ("read", "run", "publish", "invalidate")
_STAFF = "millpond:staff"
_TOKEN_PREFIX = "mp_"  # noqa: S105  (what secrets scanners look for; no secret itself)
#: Questions to a database that does not answer, in all; who comes then is refused instead of queued.
_UNANSWERED = 1000
#: Seconds for which a token that held is believed to hold by the front before Django, and how many are remembered.
_LATELY, _LATELY_MOST = 2.0, 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks, and what that stands on."""

    principal: Principal
    #: Unix seconds when an API token ends, None for never.
    expires_at: float | None = None
    #: Digest of the API token, "" where there is none.
    token: str = ""
    #: Key of the session, "" where there is none, and its digest, which may be told to others.  Neither
    #: makes a difference: what two sessions of one user may see is judged once.
    session_key: str = field(default="", compare=False, repr=False)
    session: str = field(default="", compare=False)
    #: The most that a connection token allows, None for all that its user may.
    at_most: frozenset[str] | None = None


async def authenticate(scope: Mapping[str, Any]) -> Principal:
    """Who asks over this HTTP request or websocket: an API token, a session, or the public.

    A cookie counts only when the Origin is an allowed one; a websocket without Origin is no browser, and its cookie no
    identity.  Raises Unauthenticated for an unknown or expired token.
    """
    return (await identify(scope)).principal


async def identify(scope: Mapping[str, Any]) -> Identity:
    """Like `authenticate`, for a connection that outlives its request: see `confirm`."""
    token = bearer_token(scope)
    if token is not None:
        return await _token_identity(_digest(token))
    return await _cookie_identity(scope)


def credentials(scope: Mapping[str, Any]) -> tuple[str, str]:
    """What `identify` goes by: the digest of an API token, or the key of a session, or neither ("" each)."""
    token = bearer_token(scope)
    return (_digest(token), "") if token is not None else ("", _session_key(scope))


def remembered(header: bytes) -> Principal | None:
    """The principal of an Authorization header whose token held a moment ago, for who must not ask the database."""
    if header[:7].lower() != b"bearer ":
        return None
    found = _held_lately.get(_digest(header[7:].strip().decode("latin-1")))
    return found[1] if found is not None and time.monotonic() < found[0] else None


def forget_tokens() -> None:
    """What was known of tokens counts no more: somebody's rights have changed."""
    _held_lately.clear()


#: Digest of a token -> until when its principal is remembered (monotonic), and the principal.
_held_lately: dict[str, tuple[float, Principal]] = {}


async def confirm(identity: Identity) -> None:
    """Raises Unauthenticated when the API token of an identity has expired or was revoked since.

    Raises Unavailable when the database cannot be asked.
    """
    try:
        if identity.token:
            await _token_identity(identity.token)
    except DatabaseFailure as error:
        raise Unavailable("the database does not answer", retry_after=2.0, extra={"part": "database"}) from error


def bearer_token(scope: Mapping[str, Any]) -> str | None:
    """The token of an `Authorization: Bearer` header; None without one, whatever else the header says."""
    header = _header(scope, b"authorization")
    return header[7:].strip().decode("latin-1") if header[:7].lower() == b"bearer " else None


async def with_database(work: Callable[[], Awaitable[T]]) -> T:
    """`await work()` on database connections that work: Django renews them at each request, a websocket has none.

    Cancelled it returns at once, and what hangs in the database ends by itself behind it.  Raises Unavailable when too
    much hangs there already.
    """
    if len(_behind) >= _UNANSWERED:
        raise Unavailable("the database does not answer", retry_after=2.0, extra={"part": "database"})
    task = asyncio.get_running_loop().create_task(_renewed(work))
    _behind.add(task)
    task.add_done_callback(_over)
    return await asyncio.shield(task)


_behind: set[asyncio.Task[Any]] = set()


async def _renewed(work: Callable[[], Awaitable[T]]) -> T:
    renew = sync_to_async(close_old_connections)
    await renew()
    try:
        return await work()
    finally:
        await renew()


def _over(task: asyncio.Task[Any]) -> None:
    _behind.discard(task)
    if not task.cancelled():
        task.exception()  # it is the waiting one's, who may have gone


def origin_allowed(scope: Mapping[str, Any]) -> bool:
    """Whether the Origin header, if there is one, is an allowed origin: exact scheme, host and port."""
    origin = _header(scope, b"origin").decode("latin-1").lower()
    if not origin:
        return True
    return origin in env().allowed_origins or origin == own_origin(scope)


def host_allowed(scope: Mapping[str, Any]) -> bool:
    """Whether the Host header is one this service answers to (Django asks the same of every request it serves)."""
    name, _ = split_domain_port(_header(scope, b"host").decode("latin-1").lower())
    return bool(name) and validate_host(name, env().allowed_hosts)


def own_origin(scope: Mapping[str, Any]) -> str:
    """The origin of the request's own address, "" when its Host is not an allowed one."""
    host = _header(scope, b"host").decode("latin-1").lower()
    if not host_allowed(scope):
        return ""
    secure = scope.get("scheme") in ("https", "wss")
    return f"{'https' if secure else 'http'}://{host}"


async def principal_of(user_id: str) -> Principal:
    """The rights of a Django user by id; an id that is no user of ours is a principal with just that id.

    Raises Unauthenticated for a user who was deactivated.
    """
    model = get_user_model()
    try:
        user = await model._default_manager.filter(pk=user_id).afirst()
    except (ValueError, TypeError, ValidationError):
        user = None
    if user is not None and str(user.pk) == user_id:  # " 1" and "１" find user 1, and are other people's ids
        if not user.is_active:
            raise Unauthenticated("this user was deactivated")
        return await _user_principal(user)
    return stranger(user_id)


def stranger(user_id: str) -> Principal:
    """The principal of an id that is no user of ours."""
    return Principal(
        user_id=user_id,
        username=user_id,
        scopes=frozenset({"read"}),
        is_anonymous=False,
        permissions=frozenset(),
    )


@dataclass(frozen=True, slots=True)
class Guarded:
    """Something that has a name and a rule of access."""

    name: str
    access: Access


async def check_outside(what: Resource | Action | Guarded, principal: Principal, params: Any) -> None:
    """`check` for who is in no request of Django: a rule that is a coroutine may ask the database; others cannot, and
    cost no thread."""
    if inspect.iscoroutinefunction(what.access):
        await with_database(lambda: check(what, principal, params))
    else:
        await check(what, principal, params)


async def check(what: Resource | Action | Guarded, principal: Principal, params: Any) -> None:
    """Raises Unauthenticated or Denied unless `principal` may read or run `what` with `params`."""
    if principal.is_anonymous and not env().anonymous:
        raise Unauthenticated("this service is not open to the public: log in or send a token")
    rule = what.access
    if rule == "public":
        return
    if isinstance(rule, str):
        if principal.is_anonymous:
            raise Unauthenticated(f"{what.name} needs a login")
        if rule != "login" and rule not in principal.permissions:
            raise Denied(f"{what.name} needs the permission {rule}")
        return
    allowed = rule(principal, params)
    if inspect.isawaitable(allowed):
        allowed = await allowed
    if not isinstance(allowed, bool):
        raise Misdeclared(f"access of {what.name} must return True or False, got {type(allowed).__name__}")
    if not allowed:
        raise Unauthenticated(f"{what.name} needs a login") if principal.is_anonymous else Denied(what.name)


def check_readable(principal: Principal) -> None:
    """Raises Denied for a token that may not read: values are for the public, sessions and the scope `read`."""
    if not principal.is_anonymous and "read" not in principal.scopes:
        raise Denied("this needs the scope read")


def require_scope(principal: Principal, scope: str) -> None:
    """Raises Unauthenticated or Denied unless `principal` holds `scope`."""
    if scope not in principal.scopes:
        needed = f"this needs the scope {scope}"
        raise Unauthenticated(needed) if principal.is_anonymous else Denied(needed)


def with_scopes(principal: Principal, scopes: frozenset[str]) -> Principal:
    """The same principal with just these scopes."""
    return replace(principal, scopes=scopes)


def is_staff(principal: Principal) -> bool:
    """Whether the principal is a user with access to the admin."""
    return _STAFF in principal.permissions


def create_token(username: str, days: int | None, scopes: tuple[str, ...]) -> str:
    """Make an API token for an existing user and return it; only its digest is kept.

    Raises ValueError for an unknown user or scope.
    """
    from asgi_app.models import ApiToken

    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"unknown scope {', '.join(unknown)!r}: one or more of {', '.join(SCOPES)}")
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: username}).first()
    if user is None:
        raise ValueError(f"there is no user '{username}'; make one with: millpond createsuperuser")
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    expires = timezone.now() + timedelta(days=days) if days is not None else None
    ApiToken.objects.create(user=user, digest=_digest(token), scopes=" ".join(scopes), expires_at=expires)
    return token


async def _cookie_identity(scope: Mapping[str, Any]) -> Identity:
    session_key = _session_key(scope)
    user = await _session_user(session_key)
    if user is None:
        return Identity(principal=Principal.public())
    principal = await _user_principal(user)
    return Identity(principal=principal, session_key=session_key, session=session_digest(session_key))


def _session_key(scope: Mapping[str, Any]) -> str:
    """Of a cookie that counts, "" without one."""
    if (scope["type"] == "websocket" and not _header(scope, b"origin")) or not origin_allowed(scope):
        return ""
    return _cookie(scope, settings.SESSION_COOKIE_NAME)


def session_digest(session_key: str) -> str:
    """The name of a session where its key must not be seen."""
    return _digest(f"session {session_key}")


async def _token_identity(digest: str) -> Identity:
    from asgi_app.models import ApiToken

    began = time.monotonic()
    row = await ApiToken.objects.select_related("user").filter(digest=digest).afirst()
    if row is None or not row.user.is_active or (row.expires_at and row.expires_at <= timezone.now()):
        raise Unauthenticated("the token is unknown or expired")
    owner = await _user_principal(row.user)
    principal = with_scopes(owner, frozenset(row.scopes.split()))
    left = math.inf if row.expires_at is None else (row.expires_at - timezone.now()).total_seconds()
    if len(_held_lately) >= _LATELY_MOST:
        _held_lately.clear()
    _held_lately[digest] = (began + min(_LATELY, left), principal)
    return Identity(
        principal=principal,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        token=digest,
    )


async def _user_principal(user: AbstractBaseUser) -> Principal:
    permissions: set[str] = set()
    if hasattr(user, "aget_all_permissions"):
        permissions |= await user.aget_all_permissions()
    return principal_with(user, permissions)


def principal_with(user: AbstractBaseUser, permissions: set[str]) -> Principal:
    """The rights of a user of whom it is known what the back ends of authentication grant."""
    staff = bool(getattr(user, "is_staff", False))
    return Principal(
        user_id=str(user.pk),
        username=user.get_username(),
        scopes=frozenset(SCOPES if staff else ("read", "run")),
        is_anonymous=False,
        permissions=frozenset(permissions | {_STAFF} if staff else permissions),
    )


class _SessionRequest:
    """As much of a request as `aget_user` reads."""

    def __init__(self, session: SessionBase) -> None:
        self.session = session
        self.META: MutableMapping[str, str] = {}


async def _session_user(session_key: str) -> AbstractBaseUser | None:
    if not session_key:
        return None
    store = import_string(settings.SESSION_ENGINE + ".SessionStore")(session_key)
    user = await aget_user(_SessionRequest(store))  # type: ignore[arg-type]
    return user if not user.is_anonymous and user.is_active else None


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _cookie(scope: Mapping[str, Any], name: str) -> str:
    try:
        morsel = SimpleCookie(_header(scope, b"cookie").decode("latin-1")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
