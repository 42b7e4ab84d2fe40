"""Random bytes of which many are drawn at once are each given out once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from cache_layer.chance import drawn


def test_nothing_is_drawn_twice() -> None:
    """However many threads draw, and over the ends of what is drawn at once."""
    with ThreadPoolExecutor(4) as threads:
        found = [each for some in threads.map(lambda _: [drawn(16) for _ in range(1000)], range(4)) for each in some]
    assert len(set(found)) == 4000
    assert {len(each) for each in found} == {16}
    assert [len(drawn(count)) for count in (0, 1, 10)] == [0, 1, 10]


def test_a_forked_child_draws_others() -> None:
    """What its parent still had is its parent's."""
    drawn(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(drawn(16) for _ in range(10)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 160)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 160
    assert not {drawn(16) for _ in range(10)} & {theirs[at : at + 16] for at in range(0, 160, 16)}
