"""What HTTP says of caching, one behaviour after the other, at the running service.

RFC 9111 (caching), RFC 5861 (stale-while-revalidate, stale-if-error), RFC 9211 (Cache-Status), RFC 9110 (validators).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from uuid import uuid4

import httpx
import pytest

from tests.support.service import Service, until

RESOURCES = "/api/v1/resources"
#: Headers of a value that a 304 has to repeat (RFC 9110, section 15.4.5), and ours.
KEPT = ("etag", "cache-control", "vary", "millpond-topic", "millpond-computed")


@pytest.fixture(scope="module")
def caching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two web processes with values for these tests."""
    running = Service(
        tmp_path_factory.mktemp("caching"),
        "--no-demo",
        MILLPOND_APPS="tests.support.caching",
        MILLPOND_WEB_PROCESSES="2",
        MILLPOND_WORKER_CONCURRENCY="1",
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def name() -> str:
    return uuid4().hex


@pytest.fixture
def lasting(name: str) -> str:
    """The path of a value that stays fresh."""
    return f"{RESOURCES}/caching.lasting?name={name}"


@pytest.fixture
def brief(name: str) -> str:
    """The path of a value that is fresh for a second, and may be stale only when its computation fails."""
    return f"{RESOURCES}/caching.brief?name={name}"


@pytest.fixture(scope="module")
def bearer(caching: Service) -> dict[str, str]:
    """The header of a logged-in reader."""
    make = "from django.contrib.auth import get_user_model as m; m().objects.create_user('reader')"
    caching.command("shell", "-c", make)
    return {"Authorization": f"Bearer {caching.command('token', 'create', 'reader', '--scope', 'read').strip()}"}


def aged(caching: Service, path: str, seconds: int) -> httpx.Response:
    """The value, still fresh, once it is so old."""
    until(lambda: int(caching.get(path).headers["age"]) >= seconds, "it grows old")
    return caching.get(path)


def expired(caching: Service, path: str) -> None:
    """Make a value that is fresh for a second, and let it be over."""
    caching.get(path)
    time.sleep(2.0)  # not asked for meanwhile: that would refresh it


def softened(caching: Service, name: str) -> None:
    """Declare a value stale before its time."""
    caching.command("shell", "-c", f"from asgi_app import invalidate; invalidate('caching.{name}', soft=True)")


def runs(caching: Service, name: str) -> int:
    return caching.ledger().count(f"made {name}")


# --- request directives (RFC 9111, section 5.2.1)


def test_only_if_cached_of_nothing_is_504(caching: Service, name: str, lasting: str) -> None:
    """Nothing is computed; and an answer that a cache makes itself has no Cache-Status (RFC 9211, section 2)."""
    answer = caching.get(lasting, Cache_Control="only-if-cached", Prefer="wait=20")
    assert (answer.status_code, answer.json()["type"]) == (504, "not-cached")
    assert answer.headers["cache-control"] == "no-store"
    assert "cache-status" not in answer.headers
    assert runs(caching, name) == 0


def test_only_if_cached_of_a_value_is_a_hit(caching: Service, lasting: str) -> None:
    """What is there is served."""
    caching.get(lasting)
    answer = caching.get(lasting, Cache_Control="only-if-cached")
    assert answer.status_code == 200
    assert answer.headers["cache-status"].startswith("millpond; hit; ttl=")


def test_max_age_wants_a_younger_value(caching: Service, name: str, lasting: str) -> None:
    """An older one than that is computed anew although it is fresh; a younger one is served."""
    caching.get(lasting)
    aged(caching, lasting, 2)
    assert caching.get(lasting, Cache_Control="max-age=3600").json()["run"] == 1
    younger = caching.get(lasting, Cache_Control="max-age=1", Prefer="wait=20")
    assert (younger.json()["run"], younger.headers["age"]) == (2, "0")


def test_min_fresh_wants_a_value_that_stays_fresh(caching: Service, name: str, lasting: str) -> None:
    """One that does not for so long is computed anew."""
    caching.get(lasting)
    aged(caching, lasting, 2)
    assert caching.get(lasting, Cache_Control="min-fresh=60").json()["run"] == 1
    assert caching.get(lasting, Cache_Control="min-fresh=100000", Prefer="wait=20").json()["run"] == 2


@pytest.mark.parametrize(
    ("said", "run"), [("max-stale", 1), ("max-stale=600", 1), ("max-stale=0", 2), ("max-age=9", 2)]
)
def test_max_stale_takes_an_old_value(caching: Service, brief: str, said: str, run: int) -> None:
    """Who says so gets one that is too old for others."""
    expired(caching, brief)
    answer = caching.get(brief, Cache_Control=said, Prefer="wait=20")
    assert answer.json()["run"] == run
    assert ("ttl=-" in answer.headers["cache-status"]) is (run == 1)


def test_only_if_cached_with_max_stale(caching: Service, brief: str) -> None:
    """A value that is too old counts as none, unless an old one is good enough."""
    expired(caching, brief)
    assert caching.get(brief, Cache_Control="only-if-cached").status_code == 504
    assert caching.get(brief, Cache_Control="only-if-cached, max-stale=600").status_code == 200


def test_no_client_forces_a_computation(caching: Service, name: str, lasting: str) -> None:
    """Reloading a page, and nonsense, is answered from the cache."""
    caching.get(lasting)
    aged(caching, lasting, 2)
    for said in (
        {"Cache_Control": "no-cache"},
        {"Cache_Control": "max-age=0"},
        {"Cache_Control": "no-store"},
        {"Pragma": "no-cache"},
        {"Cache_Control": "no-cache, no-store, max-age=0, must-revalidate", "Pragma": "no-cache"},
        {"Cache_Control": "max-age=soon, min-fresh=-1, max-stale=, no-transform, =, ,,"},
    ):
        answer = caching.get(lasting, **said)
        assert answer.json()["run"] == runs(caching, name) == 1
        assert "; hit;" in answer.headers["cache-status"]


def test_a_value_that_is_young_enough_is_young_enough_for_all(caching: Service, name: str, lasting: str) -> None:
    """Below a second nobody can have it computed again, whatever they ask."""
    for _ in range(3):
        first = caching.get(lasting, Prefer="wait=20")
        again = caching.get(lasting, Cache_Control="min-fresh=100000", Prefer="wait=20")
        if int(again.headers["age"]) == 0 and again.json()["run"] == first.json()["run"]:
            break
    assert "; hit;" in again.headers["cache-status"]


def test_directives_on_several_lines_count_together(caching: Service, lasting: str) -> None:
    """A list may be sent in parts (RFC 9110, section 5.3)."""
    lines = [("Cache-Control", "no-transform"), ("Cache-Control", "only-if-cached")]
    assert httpx.get(caching.url + lasting, headers=lines).status_code == 504


# --- what an answer says (RFC 9111, section 5; RFC 5861; RFC 9211)


def test_age_grows_and_freshness_is_told_in_whole(caching: Service, lasting: str) -> None:
    """max-age is the whole freshness and Age how much of it is over; a cache behind us subtracts (section 4.2)."""
    first = caching.get(lasting)
    later = aged(caching, lasting, 2)
    assert first.headers["cache-control"] == later.headers["cache-control"]
    left = int(later.headers["cache-status"].partition("ttl=")[2])
    total = int(later.headers["cache-control"].partition("max-age=")[2].partition(",")[0])
    assert abs(total - int(later.headers["age"]) - left) <= 1
    assert 540 <= total <= 660


def test_date_is_the_server_s(caching: Service, lasting: str) -> None:
    """The clock that Age counts by is that of the answer."""
    answer = caching.get(lasting)
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 30
    assert len(answer.headers.get_list("date")) == 1


def test_a_miss_is_stored(caching: Service, lasting: str) -> None:
    """RFC 9211: forwarded because nothing was there, and stored."""
    assert caching.get(lasting).headers["cache-status"] == "millpond; fwd=miss; stored"


def test_what_is_promised_is_a_miss(caching: Service, lasting: str) -> None:
    """202: forwarded, and nothing to keep."""
    answer = caching.get(lasting, Prefer="respond-async")
    assert answer.status_code == 202
    assert answer.headers["cache-status"] == "millpond; fwd=miss"
    assert answer.headers["cache-control"] == "no-store"
    assert "Prefer" in answer.headers["vary"]


def test_a_stale_value_is_no_longer_fresh_anywhere(caching: Service, name: str, lasting: str) -> None:
    """Declared stale before its time it is served while it is computed anew; no cache behind us keeps it as fresh."""
    caching.get(lasting)
    softened(caching, name)
    stale = caching.get(lasting, Prefer="respond-async")
    assert stale.json()["run"] == 1
    assert stale.headers["cache-status"] == "millpond; hit; ttl=0; detail=stale-while-revalidate"
    total = int(stale.headers["cache-control"].partition("max-age=")[2].partition(",")[0])
    assert total <= int(stale.headers["age"])
    until(lambda: caching.get(lasting).json()["run"] == 2, "the refresh lands")


def test_stale_if_error(caching: Service, name: str, brief: str) -> None:
    """When its computation fails an old value is served, and says so (RFC 5861, section 4)."""
    expired(caching, brief)
    (caching.home / f"fails-{name}").touch()
    answer = caching.get(brief, Prefer="wait=20")
    assert (answer.status_code, answer.json()["run"]) == (200, 1)
    assert answer.headers["cache-status"].endswith("; detail=stale-if-error")
    assert "ttl=-" in answer.headers["cache-status"]


def test_an_error_is_not_kept_by_others(caching: Service, name: str, lasting: str) -> None:
    """Without an old value the error is told, for nobody to store, with when to ask again."""
    (caching.home / f"fails-{name}").touch()
    answer = caching.get(lasting, Prefer="wait=20")
    assert (answer.status_code, answer.headers["cache-control"]) == (502, "no-store")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_public_value_is_public_to_who_is_known_too(caching: Service, lasting: str, bearer: dict[str, str]) -> None:
    """It is declared to be everybody's, which a request with Authorization does not change (section 3.5)."""
    for headers in ({}, bearer):
        answer = httpx.get(caching.url + lasting, headers=headers)
        assert answer.headers["cache-control"].startswith("public, max-age=")
        assert answer.headers["vary"] == "Accept, Prefer"


@pytest.mark.parametrize("which", ["mine", "guarded", "ruled"])
def test_a_private_value_is_never_public(caching: Service, name: str, which: str, bearer: dict[str, str]) -> None:
    """Whatever it is that keeps it from the public."""
    path = f"{caching.url}{RESOURCES}/caching.{which}?name={name}"
    for _ in range(2):
        answer = httpx.get(path, headers=bearer)
        assert answer.status_code == 200
        assert answer.headers["cache-control"].startswith("private, max-age=")
        assert answer.headers["vary"] == "Accept, Authorization, Cookie, Prefer"
    refused = httpx.get(path)
    assert (refused.status_code, refused.headers["cache-control"]) in ((401, "no-store"), (403, "no-store"))


# --- validators (RFC 9110, section 13)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("spelling", ["{}", "W/{}", '"other", {}', '"a,b", W/{} , "c"', "*"])
def test_who_has_it_gets_304(caching: Service, lasting: str, method: str, spelling: str) -> None:
    """With every header of the value that is not about its body, and no length that would be wrong (section 8.6)."""
    value = caching.get(lasting)
    headers = {"If-None-Match": spelling.format(value.headers["etag"])}
    answer = httpx.request(method, caching.url + lasting, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert [answer.headers[header] for header in KEPT] == [value.headers[header] for header in KEPT]
    assert {"age", "cache-status", "date"} <= set(answer.headers)
    assert {"content-length", "content-type", "transfer-encoding"}.isdisjoint(answer.headers)


@pytest.mark.parametrize("said", ['"other"', 'W/"other"', '"*"', "none of this", '""', ""])
def test_who_has_another_gets_the_value(caching: Service, lasting: str, said: str) -> None:
    """A star in quotes is a tag like any other."""
    caching.get(lasting)
    assert caching.get(lasting, If_None_Match=said).status_code == 200


@pytest.mark.parametrize("tag", ['"other"', None])
def test_if_modified_since_says_nothing_here(caching: Service, lasting: str, tag: str | None) -> None:
    """There is no Last-Modified to compare; and beside If-None-Match it is ignored anyway (section 13.1.3)."""
    caching.get(lasting)
    headers = {"If_Modified_Since": "Fri, 31 Dec 2100 23:59:59 GMT"} | ({"If_None_Match": tag} if tag else {})
    assert caching.get(lasting, **headers).status_code == 200


def test_other_bytes_have_another_tag(caching: Service, name: str, lasting: str) -> None:
    """A strong validator changes with the bytes (section 8.8.1)."""
    first = caching.get(lasting)
    softened(caching, name)
    until(lambda: caching.get(lasting).json()["run"] == 2, "the refresh lands")
    assert caching.get(lasting, If_None_Match=first.headers["etag"]).status_code == 200


def test_head_is_get_without_the_body(caching: Service, lasting: str) -> None:
    """Every header is the same, the length of the body included (section 9.3.2)."""
    caching.get(lasting)
    head = httpx.head(caching.url + lasting)
    got = caching.get(lasting)
    assert (head.status_code, head.content) == (200, b"")
    differing = {"age", "cache-status", "date"}
    assert {k: v for k, v in head.headers.items() if k not in differing} == {
        k: v for k, v in got.headers.items() if k not in differing
    }
    assert int(head.headers["content-length"]) == len(got.content)


def test_head_fills_the_cache(caching: Service, name: str, lasting: str) -> None:
    """It computes as GET does, and GET is a hit then."""
    assert httpx.head(caching.url + lasting).headers["cache-status"] == "millpond; fwd=miss; stored"
    assert "; hit;" in caching.get(lasting).headers["cache-status"]
    assert runs(caching, name) == 1
