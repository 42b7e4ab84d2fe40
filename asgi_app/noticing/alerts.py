"""Alert rules: what a resource's `alert_when` says of each new value, told once when it begins to be true.

Invariant: a crossing is told by the one transaction that marks it, whoever else saw the same value or a newer one; a
rule that raises or hangs is logged, and harms neither the computation nor others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import msgspec
from django.contrib.auth import get_user_model
from django.db import IntegrityError, close_old_connections, transaction
from django.db.models import Q
from django.db.models.functions import Now

from asgi_app import notices
from asgi_app.declaring.declared import Resource
from asgi_app.errors import shortened
from asgi_app.noticing import entries
from asgi_app.noticing.tables import Alert
from cache_layer.keys import Key, digest
from cache_layer.position import Position

log = logging.getLogger(__name__)

#: Seconds a rule may take, and how many may hang in this process before no more are begun.
WITHIN, _HANGING_MOST = 5.0, 4
#: People told of one crossing.
MOST = 1000

_hanging = 0
_lock = threading.Lock()


def look(resource: Resource, params: Any, key: Key, payload: bytes, position: Position) -> None:
    """Ask the rule of a resource about a value that was stored just now, and tell what it says.  It raises nothing.

    Synchronous, with connections of this thread.
    """
    if resource.alert_when is None:
        return
    try:
        said = bounded(resource.alert_when, msgspec.json.decode(payload))
        if said is not None and not isinstance(said, bool | str):
            raise TypeError(f"alert_when must return True, False, a text or None, not {type(said).__name__}")
        _settle(resource, params, key, position, said)
    except Exception:
        log.exception("the alert rule of %s", key.topic)


def bounded(rule: Any, *arguments: Any) -> Any:
    """Call a user's function in a thread of its own, for `WITHIN` seconds at the most; raises what it raises."""
    global _hanging
    with _lock:
        if _hanging >= _HANGING_MOST:
            raise TimeoutError(f"{_HANGING_MOST} alert rules hang in this process")
        _hanging += 1
    future: Future[Any] = Future()
    threading.Thread(target=_call, args=(future, rule, arguments), name="alert rule", daemon=True).start()
    try:
        return future.result(WITHIN)
    except FutureTimeout:
        if future.done():
            raise
        raise TimeoutError(f"it took longer than {WITHIN:g} s") from None


def _call(future: Future[Any], rule: Any, arguments: tuple[Any, ...]) -> None:
    global _hanging
    try:
        future.set_result(rule(*arguments))
    except BaseException as error:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))
    finally:
        close_old_connections()
        with _lock:
            _hanging -= 1


def _settle(resource: Resource, params: Any, key: Key, position: Position, said: bool | str | None) -> None:
    alias = entries.database()
    with transaction.atomic(alias):
        if _crossed(key, position, bool(said), alias):
            users = recipients(resource, params)
            text = said if isinstance(said, str) else resource.doc.partition("\n")[0] or resource.name
            draft = notices.draft(
                shortened(text.replace("\0", "").strip() or resource.name, notices.LONGEST_TITLE),
                shortened(key.topic, notices.LONGEST_BODY),
                "warning",
                {"topic": shortened(key.topic, 4000), "epoch": position.epoch, "offset": position.offset},
                f"alert:{digest(key.topic)}",
                None,
            )
            notices.put(users, draft)
            log.info("alert: %s, told to %d", key.topic, len(users))


def _crossed(key: Key, position: Position, now: bool, alias: str) -> bool:
    """Note what is true of the value; whether it has begun to be just now, and nobody else has said so."""
    rows = Alert.objects.using(alias).filter(pk=digest("alert", key.name, key.digest))
    newer = rows.filter(Q(offset__lt=position.offset) | ~Q(epoch=position.epoch))
    noted = {"epoch": position.epoch, "offset": position.offset}
    if not now:
        newer.filter(raised=True).update(raised=False, changed_at=Now(), **noted) or newer.update(**noted)
        return False
    if newer.filter(raised=False).update(raised=True, changed_at=Now(), **noted):
        return True
    if newer.update(**noted) or rows.exists():
        return False
    try:
        with transaction.atomic(alias):
            new = Alert(pk=digest("alert", key.name, key.digest), topic=key.topic, raised=True, **noted)
            new.save(using=alias, force_insert=True)
    except IntegrityError:  # somebody else was quicker, about this value or another
        return bool(newer.filter(raised=False).update(raised=True, changed_at=Now(), **noted))
    return True


def recipients(resource: Resource, params: Any) -> list[str]:
    """The ids of those who are told.  Raises what a function of the author raises."""
    to = resource.alert_to
    if callable(to):
        found: Iterable[Any] = bounded(to, params)
        if isinstance(found, str | bytes) or not isinstance(found, Iterable):
            raise TypeError(f"alert_to must return users or their ids, not {type(found).__name__}")
        ids = [notices.user_id_of(one) for one in found]
    else:
        ids = [str(pk) for pk in _users(to).values_list("pk", flat=True)[: MOST + 1]]
    if len(ids) > MOST:
        log.warning("%s: only %d people are told", resource.name, MOST)
    return list(dict.fromkeys(ids))[:MOST]


def _users(to: str | tuple[str, ...]) -> Any:
    """The active users whom a rule names."""
    model = get_user_model()
    active = model._default_manager.filter(is_active=True)
    if isinstance(to, tuple):
        return active.filter(**{f"{model.USERNAME_FIELD}__in": to})
    if to == "staff":
        return active.filter(is_staff=True)
    manager: Any = model._default_manager
    return manager.with_perm(to, backend="django.contrib.auth.backends.ModelBackend")
