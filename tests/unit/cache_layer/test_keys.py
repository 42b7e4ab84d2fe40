"""Names in the store: different questions never share one, and all of them lie in one slot."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.keys import Key, Names, digest
from tests.support.keys import key

quick = settings(max_examples=80, deadline=None)

PART = st.text(max_size=8) | st.text("sb:0123456789", max_size=8) | st.binary(max_size=8)
PARTS = st.lists(PART, max_size=5)


@quick
@given(PARTS, PARTS)
def test_different_parts_have_different_digests(one: list[str | bytes], other: list[str | bytes]) -> None:
    """Two lists of parts have the same digest exactly if they are the same list."""
    assert (digest(*one) == digest(*other)) == (one == other)


@quick
@given(
    st.text("ab:|,\0", max_size=12), st.integers(0, 12), st.integers(0, 12), st.sampled_from(["", ":", "|", ",", "\0"])
)
def test_no_separator_moves_a_boundary(text: str, cut: int, other: int, separator: str) -> None:
    """The same characters divided at another place, or with a separator between, are another list."""
    cut, other = min(cut, len(text)), min(other, len(text))
    assert (digest(text[:cut], text[cut:]) == digest(text[:other], text[other:])) == (cut == other)
    assert digest(text[:cut], text[cut:]) != digest(text[:cut] + separator + text[cut:])
    assert digest(text, "") != digest(text)


@quick
@given(st.text(max_size=8))
def test_text_and_its_bytes_are_different_parts(text: str) -> None:
    """A text never stands for the bytes it is encoded to."""
    assert digest(text) != digest(text.encode())


def test_a_digest_is_128_bits_and_stays() -> None:
    """Keys of one version are found by the next: the digest of given parts is a constant."""
    assert digest("a", b"b") == digest("a", b"b")
    assert digest() == "cae66941d9efbd404e4d88758ea67670"
    assert len(digest("a")) == 32


def everything(names: Names, what: Key) -> list[str]:
    """Each name the store knows for `what` and for texts that look like it."""
    return [
        names.entry(what),
        names.version(what),
        names.failure(what),
        names.lease(what),
        names.channel(what),
        *names.tags(what),
        names.job(what.digest),
        names.job_channel(what.digest),
        names.firing(what.digest),
        names.held(what.digest),
        names.waiting(what.digest),
        names.queues(what.digest),
        names.history(what.digest),
        names.role(what.digest),
        names.broker_prefix() + what.digest,
        names.brought(what.digest),
        names.heard(what.digest),
        *once(names),
    ]


def once(names: Names) -> list[str]:
    """What there is one of in a namespace."""
    return [
        *(names.live(), names.all_jobs(), names.abandonable(), names.run()),
        *(names.lives(), names.cancels(), names.losses()),
        *(names.invalidations(), names.near()),
    ]


def test_no_two_things_share_a_name() -> None:
    """Entry, version, failure, lease, channels, tags, jobs and roles of two questions are all different names."""
    names = Names("millpond")
    one, other = key("a.b", tags=("x", "y")), key("a.c", tags=("z",))
    made = sorted([*everything(names, one), *everything(names, other)])
    twice = [name for name, following in pairwise(made) if name == following]
    assert twice == sorted([names.everything(), *once(names)])


def test_all_names_of_a_namespace_lie_in_one_slot() -> None:
    """Each name carries the namespace as its only hash tag, so that scripts and transactions may touch all of them."""
    for name in everything(Names("pond-2"), key(tags=("a{b}c",))):
        assert name.index("{pond-2}") == name.index("{")


def test_namespaces_share_no_name() -> None:
    """Two deployments on one store never meet."""
    what = key(tags=("x",))
    assert not set(everything(Names("a"), what)) & set(everything(Names("b"), what))
