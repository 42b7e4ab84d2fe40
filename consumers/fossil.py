"""A text as its difference from an older one, in the delta format of the Fossil version control system.

Pure bytes.  The format is that of https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki, which clients of the
Centrifuge protocol read; the way to a delta is its own, made for JSON in which a few places have changed.  Invariant:
applied to `base`, `encode(base, news)` gives `news`, whatever the two are; it costs a bounded number of steps of the
interpreter, and beyond that only what comparing and copying the bytes costs.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
#: Bytes that have to be the same to be looked at: a copy of fewer is hardly shorter than the bytes themselves.
_KEY = 8
#: Most changes are small: so many places of `news` behind a copy are looked for nearby, in so many bytes of `base`.
_NEAR, _NEARBY = 32, 64
#: Behind a copy of fewer bytes than that what is new may have been put in between: so much is worth going far for.
_LONG = 32
#: Bytes between the places of `base` that are found from afar, at least; and how many such places there are at most.
_STRIDE, _PLACES = 4, 8192
#: Steps after which the rest is taken as it is, some 5 to 10 ms; a copy is as dear as many looks.
_STEPS, _COPY_STEPS = 32_000, 16


def encode(base: bytes, news: bytes) -> bytes:
    """The delta that makes `news` out of `base`.  It may be longer than `news`."""
    delta = _Delta(base, news)
    head = _same_after(base, 0, news, 0)
    tail = _same_at_end(base, news, min(len(base), len(news)) - head)
    delta.copy(0, head)
    _match(delta, head, len(base) - tail, len(news) - tail)
    delta.copy(len(base) - tail, len(news))
    return delta.end()


class _Delta:
    """A delta in the making: `news` up to `done` is told."""

    def __init__(self, base: bytes, news: bytes) -> None:
        self.base, self.news = base, news
        self.done = 0
        self._parts = [_number(len(news)), b"\n"]

    def copy(self, start: int, until: int, begin: int | None = None) -> None:
        """`news` from `begin` (`done` unless given) to `until` stands in `base` at `start`; what is before is new."""
        if begin is not None:
            self.insert(begin)
        if until > self.done:
            self._parts += (_number(until - self.done), b"@", _number(start), b",")
            self.done = until

    def insert(self, until: int) -> None:
        """`news` up to `until` is new."""
        if until > self.done:
            self._parts += (_number(until - self.done), b":", self.news[self.done : until])
            self.done = until

    def end(self) -> bytes:
        self.insert(len(self.news))
        self._parts += (_number(_checksum(self.news)), b";")
        return b"".join(self._parts)


def _match(delta: _Delta, start: int, base_end: int, news_end: int) -> None:
    """Tell `news` up to `news_end`, of which nothing is known but that it begins otherwise than `base` at `start`."""
    base, news = delta.base, delta.news
    places: dict[bytes, list[int]] | None = None
    at, behind = start, start  # in `news`; in `base`, behind the last copy
    last, steps = news_end - _KEY, _STEPS
    missed, same = 0, _LONG
    while at <= last and steps > 0:
        key = news[at : at + _KEY]
        near = missed < _NEAR
        there = base.find(key, behind, behind + _NEARBY) if near else -1
        if there < 0 and (not near or same < _LONG):
            places = _places(base, start, base_end) if places is None else places
            there = _nearest(places.get(key), behind)
            if there >= 0 and near and _same_after(base, there, news, at) < _LONG:
                there = -1
                steps -= _COPY_STEPS // 2
        if there < 0:
            missed += 1
            at += 1 + missed // 64  # where nothing is the same for long, only what is the same for long is found
            steps -= 1
            continue
        begin = at
        while begin > delta.done and there and base[there - 1] == news[begin - 1]:
            begin, there = begin - 1, there - 1
        steps -= _COPY_STEPS + at - begin
        same = _same_after(base, there, news, begin)
        at = min(news_end, begin + same)
        delta.copy(there, at, begin)
        behind = there + at - begin
        missed = 0
    delta.insert(news_end)


def _nearest(places: list[int] | None, behind: int) -> int:
    """Of several places the first behind the last copy: what has not moved keeps its order."""
    if places is None:
        return -1
    return places[min(bisect_left(places, behind), len(places) - 1)]


def _places(base: bytes, start: int, end: int) -> dict[bytes, list[int]]:
    """Where in `base` each key stands, in order; not every place, but evenly spread ones."""
    stride = max(_STRIDE, (end - start) // _PLACES)
    places: dict[bytes, list[int]] = {}
    for at in range(start, end - _KEY + 1, stride):
        places.setdefault(base[at : at + _KEY], []).append(at)
    return places


def _same_after(one: bytes, i: int, other: bytes, j: int) -> int:
    """How many bytes from `i` and `j` on are the same."""
    limit = min(len(one) - i, len(other) - j)
    same, step, growing = 0, 2 * _KEY, True
    while step:
        if same + step <= limit and one[i + same : i + same + step] == other[j + same : j + same + step]:
            same += step
        else:
            growing = False
        step = 2 * step if growing else step // 2
    return same


def _same_at_end(one: bytes, other: bytes, limit: int) -> int:
    """How many bytes at the ends are the same, at most `limit`."""
    i, j = len(one), len(other)
    same, step, growing = 0, 2 * _KEY, True
    while step:
        if same + step <= limit and one[i - same - step : i - same] == other[j - same - step : j - same]:
            same += step
        else:
            growing = False
        step = 2 * step if growing else step // 2
    return same


def _number(value: int) -> bytes:
    digits = bytearray()
    while value:
        digits.append(_DIGITS[value & 63])
        value >>= 6
    digits.reverse()
    return bytes(digits) or b"0"


def _checksum(text: bytes) -> int:
    """The sum of the text's big-endian words of 32 bits, the last filled up with zeros, modulo 2**32."""
    words = array("I", text + bytes(-len(text) % 4))
    if sys.byteorder == "little":
        words.byteswap()
    return sum(words) & 0xFFFF_FFFF
