"""The archive as a file: every flight out of New York City in 2013, packed into columns.

Invariant: what `read` returns is byte for byte what was packed; a damaged file raises, it never loads in part.

The file is made from two CSV files as published (data/README.md says by whom):

    python -m asgi_app.demo.extract flights.csv airlines.csv

Layout, little-endian, LZMA-compressed (.xz): one line of JSON (rows, airports), then the columns one after the other.
Flights are ordered by scheduled departure, so that the minutes, kept as differences, compress well.
"""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "data" / "flights-2013.xz"
SHA256 = "c57ecaacce049ff814acf683a3b91d7b838fde734395f40192915b8d8af03d4d"
EPOCH = datetime(2013, 1, 1, tzinfo=UTC)

_CANCELLED = -(2**15)
#: (column, type code of `array`) in the order of the file.
_COLUMNS = (("gap", "H"), ("carrier", "B"), ("number", "H"), ("origin", "B"), ("dest", "B"), ("delay", "h"))


class ExtractDamaged(Exception):
    """The file is not the one this version of the demo was written for."""


class Departure(NamedTuple):
    """One scheduled flight."""

    departs: datetime  # scheduled, on New York's wall clock, as if that were UTC
    carrier: str  # two characters, IATA
    number: int  # of the flight, 1..8500
    origin: str  # EWR, JFK or LGA
    dest: str  # three letters, FAA
    delay: int | None  # minutes after the schedule, negative when early; None: cancelled


def read(path: Path = FILE, sha256: str = SHA256) -> Iterator[Departure]:
    """All flights in the order of their scheduled departure.  Raises ExtractDamaged before the first one."""
    packed = path.read_bytes()
    if (found := hashlib.sha256(packed).hexdigest()) != sha256:
        raise ExtractDamaged(f"{path}: SHA-256 is {found}, expected {sha256}")
    return unpack(packed)


def pack(flights: Iterable[Departure]) -> bytes:
    """The flights as the bytes of an extract, sorted by departure, origin, carrier and number."""
    rows = sorted(flights, key=lambda flight: (flight.departs, flight.origin, flight.carrier, flight.number))
    names = {name: sorted({getattr(row, name) for row in rows}) for name in ("carrier", "origin", "dest")}
    code = {name: {text: index for index, text in enumerate(texts)} for name, texts in names.items()}
    minutes = [(row.departs - EPOCH) // timedelta(minutes=1) for row in rows]
    columns: dict[str, Iterable[int]] = {
        "gap": (later - earlier for earlier, later in pairwise([0, *minutes])),
        "carrier": (code["carrier"][row.carrier] for row in rows),
        "number": (row.number for row in rows),
        "origin": (code["origin"][row.origin] for row in rows),
        "dest": (code["dest"][row.dest] for row in rows),
        "delay": (_CANCELLED if row.delay is None else row.delay for row in rows),
    }
    head = json.dumps({"rows": len(rows), **names}, separators=(",", ":")).encode() + b"\n"
    body = b"".join(_little_endian(array(kind, columns[name])).tobytes() for name, kind in _COLUMNS)
    return lzma.compress(head + body, preset=9 | lzma.PRESET_EXTREME)


def unpack(packed: bytes) -> Iterator[Departure]:
    """The reverse of `pack`."""
    line, _, body = lzma.decompress(packed).partition(b"\n")
    head = json.loads(line)
    columns: dict[str, array[int]] = {}
    offset = 0
    for name, kind in _COLUMNS:
        end = offset + array(kind).itemsize * head["rows"]
        columns[name] = _little_endian(array(kind, body[offset:end]))
        offset = end
    return map(
        Departure,
        (EPOCH + timedelta(minutes=minute) for minute in accumulate(columns["gap"])),
        _named(head["carrier"], columns["carrier"]),
        columns["number"],
        _named(head["origin"], columns["origin"]),
        _named(head["dest"], columns["dest"]),
        (None if delay == _CANCELLED else delay for delay in columns["delay"]),
    )


def read_csv(path: Path) -> Iterator[Departure]:
    """The flights of the published flights.csv, `NA` being its word for a delay that never came to be."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            year, month, day, hour, minute = (int(row[name]) for name in ("year", "month", "day", "hour", "minute"))
            departs = datetime(year, month, day, hour, minute, tzinfo=UTC)
            delay = None if row["dep_delay"] == "NA" else int(row["dep_delay"])
            yield Departure(departs, row["carrier"], int(row["flight"]), row["origin"], row["dest"], delay)


def _named(names: Sequence[str], codes: Iterable[int]) -> Iterator[str]:
    return (names[code] for code in codes)


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column


if __name__ == "__main__":
    FILE.write_bytes(pack(read_csv(Path(sys.argv[1]))))
    (FILE.parent / "airlines.csv").write_bytes(Path(sys.argv[2]).read_bytes())
    print(f'{FILE}: {FILE.stat().st_size} bytes\nSHA256 = "{hashlib.sha256(FILE.read_bytes()).hexdigest()}"')
