"""What the demo says by itself: the line in the chat, the alarm, and the report that is mailed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail

from asgi_app.demo import alarm, resources, tower
from asgi_app.demo.models import REPLAY_START, Flight, ReplayClock
from asgi_app.registry import registry
from tests.integration.test_demo_replay import NOW, flight

pytestmark = pytest.mark.django_db


def departed(*delays: int | None) -> None:
    """Flights that left in the hour before the clock, which runs."""
    first = REPLAY_START - timedelta(minutes=len(delays))
    Flight.objects.bulk_create(
        [flight(first + timedelta(minutes=index), index + 1, delay) for index, delay in enumerate(delays)]
    )
    ReplayClock.objects.create(speed=600, ticked_at=NOW)


def test_the_tower_says_how_the_last_hours_were() -> None:
    """In one line; nothing while the replay is paused, or when nothing was scheduled."""
    assert tower.line() is None
    departed(10, 50, None, -3)
    assert tower.line() == (
        "3 departures in the last 6 hours; 19 min late on average; 1 cancelled; worst UA2 EWR\N{EN DASH}ORD, 50 min"
    )
    Flight.objects.all().delete()
    assert tower.line() is None
    departed_all_cancelled()
    assert tower.line() == "0 departures in the last 6 hours; 1 cancelled"
    ReplayClock.objects.update(speed=0)
    assert tower.line() is None


def departed_all_cancelled() -> None:
    Flight.objects.bulk_create([flight(REPLAY_START - timedelta(minutes=1), 1, None)])


def test_the_alarm_says_since_when() -> None:
    """And an alert is what it says then; without an archive there is none."""
    calm = alarm.standing(REPLAY_START)
    assert (calm["alarm"], calm["mean"], resources.out_of_hand(calm)) == (False, None, None)
    departed(*[50] * 20)
    storm = alarm.standing(ReplayClock.current().now)
    assert (storm["alarm"], storm["since"], storm["mean"]) == (True, "2013-12-31T23:00:00", 50.0)
    assert resources.out_of_hand(storm) == "Departures are 50 minutes late on average"


def test_everybody_hears_of_it_but_who_may_not_sign_in() -> None:
    """All active users."""
    ann, _ = User.objects.create_user("ann"), User.objects.create_user("bob", is_active=False)
    assert list(resources.everybody(None)) == [ann]
    assert registry.resource("flights.alarm").alert_to is resources.everybody


def test_the_report_goes_to_the_staff_with_an_address() -> None:
    """In one message, in which nobody sees the others; nothing is sent when there is nobody."""
    departed(*[30] * 12)
    assert resources.send_report() == {"mailed": 0}
    for name, is_staff, email in (
        ("ann", True, "ann@example.org"),
        ("bob", True, "bob@example.org"),
        ("cid", True, ""),
        ("dan", False, "dan@example.org"),
    ):
        User.objects.create_user(name, email, is_staff=is_staff)
    User.objects.create_user("eva", "eva@example.org", is_staff=True, is_active=False)
    assert resources.send_report() == {"mailed": 2}
    (sent,) = mail.outbox
    assert (sent.to, sent.bcc) == ([], ["ann@example.org", "bob@example.org"])
    assert "United Air Lines Inc." in sent.body
    assert "30.0 min    100% late" in sent.body
