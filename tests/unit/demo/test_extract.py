"""The extract gives back what was packed, and refuses to be another file than the one it was."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.demo.extract import EPOCH, Departure, ExtractDamaged, pack, read, read_csv, unpack

departures = st.builds(
    Departure,
    departs=st.integers(0, 60_000).map(lambda minutes: EPOCH + timedelta(minutes=minutes)),
    carrier=st.text("ABC9", min_size=2, max_size=2),
    number=st.integers(1, 8500),
    origin=st.sampled_from(["EWR", "JFK", "LGA"]),
    dest=st.text("XYZ", min_size=3, max_size=3),
    delay=st.none() | st.integers(-43, 1301),
)


def order(flight: Departure) -> tuple[object, ...]:
    return flight.departs, flight.origin, flight.carrier, flight.number


@settings(max_examples=20, deadline=None)  # each takes the memory of the strongest compression: 30 ms
@given(st.lists(departures, max_size=40, unique_by=order))
def test_what_is_packed_comes_back_in_the_order_of_departure(flights: list[Departure]) -> None:
    """`unpack(pack(flights))` is the flights, sorted."""
    assert list(unpack(pack(flights))) == sorted(flights, key=order)


def test_a_damaged_file_is_refused_before_its_first_flight(tmp_path: Path) -> None:
    """One bit differs: ExtractDamaged names the file and both sums."""
    packed = pack([Departure(EPOCH, "UA", 1, "EWR", "ORD", 3)])
    sound = hashlib.sha256(packed).hexdigest()
    file = tmp_path / "flights.xz"
    file.write_bytes(packed)
    assert next(read(file, sound)).carrier == "UA"
    file.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    with pytest.raises(ExtractDamaged, match=rf"flights\.xz.*{sound}"):
        read(file, sound)


def test_the_published_csv_is_read_by_its_local_schedule(tmp_path: Path) -> None:
    """The schedule, not the actual time; `NA` is a cancelled flight."""
    file = tmp_path / "flights.csv"
    file.write_text(
        "year,month,day,dep_time,sched_dep_time,dep_delay,carrier,flight,origin,dest,hour,minute,time_hour\n"
        "2013,1,1,533,529,4,UA,1714,LGA,IAH,5,29,2013-01-01T10:00:00Z\n"
        "2013,9,30,NA,1159,NA,MQ,3572,LGA,CLE,11,59,2013-09-30T15:00:00Z\n"
    )
    first, second = read_csv(file)
    assert first == Departure(EPOCH + timedelta(hours=5, minutes=29), "UA", 1714, "LGA", "IAH", 4)
    assert (second.departs.month, second.departs.hour, second.departs.minute, second.delay) == (9, 11, 59, None)
