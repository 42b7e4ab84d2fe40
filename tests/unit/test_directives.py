"""Cache-Control: what is understood of a request, and what an answer says."""

from __future__ import annotations

import math

import pytest
from django.http import HttpResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.http_caching import NotModified, cache_control, cache_status, demand, directives
from asgi_app.reading import Reading
from cache_layer.codec import Entry
from cache_layer.freshness import ANYTHING, Demand, Policy
from cache_layer.position import Position

quick = settings(max_examples=80, deadline=None)
POLICY = Policy(fresh=30, stale=300, stale_if_error=3600)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Demand()),
        ("max-age=5", Demand(max_age=5)),
        ("MAX-AGE=5", Demand(max_age=5)),
        ('max-age="5"', Demand(max_age=5)),
        (r'max-age="\5"', Demand(max_age=5)),
        ("max-age=5, max-age=7", Demand(max_age=5)),
        (" , max-age=5 ,,", Demand(max_age=5)),
        ("max-age=" + "9" * 5000, Demand(max_age=2.0**31)),
        ("min-fresh=3", Demand(min_fresh=3)),
        ("max-stale", Demand(max_stale=math.inf)),
        ("max-stale=60", Demand(max_stale=60)),
        ("only-if-cached", Demand(only_cached=True)),
        (
            "only-if-cached, max-stale=2, min-fresh=1, max-age=9",
            Demand(max_age=9, min_fresh=1, max_stale=2, only_cached=True),
        ),
        ('ext="a, only-if-cached", max-age=4', Demand(max_age=4)),
    ],
)
def test_a_directive_is_understood(header: str, expected: Demand) -> None:
    """In any case, quoted or not; of one given twice the first counts."""
    assert demand({"Cache-Control": header}) == expected


@pytest.mark.parametrize(
    "header",
    [
        "no-cache",
        "no-store",
        "max-age=0",
        "max-age=-5",
        "max-age",
        "max-age=",
        "max-age=soon",
        "max-age=1.5",
        "max-age=١",
        "max-age = 5",
        "max-stale=",
        "max-stale=soon",
        "min-fresh",
        "only-if-cached=no",
        "no-transform, =, ===, \x00",
        '"',
        'max-age="5',
    ],
)
def test_the_rest_is_ignored(header: str) -> None:
    """What forces a computation, and what is nonsense: as if it were not there, and hiding nothing behind it."""
    assert demand({"Cache-Control": header}) is ANYTHING
    if header.count('"') % 2 == 0 and "only-if-cached" not in header:
        assert demand({"Cache-Control": f"{header}, only-if-cached"}) == Demand(only_cached=True)


@quick
@given(st.text())
def test_no_header_raises(header: str) -> None:
    """Whatever a client writes, the numbers are numbers."""
    found = demand({"Cache-Control": header})
    assert found.max_age is None or 1 <= found.max_age <= 2.0**31
    assert found.min_fresh >= 0
    assert found.max_stale >= 0


def test_directives_of_a_response() -> None:
    """Names in lower case with their arguments."""
    assert directives('Public, max-age=5, no-cache="Set-Cookie, X", s-maxage=') == {
        "public": "",
        "max-age": "5",
        "no-cache": "Set-Cookie, X",
        "s-maxage": "?",
    }


def reading(age: float, state: str = "fresh", via: str = "hit", error: object = None) -> Reading:
    entry = Entry(
        nonce=b"12345678",
        position=Position("abcdefgh", 1),
        fresh=29.7,
        life=4000,
        compute_seconds=0.1,
        computed_at=0,
        tag_versions=(),
        payload=b"1",
    )
    return Reading(state=state, position=entry.position, entry=entry, age=age, via=via, error=error)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (reading(0, via="computed"), "millpond; fwd=miss; stored"),
        (reading(0, via="joined"), "millpond; fwd=miss; collapsed"),
        (reading(9.5), "millpond; hit; ttl=20"),
        (reading(9.5, via="last known", error={}), "millpond; hit; ttl=20"),
        (reading(29.8, "stale"), "millpond; hit; ttl=-1; detail=stale-while-revalidate"),
        (reading(5, "stale"), "millpond; hit; ttl=0; detail=stale-while-revalidate"),
        (reading(100, "stale", error={}), "millpond; hit; ttl=-71; detail=stale-if-error"),
        (reading(100, "stale", via="last known", error={}), "millpond; hit; ttl=-71; detail=stale-if-error"),
    ],
)
def test_cache_status_of_each_way(found: Reading, status: str) -> None:
    """RFC 9211: what was there, what was computed, what was waited for, and what is left of its freshness."""
    assert cache_status(found) == status


@quick
@given(st.floats(0, 10_000), st.booleans())
def test_no_answer_is_fresh_for_longer_than_the_value(age: float, softened: bool) -> None:
    """What a cache behind us may add up is never more than the truth by a second, and nothing for a stale value."""
    stale = softened or age >= 29.7
    found = reading(age, "stale" if stale else "fresh")
    total = int(cache_control("public", found, POLICY).partition("max-age=")[2].partition(",")[0])
    left = total - int(age)
    assert left <= 0 if stale else left < 29.7 - age + 1


def test_a_304_has_no_length_and_lets_nobody_add_one() -> None:
    """It keeps all that is not about the body."""
    full = HttpResponse("text", headers={"ETag": '"a"', "Content-Length": "4", "Content-Encoding": "gzip"})
    made = NotModified.of(full)
    assert dict(made.items()) == {"ETag": '"a"'}
    assert made.has_header("Content-Length")
    assert not made.has_header("Content-Type")
