"""What the tower says and writes: a line in the chat now and then, and the report that goes out by mail."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.db.models import Avg, Count

from .flights import Period, airlines, delays, iso
from .models import ReplayClock

#: Simulated hours that a line in the chat is about.
HOURS = 6


def line() -> str | None:
    """The last hours of the replay in a line; None while it is paused, or when nothing was scheduled."""
    clock = ReplayClock.current()
    if clock.speed == 0:
        return None
    flights = Period(clock.now - timedelta(hours=HOURS), clock.now).flights()
    found = flights.aggregate(scheduled=Count("departs"), left=Count("delay"), mean=Avg("delay"))
    if not found["scheduled"]:
        return None
    worst = flights.filter(delay__gt=0).order_by("-delay", "departs", "number").first()
    parts = [f"{found['left']} departures in the last {HOURS} hours"]
    if found["mean"] is not None:
        parts.append(f"{found['mean']:.0f} min late on average")
    if cancelled := found["scheduled"] - found["left"]:
        parts.append(f"{cancelled} cancelled")
    if worst is not None:
        parts.append(f"worst {worst.carrier}{worst.number} {worst.origin}\N{EN DASH}{worst.dest}, {worst.delay} min")
    return "; ".join(parts)


def report() -> EmailMessage | None:
    """The delays of the last 30 days, to the staff with an address; None when there is nobody."""
    staff = get_user_model().objects.filter(is_active=True, is_staff=True).exclude(email="")
    addresses = sorted(set(staff.values_list("email", flat=True)))
    if not addresses:
        return None
    period = Period.of(0)
    rows = sorted(delays(period.flights(), "carrier"), key=lambda row: -row["mean"])
    lines = [f"{airlines()[row['carrier']]:<30}{row['mean']:>8.1f} min{row['p_late']:>8.0%} late" for row in rows]
    body = f"From {iso(period.start)} to {iso(period.end)}, mean delay of each carrier:\n\n" + "\n".join(lines) + "\n"
    # One message, and nobody sees who else gets it: a mail server takes it for all of them or for none.
    return EmailMessage(f"Delays until {period.end:%d %B %Y, %H:%M}", body, bcc=addresses)
