"""The class Django knows: its cache API, both faces of each method, over `operations.py`.

Invariant: a method and its asynchronous twin carry out the same steps; no twin ever waits in a thread.
"""

# ruff: noqa: ASYNC109  (the parameter is a value's life, and its name is Django's)

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, InvalidCacheKey

from asgi_app.cache_backend.connections import connections
from asgi_app.cache_backend.driving import Steps, T, arun, run
from asgi_app.cache_backend.operations import Operations, Stats
from asgi_app.cache_backend.options import parse
from asgi_app.cache_backend.serializers import Serializer
from cache_layer.kv import Space
from cache_layer.near import Near

#: Longest life in milliseconds, about a century; the store refuses what overflows its clock.
_LONGEST = 100 * 365 * 86_400_000

#: Of all caches of this process.
stats = Stats()


class MillpondCache(BaseCache):
    """Django's cache API on Redis or Valkey; see the package for what it promises beyond."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.default_timeout = _seconds(params.get("timeout", params.get("TIMEOUT", 300)))
        self._options = options = parse(location, params)
        self._where = (options.url, options.deadline)
        self._space = Space(options.namespace)
        self._do = Operations(
            space=self._space, serializer=Serializer(options.serializer), near=self._near, stats=stats
        )

    def get_backend_timeout(self, timeout: float | None = DEFAULT_TIMEOUT) -> float | None:
        """Seconds a value lives, with fractions; None for ever, 0 not at all."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else max(0, seconds)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._run(self._do.get(self._key(key, version), default))

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return await self._arun(self._do.get(self._key(key, version), default))

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        return self._run(self._get_many(keys, version))

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        return await self._arun(self._get_many(keys, version))

    def set(self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._run(self._do.set_many({self._key(key, version): value}, self._life(timeout)))

    async def aset(
        self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        await self._arun(self._do.set_many({self._key(key, version): value}, self._life(timeout)))

    def set_many(
        self, data: dict[Any, Any], timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        return self._run(self._set_many(data, timeout, version))

    async def aset_many(
        self, data: dict[Any, Any], timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        return await self._arun(self._set_many(data, timeout, version))

    def add(self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._run(self._do.add(self._key(key, version), value, self._life(timeout)))

    async def aadd(
        self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        return await self._arun(self._do.add(self._key(key, version), value, self._life(timeout)))

    def get_or_set(
        self, key: Any, default: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        return self._run(self._do.get_or_set(self._key(key, version), default, self._life(timeout)))

    async def aget_or_set(
        self, key: Any, default: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        return await self._arun(self._do.get_or_set(self._key(key, version), default, self._life(timeout)))

    def touch(self, key: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._run(self._do.touch(self._key(key, version), self._life(timeout)))

    async def atouch(self, key: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return await self._arun(self._do.touch(self._key(key, version), self._life(timeout)))

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self._run(self._do.delete_many([self._key(key, version)])) > 0

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        return await self._arun(self._do.delete_many([self._key(key, version)])) > 0

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self._run(self._delete_many(keys, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        await self._arun(self._delete_many(keys, version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        return self._run(self._do.incr(self._key(key, version), operator.index(delta)))

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        return await self._arun(self._do.incr(self._key(key, version), operator.index(delta)))

    def clear(self) -> None:
        self._run(self._do.clear())

    async def aclear(self) -> None:
        await self._arun(self._do.clear())

    def _get_many(self, keys: Iterable[Any], version: int | None) -> Steps[dict[Any, Any]]:
        made = {self._key(key, version): key for key in keys}
        found = yield from self._do.get_many(list(made))
        return {made[key]: value for key, value in found.items()}

    def _set_many(self, data: dict[Any, Any], timeout: float | None, version: int | None) -> Steps[list[Any]]:
        made = {self._key(key, version): value for key, value in data.items()}
        if made:
            yield from self._do.set_many(made, self._life(timeout))
        return []

    def _delete_many(self, keys: Iterable[Any], version: int | None) -> Steps[None]:
        made = [self._key(key, version) for key in keys]
        if made:
            yield from self._do.delete_many(made)

    def _key(self, key: Any, version: int | None) -> str:
        made: str = self.make_and_validate_key(key, version=version)
        try:
            made.encode()
        except UnicodeEncodeError as error:
            raise InvalidCacheKey(f"The key {made!r} cannot be written in UTF-8: {error.reason}") from error
        return made

    def _life(self, timeout: float | None = DEFAULT_TIMEOUT) -> int | None:
        """Milliseconds for the store: at least one of what lives at all."""
        seconds = self.get_backend_timeout(timeout)
        if seconds is None or seconds <= 0:
            return None if seconds is None else 0
        return max(1, round(min(seconds * 1000, _LONGEST)))

    def _near(self) -> Near | None:
        budget = self._options.near
        return connections().near(self._options.url, self._space, budget) if budget else None

    def _run(self, steps: Steps[T]) -> T:
        return run(steps, connections().blocking(self._where))

    async def _arun(self, steps: Steps[T]) -> T:
        return await arun(steps, await connections().of_loop(self._where))


def _seconds(setting: Any) -> float | None:
    """TIMEOUT, with fractions; what is no number is Django's default, as in Django."""
    if setting is None:
        return None
    try:
        seconds = float(setting)
    except (TypeError, ValueError):
        return 300
    return seconds if math.isfinite(seconds) else 300
