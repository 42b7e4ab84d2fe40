"""What of Django tells that somebody's rights have changed: logouts, users, groups, permissions, API tokens.

Invariant: every receiver only tells; what has become of the rights is read by whoever holds a connection, by the same
rules as at its beginning.  Bulk updates, SQL and other programs pass by the signals; the slow round of
`consumers.control` finds those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save

from asgi_app import access
from asgi_app.control import Order, tell_after_commit

#: Users named in one order; of more than these it says: everyone.
_MOST = 200


def watch() -> None:
    """Connect all receivers; may be called twice."""
    from django.contrib.auth.models import Group, Permission

    from asgi_app.models import ApiToken

    user = get_user_model()
    user_logged_out.connect(_logged_out, dispatch_uid="millpond")
    post_save.connect(_user_saved, sender=user, dispatch_uid="millpond rights")
    post_delete.connect(_user_deleted, sender=user, dispatch_uid="millpond rights")
    post_save.connect(_token_saved, sender=ApiToken, dispatch_uid="millpond rights")
    post_delete.connect(_token_deleted, sender=ApiToken, dispatch_uid="millpond rights")
    for name in ("groups", "user_permissions"):
        relation = getattr(user, name, None)
        if relation is not None:
            m2m_changed.connect(_granted, sender=relation.through, dispatch_uid="millpond rights")
    m2m_changed.connect(_for_everyone, sender=Group.permissions.through, dispatch_uid="millpond rights")
    for model in (Group, Permission):
        post_delete.connect(_for_everyone, sender=model, dispatch_uid="millpond rights")


def _logged_out(sender: Any, request: Any, user: Any, **_: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if session_key:
        tell_after_commit(Order(session=access.session_digest(session_key)))


def _user_saved(sender: Any, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    if not created and set(update_fields or ("all",)) != {"last_login"}:
        tell_after_commit(Order(users=(str(instance.pk),)), using)


def _user_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    tell_after_commit(Order(users=(str(instance.pk),)), using)


def _token_saved(sender: Any, instance: Any, created: bool, using: str, **_: Any) -> None:
    if not created:
        tell_after_commit(Order(users=(str(instance.user_id),)), using)


def _token_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    tell_after_commit(Order(users=(str(instance.user_id),)), using)


def _granted(
    sender: Any, instance: Any, action: str, reverse: bool, using: str, pk_set: Iterable[Any] | None = None, **_: Any
) -> None:
    """Groups or permissions of users; `reverse`: the other side was changed, and `pk_set` are the users."""
    if not action.startswith("post_"):
        return
    users = [instance.pk] if not reverse else None if pk_set is None else list(pk_set)
    if users is None or len(users) > _MOST:
        tell_after_commit(Order(everyone=True), using)
    elif users:
        tell_after_commit(Order(users=tuple(map(str, users))), using)


def _for_everyone(sender: Any, using: str, action: str = "post_", **_: Any) -> None:
    if action.startswith("post_"):
        tell_after_commit(Order(everyone=True), using)
