"""A submission is packed from parts that were made before: it says what was asked, whoever was there before."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_app.jobs import new_job_id
from cache_layer.keys import Names
from cache_layer.pipeline import packed
from cache_layer.queues import Bell, Limits
from cache_layer.redis import Store
from cache_layer.submission import Submissions
from tests.support.keys import key

NAMES = Names("tests")
LIMITS = Limits(queue=77, waiting=9)


@pytest.fixture(scope="module")
def submissions() -> Submissions:
    """To a store that nobody asks."""
    return Submissions(Store("unix:///nowhere", "tests"), LIMITS)


def command(raw: bytes) -> list[bytes]:
    """As the store reads it; one command, and nothing behind it."""
    reader = hiredis.Reader()
    reader.feed(raw)
    read: list[bytes] = reader.gets()
    assert reader.gets() is False
    assert packed(read) == raw
    return read


asked = st.fixed_dictionaries(
    {
        "job_id": st.one_of(st.builds(lambda: new_job_id(1_700_000_000_000)), st.sampled_from(["one", "seven"])),
        "queue": st.sampled_from(["default", "heavy"]),
        "list": st.sampled_from(["", "b:{tests}:default"]),
        "message": st.binary(max_size=40),
        "params": st.sampled_from(["{}", b'{"n":"\xc3\xa4 %b"}']),
        "principal": st.sampled_from(["", '{"user_id":"7"}']),
        "seen": st.sampled_from([b"", b"\r\n\x01\x02nnnn"]),
        "force": st.booleans(),
        "priority": st.integers(0, 9),
        "lane": st.sampled_from(["", "*", "user"]),
        "asker": st.sampled_from(["", "7", "ä"]),
        "key_rate": st.integers(0, 3),
        "key_bytes": st.integers(0, 3),
        "expires": st.sampled_from([None, 0.0001, 2.5]),
        "abandonable": st.booleans(),
    }
)


@given(name=st.sampled_from(["a", "b%d", "dd" * 20]), fresh=st.sampled_from([1.0, 30.0]), asked=asked)
def test_it_says_what_was_asked(submissions: Submissions, name: str, fresh: float, asked: dict[str, Any]) -> None:
    """In the places that the script reads, with the names of its own key and job."""
    what, job_id = key(name, fresh=fresh, error_ttl=4.0), asked["job_id"]
    bell = Bell(queue=asked["queue"], message=asked["message"], list=asked["list"])
    more = {name: value for name, value in asked.items() if name not in ("job_id", "queue", "list", "message")}
    verb, _, count, *rest = command(submissions.pack(what, job_id=job_id, bell=bell, **more))
    keys, (channel, *args) = rest[: int(count)], rest[int(count) :]
    assert verb == b"EVALSHA"
    assert [each.decode() for each in keys] == [
        *(NAMES.role(f"worker:{bell.queue}"), NAMES.live(), NAMES.run(), NAMES.lives(), NAMES.brought(asked["asker"])),
        *(NAMES.job(job_id), NAMES.entry(what), NAMES.version(what), NAMES.failure(what), NAMES.lease(what)),
        *([bell.list] if bell.list else []),
    ]
    assert channel.decode() == NAMES.channel(what)
    named, limits = args[2:4], (args[8], args[19])
    assert [each.decode() for each in named] == [NAMES.job_channel(""), NAMES.all_jobs()]
    assert limits == (b"77", b"9" if asked["lane"] == "user" else b"0")
    expires = {None: b"0", 0.0001: b"1", 2.5: b"2500"}[asked["expires"]]
    assert (args[5], args[6], args[7], args[11], args[12]) == (
        *(name.encode(), bell.queue.encode(), str(asked["priority"]).encode(), expires, b"4000"),
    )
    own = [args[13], args[14], args[16], args[17], args[18], *args[20:]]
    assert own == [
        *(job_id.encode(), asked["seen"], b"1" if asked["force"] else b"0", bell.message, asked["lane"].encode()),
        *(str(asked["key_rate"]).encode(), str(asked["key_bytes"]).encode(), b"1" if asked["abandonable"] else b"0"),
        *(each.encode() if isinstance(each, str) else each for each in (asked["params"], asked["principal"])),
        what.topic.encode(),
    ]


def test_each_has_an_epoch_of_its_own(submissions: Submissions) -> None:
    """Which is a text that positions may have."""
    bell = Bell(queue="default", message=b"", list="")
    fixed: dict[str, Any] = {"params": "{}", "principal": "", "seen": b"", "force": False, "priority": 5, "lane": ""}
    fixed |= {"asker": "", "key_rate": 0, "key_bytes": 0, "expires": None, "abandonable": False}
    made = [command(submissions.pack(key(), job_id="one", bell=bell, **fixed))[-11] for _ in range(50)]
    assert len(set(made)) == 50
    assert all(len(each) == 8 and each.isalnum() for each in made)
