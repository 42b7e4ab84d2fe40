"""A memory in two generations: bounded, and what is asked for again stays."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from asgi_app.generations import Generations


@dataclass(eq=False)
class Thing:
    size: int = 0


def test_what_is_asked_for_outlives_what_is_not() -> None:
    """However much comes and goes."""
    memory: Generations[Thing] = Generations(3, 1000)
    hot, cold = Thing(), Thing()
    memory.keep("hot", hot)
    memory.keep("cold", cold)
    for number in range(20):
        memory.keep(number, Thing())
        assert memory.get("hot") is hot
    assert memory.get("cold") is None


def test_bytes_count_as_they_grow() -> None:
    """Those that are large make others go."""
    memory: Generations[Thing] = Generations(100, 10)
    for number in range(50):
        thing = Thing()
        memory.keep(number, thing)
        memory.grown(thing, 6)
        assert sum(one.size for one in map(memory.get, list(memory)) if one) <= 2 * (10 + 6)


def test_what_grows_without_anything_new_is_bounded_too() -> None:
    """Few names whose things become large."""
    memory: Generations[Thing] = Generations(100, 10)
    for name in range(20):
        memory.keep(name, Thing())
    for name in range(20):
        thing = memory.get(name)
        if thing is not None:
            memory.grown(thing, 6)
    assert sum(one.size for one in (*memory._young.values(), *memory._old.values())) <= 2 * (10 + 6)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 5))), st.integers(1, 4), st.integers(0, 12))
def test_it_gives_what_was_kept_and_is_bounded(steps: list[tuple[bool, int, int]], most: int, most_bytes: int) -> None:
    """Or nothing."""
    memory: Generations[Thing] = Generations(most, most_bytes)
    kept: dict[int, Thing] = {}
    for keeps, name, size in steps:
        if keeps:
            kept[name] = Thing(size)
            memory.keep(name, kept[name])
        else:
            assert memory.get(name) in (None, kept.get(name))
        assert len(memory) <= 2 * most
        assert len(set(memory)) == len(memory)
