"""What CACHES says about a cache, checked.

Invariant: whoever holds an `Options` holds valid ones; everything else is refused, with its name and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from asgi_app.cache_backend.serializers import KINDS

_SCHEMES = ("redis://", "rediss://", "unix://")
_ALLOWED = ("serializer", "allow_pickle", "near", "deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One entry of CACHES."""

    #: Of the store, for redis-py.
    url: str
    #: What the names of its keys begin with; caches of the same are cleared together.
    namespace: str
    serializer: str = "json"
    #: Bytes of copies in this process, 0 for none.
    near: int = 0
    #: Seconds one operation may take.
    deadline: float = 0.8


def parse(location: Any, params: Mapping[str, Any]) -> Options:
    """Check LOCATION, KEY_PREFIX and OPTIONS.  Raises ImproperlyConfigured."""
    given = dict(params.get("OPTIONS") or {})
    unknown = sorted(set(given) - set(_ALLOWED))
    if unknown:
        raise ImproperlyConfigured(
            f"CACHES: unknown OPTIONS {', '.join(map(repr, unknown))}; allowed are {', '.join(map(repr, _ALLOWED))}"
        )
    url, namespace = _place(location)
    prefix = str(params.get("KEY_PREFIX", ""))
    return Options(
        url=url,
        namespace=f"{namespace}:{prefix}" if prefix else namespace,
        serializer=_serializer(given.get("serializer", "json"), allow_pickle=given.get("allow_pickle", False)),
        near=int(_number("near", given.get("near", 0), least=0, whole=True)),
        deadline=_number("deadline", given.get("deadline", 0.8), least=0.001),
    )


def _place(location: Any) -> tuple[str, str]:
    """URL and namespace; without a LOCATION those of Millpond's own store."""
    if not location:
        from asgi_app.env import env  # other projects have no Env: read only when asked for

        return env().store_url, env().namespace
    if not isinstance(location, str):
        raise ImproperlyConfigured("CACHES: LOCATION must be one URL, not a list: there is one store")
    if not location.startswith(_SCHEMES) or location.count("://") > 1:
        raise ImproperlyConfigured(f"CACHES: LOCATION must be one URL that begins with {', '.join(_SCHEMES)}")
    return location, "django"


def _serializer(name: Any, *, allow_pickle: Any) -> str:
    if not isinstance(name, str) or name not in KINDS:
        allowed = ", ".join(map(repr, KINDS))
        raise ImproperlyConfigured(f'CACHES: OPTIONS["serializer"] is {name!r}; allowed are {allowed}')
    if name == "pickle" and allow_pickle is not True:
        raise ImproperlyConfigured(
            'CACHES: OPTIONS["serializer"] "pickle" runs code that whoever writes to the store can choose, were it not '
            'for a signature made with SECRET_KEY; to use it, set "allow_pickle": True beside it'
        )
    return name


def _number(name: str, value: Any, *, least: float, whole: bool = False) -> float:
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not least <= value < float("inf"):
        kind = "a whole number" if whole else "a number"
        raise ImproperlyConfigured(f'CACHES: OPTIONS["{name}"] is {value!r}; it must be {kind} of at least {least}')
    return float(value)
