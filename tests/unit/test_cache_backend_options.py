"""What CACHES may say, and that everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from asgi_app.cache_backend import MillpondCache
from asgi_app.cache_backend.options import Options, parse
from asgi_app.env import env

URL = "redis://localhost:6379/1"


def test_what_is_not_said_has_a_default() -> None:
    """JSON, no copies, 0.8 s; with Millpond's own store where no other is named."""
    assert parse(URL, {}) == Options(url=URL, namespace="django", serializer="json", near=0, deadline=0.8)
    assert parse("", {}) == Options(url=env().store_url, namespace=env().namespace)


def test_everything_that_may_be_said() -> None:
    """The prefix separates what is cleared."""
    options = {"serializer": "pickle", "allow_pickle": True, "near": 1024, "deadline": 2}
    found = parse(URL, {"KEY_PREFIX": "shop", "OPTIONS": options})
    assert found == Options(url=URL, namespace="django:shop", serializer="pickle", near=1024, deadline=2.0)


@pytest.mark.parametrize(
    ("location", "options", "named"),
    [
        ([URL], {}, "LOCATION"),
        (f"{URL},{URL}", {}, "LOCATION"),
        ("localhost:6379", {}, "LOCATION"),
        (URL, {"MAX_ENTRIES": 30}, "'MAX_ENTRIES'; allowed are 'serializer', 'allow_pickle', 'near', 'deadline'"),
        (URL, {"serializer": "yaml"}, "'json', 'msgpack', 'pickle'"),
        (URL, {"serializer": ["json"]}, "serializer"),
        (URL, {"serializer": "pickle"}, '"allow_pickle": True'),
        (URL, {"serializer": "pickle", "allow_pickle": 1}, '"allow_pickle": True'),
        (URL, {"near": -1}, '"near"'),
        (URL, {"near": 1.5}, '"near"'),
        (URL, {"near": True}, '"near"'),
        (URL, {"deadline": 0}, '"deadline"'),
        (URL, {"deadline": "1"}, '"deadline"'),
        (URL, {"deadline": float("inf")}, '"deadline"'),
    ],
)
def test_everything_else_is_refused_by_name(location: Any, options: dict[str, Any], named: str) -> None:
    """As Django refuses settings."""
    with pytest.raises(ImproperlyConfigured) as refused:
        MillpondCache(location, {"OPTIONS": options})
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "timeout", "milliseconds"),
    [
        (300, 0.5, 500),
        (300, 0.0001, 1),
        (300, 1e300, 3_153_600_000_000),
        (300, 0, 0),
        (300, -3, 0),
        (300, None, None),
        (None, "default", None),
        (0.25, "default", 250),
        ("1", "default", 1000),
        ("x", "default", 300_000),
    ],
)
def test_timeouts_have_milliseconds(setting: Any, timeout: Any, milliseconds: int | None) -> None:
    """None is for ever; nothing, and less, is gone; what lives at all lives a millisecond."""
    cache = MillpondCache(URL, {"TIMEOUT": setting})
    assert (cache._life() if timeout == "default" else cache._life(timeout)) == milliseconds
