"""The submission of a computation as it travels: `lua/submit.lua` with its arguments.

Of sixty arguments those of two questions of one resource differ in a dozen.  Whatever stays the same is packed once,
with gaps for the digest of the key and the id of the job; packing all of it anew took longer than the store does.

Invariant: the bytes are those that packing the whole command makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import hiredis

from cache_layer.cache import LOOK_AFTER, fresh_epoch, version_ttl
from cache_layer.freshness import Policy
from cache_layer.keys import Key
from cache_layer.queues import Bell, Limits
from cache_layer.redis import Arg, Store

#: Kinds of submissions, and askers, whose parts are remembered; all are forgotten when there are more.
_KINDS, _ASKERS = 1000, 4096
#: What is packed anew for each.
_OWN = 13


class _Kind(NamedTuple):
    """What the submissions of one resource have in common, as bytes between gaps."""

    policy: Policy
    head: bytes
    #: Behind the name of what the asker has brought; the id of the job stands between them.
    of_job: list[bytes]
    #: The digest of the key stands between them.
    of_key: list[bytes]


class Submissions:
    """To one store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._names = store.names
        self._limits = limits
        self._kinds: dict[tuple[str, str, str, int, float | None, int, int], _Kind] = {}
        self._asked_by: Callable[[str], bytes] = lru_cache(_ASKERS)(lambda who: _arguments([self._names.brought(who)]))

    def pack(
        self,
        key: Key,
        *,
        job_id: str,
        bell: Bell,
        params: str | bytes,
        principal: str,
        seen: bytes,
        force: bool,
        priority: int,
        lane: str,
        asker: str,
        key_rate: int,
        key_bytes: int,
        expires: float | None,
        abandonable: bool,
    ) -> bytes:
        """The command; its arguments are those of `Records.submit`."""
        which = (key.name, bell.queue, bell.list, priority, expires, len(job_id), len(key.digest))
        kind = self._kinds.get(which)
        if kind is None or kind.policy is not key.policy:
            kind = self._new_kind(key, job_id, bell, priority, expires)
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            self._kinds[which] = kind
        own: tuple[Arg, ...] = (
            job_id,
            seen,
            fresh_epoch(),
            b"1" if force else b"0",
            bell.message,
            lane,
            self._limits.of_lane(lane),
            key_rate,
            key_bytes,
            b"1" if abandonable else b"0",
            params,
            principal,
            key.topic,
        )
        return b"".join(
            (
                kind.head,
                self._asked_by(asker),
                job_id.encode().join(kind.of_job),
                key.digest.encode().join(kind.of_key),
                _arguments(own),
            )
        )

    def _new_kind(self, key: Key, job_id: str, bell: Bell, priority: int, expires: float | None) -> _Kind:
        """Made with a digest and an id that stand nowhere else, and cut where they stand."""
        names = self._names
        job, digest = "\1" * len(job_id), "\2" * len(key.digest)
        any_key = replace(key, digest=digest)
        same = [names.role(f"worker:{bell.queue}"), names.live(), names.run(), names.lives()]
        of_key = [names.entry(any_key), names.version(any_key), names.failure(any_key), names.lease(any_key)]
        of_key += [bell.list] if bell.list else []
        keys = len(same) + 2 + len(of_key)
        of_key += [names.channel(any_key), names.queues(), names.job(""), names.job_channel("")]
        of_key += [names.all_jobs(), names.abandonable(), key.name, bell.queue]
        numbers = (
            priority,
            self._limits.queue,
            LOOK_AFTER,
            version_ttl(key),
            0 if expires is None else max(1, round(expires * 1000)),
            max(1, round(key.policy.error_ttl * 1000)),
        )
        start = ["EVALSHA", self._store.sha("submit"), str(keys), *same]
        count = len(start) + 2 + len(of_key) + len(numbers) + _OWN
        return _Kind(
            policy=key.policy,
            head=b"*%d\r\n" % count + _arguments(start),
            of_job=_arguments([names.job(job)]).split(job.encode()),
            of_key=_arguments([*of_key, *numbers]).split(digest.encode()),
        )


def _arguments(some: Sequence[Arg]) -> bytes:
    """Packed, without the line that counts them."""
    whole: bytes = hiredis.pack_command(tuple(some))  # type: ignore[arg-type]
    return whole[whole.index(b"\n") + 1 :]
