"""Jobs as users see them: their ids, the public object, and on whose behalf they run."""

from __future__ import annotations

from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.jobs import dump_principal, firing_id, is_job_id, new_job_id, principal_of, public
from asgi_app.registry import Principal

quick = settings(max_examples=80, deadline=None)

MILLISECONDS = st.integers(0, 2**48 - 1)
TEN_BYTES = st.binary(min_size=10, max_size=10)


@quick
@given(MILLISECONDS, st.none() | TEN_BYTES)
def test_an_id_is_a_uuid_of_version_7(unix_ms: int, rest: bytes | None) -> None:
    """With its time in the first 48 bits, and version and variant where RFC 9562 wants them."""
    text = new_job_id(unix_ms, rest)
    parsed = UUID(text)
    assert (parsed.version, parsed.variant) == (7, RFC_4122)
    assert parsed.int >> 80 == unix_ms
    assert is_job_id(text)


@quick
@given(MILLISECONDS, MILLISECONDS, TEN_BYTES, TEN_BYTES)
def test_ids_sort_by_their_time(one: int, other: int, rest: bytes, other_rest: bytes) -> None:
    """As texts, ids of different milliseconds stand in the order of time, whatever else is in them."""
    if one != other:
        assert (new_job_id(one, rest) < new_job_id(other, other_rest)) == (one < other)


def test_ids_of_one_moment_differ() -> None:
    """All that is not time is random."""
    assert len({new_job_id(1_700_000_000_000) for _ in range(1000)}) == 1000


@quick
@given(TEN_BYTES)
def test_a_given_rest_makes_the_id_certain(rest: bytes) -> None:
    """The same time and bytes make the same id; of the bytes all but the six bits of the form count."""
    assert new_job_id(1, rest) == new_job_id(1, rest)
    assert UUID(new_job_id(1, rest)).int & ((1 << 62) - 1) == int.from_bytes(rest, "big") & ((1 << 62) - 1)


def test_every_scheduler_names_a_firing_alike() -> None:
    """The id of a scheduled run follows from its name and time, and is the same in every version."""
    assert firing_id("report.mail", 1_700_000_000_000) == firing_id("report.mail", 1_700_000_000_000)
    assert firing_id("report.mail", 1_700_000_000_000) == "018bcfe5-6800-729d-9e45-c3516deb1489"


@quick
@given(st.lists(st.tuples(st.sampled_from(["a", "a.b", "b", "a1"]), st.integers(0, 50)), unique=True))
def test_different_firings_have_different_ids(firings: list[tuple[str, int]]) -> None:
    """Another name or another time is another job."""
    assert len({firing_id(*firing) for firing in firings}) == len(firings)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "019A0000-0000-7000-8000-000000000001",
        "019a0000000070008000000000000001",
        "{019a0000-0000-7000-8000-000000000001}",
        "urn:uuid:019a0000-0000-7000-8000-000000000001",
        "019a0000-0000-7000-8000-00000000000",
        "019a0000-0000-7000-8000-000000000001 ",
        "019a0000-0000-7000-8000-00000000000g",
        "٠19a0000-0000-7000-8000-000000000001",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    """There is one way to write an id, so that it names one key."""
    assert not is_job_id(text)


@quick
@given(
    st.builds(
        Principal,
        user_id=st.none() | st.text(),
        username=st.text(),
        scopes=st.frozensets(st.text()),
        is_anonymous=st.booleans(),
        permissions=st.frozensets(st.text()),
    )
)
def test_a_principal_is_read_back_from_the_record(principal: Principal) -> None:
    """A job runs on behalf of exactly the one who asked, and the text is the same at each writing."""
    text = dump_principal(principal)
    assert principal_of({"principal": text}) == principal
    assert dump_principal(principal_of({"principal": text})) == text


FIELDS = {
    "id": "019a0000-0000-7000-8000-000000000001",
    "kind": "computation",
    "name": "sales.daily",
    "topic": "sales.daily?region=north",
    "params": '{"region":"north"}',
    "status": "running",
    "fence": "2",
    "queue": "default",
    "priority": "5",
    "version": "7",
    "created_at": "1700000000123",
    "started_at": "1700000001000",
}


def shown(**fields: str) -> dict[str, Any]:
    return public({**FIELDS, **fields})


def test_the_public_object_says_what_the_record_knows() -> None:
    """Numbers are numbers, times are UTC with milliseconds, and what is not yet is null."""
    assert shown(progress='{"done":1}') == {
        "id": FIELDS["id"],
        "kind": "computation",
        "name": "sales.daily",
        "params": {"region": "north"},
        "status": "running",
        "progress": {"done": 1},
        "attempt": 2,
        "created_at": "2023-11-14T22:13:20.123Z",
        "started_at": "2023-11-14T22:13:21.000Z",
        "finished_at": None,
        "queue": "default",
        "priority": 5,
        "position": None,
        "eta": None,
        "error": None,
        "result_url": None,
        "topic": f"job:{FIELDS['id']}",
        "history": [],
        "version": 7,
    }


def test_a_computation_that_succeeded_says_where_its_value_is() -> None:
    """An action has no value, and what failed has none yet."""
    assert shown(status="succeeded")["result_url"] == "/api/v1/resources/sales.daily?region=north"
    assert shown(status="succeeded", kind="action")["result_url"] is None
    assert shown(status="failed")["result_url"] is None


def test_the_error_of_an_earlier_attempt_is_not_shown_after_success() -> None:
    """While a job waits for its next attempt its last error is shown, in the end only that of a failure."""
    assert shown(status="retrying", error='{"type":"x"}')["error"] == {"type": "x"}
    assert shown(status="failed", error='{"type":"x"}')["error"] == {"type": "x"}
    assert shown(status="succeeded", error='{"type":"x"}')["error"] is None


def test_a_job_shows_nothing_of_who_asked() -> None:
    """Principal and owner stay in the record."""
    assert "ada" not in str(shown(principal='{"username":"ada"}', owner="ada"))
