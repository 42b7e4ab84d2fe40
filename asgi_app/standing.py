"""Whose are credentials, do they still hold, and what do they allow?  Read for many at once.

Invariant: the answers are those that the same credentials would get if they came anew (`access`); a database that does
not answer says nothing about anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Permission, PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseFailure
from django.db import connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from asgi_app import access
from asgi_app.access import Identity
from asgi_app.errors import Unavailable
from asgi_app.registry import Principal

T = TypeVar("T")

#: Identities in one reading: as many parameters every database takes.
MOST = 500


class Lost(Enum):
    """Why credentials do not hold any more."""

    #: The session is over, or not that user's any more; its client may well be somebody else by now, or the public.
    SESSION = auto()
    #: The API token was revoked or has expired, or its user was deactivated.
    CREDENTIALS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Credentials of whom nothing is known yet.  One of these."""

    #: Digest of an API token.
    token: str = ""
    session_key: str = ""
    #: As a connection token names it, and the most that it allows.
    user_id: str = ""
    at_most: frozenset[str] | None = None


def applies() -> bool:
    """Whether rights are a matter of Django's own tables; else users are to be asked about one by one."""
    backends = settings.AUTHENTICATION_BACKENDS
    return list(backends) == ["django.contrib.auth.backends.ModelBackend"] and issubclass(
        get_user_model(), PermissionsMixin
    )


async def read(asked: Sequence[Asked]) -> list[Identity | None]:
    """Who each is, None for who must not come in; otherwise as `reread`.  Only where it `applies`."""
    return await _with_database(lambda: _read(asked))


async def reread(identities: Sequence[Identity]) -> list[Identity | Lost]:
    """What has become of each, in a handful of queries on a thread of its own.  At most `MOST`, none of the public.

    Raises Unavailable when the database does not answer.
    """
    return await _with_database(lambda: _reread(identities))


async def _with_database(work: Callable[[], list[T]]) -> list[T]:
    try:
        return await access.with_database(lambda: _in_a_thread(work))
    except DatabaseFailure as error:
        raise Unavailable("the database does not answer", retry_after=2.0, extra={"part": "database"}) from error


async def _in_a_thread(work: Callable[[], list[T]]) -> list[T]:
    async with ThreadSensitiveContext():
        return await sync_to_async(_closing)(work)


def _closing(work: Callable[[], list[T]]) -> list[T]:
    try:
        return work()
    finally:
        connections.close_all()  # they are this thread's, which ends


def _read(asked: Sequence[Asked]) -> list[Identity | None]:
    tokens = _tokens({one.token for one in asked if one.token})
    sessions = _sessions({one.session_key for one in asked if one.session_key})
    ids = {str(row.user_id) for row in tokens.values()} | {one.user_id for one in asked}
    ids |= {str(session[SESSION_KEY]) for session in sessions.values() if SESSION_KEY in session}
    users = _users(ids)
    granted = _permissions(users)
    now = {user_id: access.principal_with(user, granted[user_id]) for user_id, user in users.items()}
    return [_who(one, users, now, tokens, sessions) for one in asked]


def _who(
    asked: Asked,
    users: Mapping[str, Any],
    now: Mapping[str, Principal],
    tokens: Mapping[str, Any],
    sessions: Mapping[str, Mapping[str, Any]],
) -> Identity | None:
    if asked.session_key:
        session = sessions.get(asked.session_key, {})
        user = users.get(str(session.get(SESSION_KEY, "")))
        if user is None or not user.is_active or not _opened_by(session, user):
            return Identity(principal=Principal.public())
        digest = access.session_digest(asked.session_key)
        return Identity(principal=now[str(user.pk)], session_key=asked.session_key, session=digest)
    row = tokens.get(asked.token)
    if asked.token and row is None:
        return None
    known = Identity(
        principal=access.stranger(str(row.user_id) if row is not None else asked.user_id),
        token=asked.token,
        at_most=asked.at_most,
    )
    found = _one(known, users, now, tokens, sessions)
    return found if isinstance(found, Identity) else None


def _reread(identities: Sequence[Identity]) -> list[Identity | Lost]:
    users = _users({one.principal.user_id or "" for one in identities})
    granted = _permissions(users)
    tokens = _tokens({one.token for one in identities if one.token})
    sessions = _sessions({one.session_key for one in identities if one.session_key})
    now: dict[str, Principal] = {
        user_id: access.principal_with(user, granted[user_id]) for user_id, user in users.items()
    }
    return [_one(identity, users, now, tokens, sessions) for identity in identities]


def _one(
    identity: Identity,
    users: Mapping[str, Any],
    now: Mapping[str, Principal],
    tokens: Mapping[str, Any],
    sessions: Mapping[str, Mapping[str, Any]],
) -> Identity | Lost:
    user_id = identity.principal.user_id or ""
    user = users.get(user_id)
    if user is not None and not user.is_active:
        return Lost.CREDENTIALS
    if identity.token:
        row = tokens.get(identity.token)
        if row is None or user is None:
            return Lost.CREDENTIALS
        ends = row.expires_at.timestamp() if row.expires_at else None
        allowed = access.with_scopes(now[user_id], frozenset(row.scopes.split()))
        return replace(identity, principal=allowed, expires_at=ends)
    if identity.session_key:
        if user is None or not _opened_by(sessions.get(identity.session_key, {}), user):
            return Lost.SESSION
        return replace(identity, principal=now[user_id])
    return replace(identity, principal=_by_connection_token(identity, now.get(user_id)))


def _by_connection_token(identity: Identity, owner: Principal | None) -> Principal:
    """Of a user of ours, or of whom only another back end knows, like `access.principal_of`."""
    if owner is None:
        owner = access.stranger(identity.principal.user_id or "")
    return owner if identity.at_most is None else access.with_scopes(owner, owner.scopes & identity.at_most)


def _users(ids: Collection[str]) -> dict[str, Any]:
    model = get_user_model()
    found = model._default_manager.filter(pk__in=list(_keys(model, ids)))
    return {str(user.pk): user for user in found if str(user.pk) in ids}


def _keys(model: Any, ids: Iterable[str]) -> Iterable[Any]:
    """Those that may be keys of users: ids of other back ends are any text."""
    for text in ids:
        try:
            key = model._meta.pk.to_python(text)
        except (ValueError, TypeError, ValidationError):
            continue
        if str(key) == text and not (isinstance(key, int) and abs(key) >= 2**63):
            yield key


def _permissions(users: Mapping[str, Any]) -> dict[str, set[str]]:
    """What each user is granted.  In three queries where that is a matter of Django's own tables, else one by one."""
    if not applies():
        return {
            user_id: set(user.get_all_permissions()) if hasattr(user, "get_all_permissions") else set()
            for user_id, user in users.items()
        }
    granted: dict[str, set[str]] = {user_id: set() for user_id in users}
    plain = [user.pk for user in users.values() if user.is_active and not user.is_superuser]
    for path in ("user_permissions", "groups__permissions"):
        rows = get_user_model()._default_manager.filter(pk__in=plain, **{f"{path}__isnull": False})
        for pk, label, name in rows.values_list("pk", f"{path}__content_type__app_label", f"{path}__codename"):
            granted[str(pk)].add(f"{label}.{name}")
    everything: set[str] | None = None
    for user_id, user in users.items():
        if user.is_active and user.is_superuser:
            if everything is None:
                all_ = Permission.objects.values_list("content_type__app_label", "codename").order_by()
                everything = {f"{label}.{name}" for label, name in all_}
            granted[user_id] = everything
    return granted


def _tokens(digests: Collection[str]) -> dict[str, Any]:
    from asgi_app.models import ApiToken

    rows = ApiToken.objects.filter(digest__in=digests) if digests else ()
    at = timezone.now()
    return {row.digest: row for row in rows if row.expires_at is None or row.expires_at > at}


def _sessions(keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The contents of those that stand.  In one query where they are in the database, else one by one."""
    store: Any = import_string(settings.SESSION_ENGINE + ".SessionStore")
    if not keys:
        return {}
    if hasattr(store, "get_model_class"):
        rows = store.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        return {row.session_key: store().decode(row.session_data) for row in rows}
    return {key: store(key).load() for key in keys}


def _opened_by(session: Mapping[str, Any], user: Any) -> bool:
    """Whether a session logs this user in, as `django.contrib.auth.get_user` sees it."""
    if session.get(SESSION_KEY) is None or session[SESSION_KEY] != user._meta.pk.value_to_string(user):
        return False
    if session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return False
    if not hasattr(user, "get_session_auth_hash"):
        return True
    said = session.get(HASH_SESSION_KEY) or ""
    known = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(said, one) for one in known)
