"""Bytes of plain values: whole ones are read, everything else is nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cache_layer.kv import INTEGER, Kept, Space, body, judge

GENERATION = b"12345678"
KEPT = st.builds(Kept, kind=st.sampled_from([b"j", b"m", b"p"]), payload=st.binary(max_size=50))


@given(kept=KEPT)
def test_a_whole_value_is_read(kept: Kept) -> None:
    """As it was written, under the generation it was written."""
    found = judge(GENERATION + body(kept), GENERATION)
    assert (found.kept, found.corrupt) == (kept, False)


@given(kept=KEPT)
def test_a_value_of_another_generation_is_a_miss_and_no_damage(kept: Kept) -> None:
    """Also when there is no generation at all."""
    raw = b"otherone" + body(kept)
    for generation in (GENERATION, None):
        found = judge(raw, generation)
        assert (found.kept, found.corrupt) == (None, False)


@given(kept=KEPT, at=st.integers(8, 80), with_=st.integers(1, 255))
def test_a_changed_byte_is_damage(kept: Kept, at: int, with_: int) -> None:
    """Of kind, length, checksum or payload."""
    raw = bytearray(GENERATION + body(kept))
    position = 8 + (at - 8) % (len(raw) - 8)
    raw[position] ^= with_
    found = judge(bytes(raw), GENERATION)
    if position == 12:  # the kind: another one, which its reader judges
        assert found.corrupt or (found.kept is not None and found.kept.kind != kept.kind)
    else:
        assert (found.kept, found.corrupt) == (None, True)


@given(kept=KEPT | st.integers().map(lambda n: Kept(kind=INTEGER, payload=b"%d" % n)), cut=st.integers(1, 80))
def test_a_shortened_or_longer_value_is_damage(kept: Kept, cut: int) -> None:
    """Numbers too, whose digits would still be a number."""
    raw = GENERATION + body(kept)
    for damaged in (raw[: max(0, len(raw) - cut)], raw + b"1"):
        assert judge(damaged, GENERATION).kept is None
        assert judge(damaged, GENERATION).corrupt


@given(raw=st.binary(max_size=60))
def test_foreign_bytes_are_nothing(raw: bytes) -> None:
    """And never an exception."""
    assert judge(raw, GENERATION).kept is None


def test_nothing_is_nothing() -> None:
    """What the store says of a key that is not there, or holds another type."""
    found = judge(None, GENERATION)
    assert (found.kept, found.corrupt) == (None, False)


def test_namespaces_do_not_meet() -> None:
    """Whatever a prefix contains, no key of one namespace lies in another, and all have one hash tag."""
    spaces = [Space(namespace) for namespace in ("a", "a:b", "a}:e", "a}:e:{b", "a%3Ab", "")]
    names = [space.name(key) for space in spaces for key in ("x", "b}:e:x", "")]
    assert len(set(names)) == len(names)
    for one in spaces:
        assert one.lease("x").partition("{")[2].partition("}")[0] == one.name("x").partition("{")[2].partition("}")[0]
        assert not any(other.prefix.startswith(one.prefix) for other in spaces if other is not one)
        assert not one.lease("x").startswith(one.prefix)
