"""Random bytes for names that are made often: of the system's, many at a time.

Invariant: no byte is given out twice, nor to a forked child what its parent has.
"""

from __future__ import annotations

import os

#: Bytes of one block, and blocks that one call of the system brings: it costs more than all else that a name does.
_BLOCK, _AT_ONCE = 16, 256

_blocks: list[bytes] = []


def drawn(count: int) -> bytes:
    """At most 16 bytes that nobody can foresee; in any thread."""
    try:
        block = _blocks.pop()  # one step: no other thread has this one
    except IndexError:
        block, *more = _drawn_anew()
        _blocks.extend(more)
    return block[:count]


def _drawn_anew() -> list[bytes]:
    whole = os.urandom(_BLOCK * _AT_ONCE)
    return [whole[at : at + _BLOCK] for at in range(0, len(whole), _BLOCK)]


os.register_at_fork(after_in_child=_blocks.clear)
