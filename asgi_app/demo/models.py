"""Two tables: the flights, and the one clock by which the replay lets the year run on.

Times are New York's wall clock, as on the boards of its airports, stored as if they were UTC: the replay knows no time
zones.  `ReplayClock.ticked_at` alone is real time.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models

#: Where the archive ends and the replay begins: a flight from here on is a replayed one, and no other is.
REPLAY_START = datetime(2014, 1, 1, tzinfo=UTC)
DEFAULT_SPEED = 600


class Flight(models.Model):
    """One scheduled departure; it appears at its scheduled time with the delay it came to have."""

    departs = models.DateTimeField(help_text="scheduled, to the minute")
    day = models.DateField(help_text="the date of departs, kept for grouping")
    hour = models.PositiveSmallIntegerField(help_text="the hour of departs, kept for grouping")
    carrier = models.CharField(max_length=2)
    number = models.PositiveSmallIntegerField()
    origin = models.CharField(max_length=3)
    dest = models.CharField(max_length=3)
    delay = models.SmallIntegerField(null=True, help_text="minutes after the schedule; null: cancelled")
    replayed = models.BooleanField(default=False, help_text="a flight of 2013 that departs again")

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["departs", "origin", "carrier", "number"], name="demo_flight_once"),
        )
        indexes = (
            # Every column the resources read: a month is one walk along the index, without a visit to the table.
            models.Index(
                fields=["departs", "carrier", "origin", "dest", "day", "hour", "delay"], name="demo_flight_covers"
            ),
        )

    def __str__(self) -> str:
        return f"{self.carrier}{self.number} {self.origin}-{self.dest} {self.departs:%Y-%m-%d %H:%M}"


class ReplayClock(models.Model):
    """The single row that says what time it is in the replay; it exists if and only if the archive is loaded."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    now = models.DateTimeField(default=REPLAY_START, help_text="simulated; every flight before it has departed")
    speed = models.PositiveIntegerField(default=DEFAULT_SPEED, help_text="simulated seconds per second; 0: paused")
    ticked_at = models.DateTimeField(help_text="real time at which now was last set")

    def __str__(self) -> str:
        return f"{self.now:%Y-%m-%d %H:%M} at {self.speed}x"

    @classmethod
    def current(cls) -> ReplayClock:
        """The clock; before the archive is loaded, one that stands at the start of the replay."""
        return cls.objects.first() or cls(speed=0)
