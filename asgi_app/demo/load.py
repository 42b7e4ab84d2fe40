"""Fills the database with the flights of 2013.

Invariant: the archive is there whole or not at all.  The rows and the clock that vouches for them are one transaction,
so a load that is interrupted leaves nothing behind, and one that finds the clock has nothing to do.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from .extract import Departure, read
from .models import Flight, ReplayClock

#: Number of flights in the extract.
TOTAL = 336_776
_BATCH = 10_000
_COLUMNS = ("departs", "day", "hour", "carrier", "number", "origin", "dest", "delay", "replayed")


def load(progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Load the archive unless it is loaded, and return the number of flights written.

    Takes some 4 s on SQLite.  `progress(done, total)` is called after every batch; what it raises undoes the load.
    Two loads at once are safe: the second waits for the first, or fails on a lock after the database's own timeout.
    """
    if ReplayClock.objects.exists():
        return 0
    try:
        with transaction.atomic():
            # In bulk: nothing is signalled, so that a load needs no store.  The first tick tells whoever watches.
            ReplayClock.objects.bulk_create([ReplayClock(ticked_at=timezone.now())])
            return _insert(read(), progress)
    except IntegrityError:
        if not ReplayClock.objects.exists():  # then it was not another load that was faster
            raise
        return 0


def _insert(flights: Iterator[Departure], progress: Callable[[int, int], None]) -> int:
    # Not bulk_create: an object and a clause for every row make it five times slower.
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, _COLUMNS))
    places = ", ".join(["%s"] * len(_COLUMNS))
    table = quote(Flight._meta.db_table)
    statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608  (constants, no input)
    done = 0
    with connection.cursor() as cursor:
        while batch := list(_rows(islice(flights, _BATCH))):
            cursor.executemany(statement, batch)
            done += len(batch)
            progress(done, TOTAL)
    return done


def _rows(flights: Iterable[Departure]) -> Iterator[tuple[Any, ...]]:
    as_datetime, as_date = connection.ops.adapt_datetimefield_value, connection.ops.adapt_datefield_value
    for departs, carrier, number, origin, dest, delay in flights:
        when = as_datetime(departs)
        yield when, as_date(departs.date()), departs.hour, carrier, number, origin, dest, delay, False
