"""How much of an inbox is kept.

Invariant: what is forgotten goes from the bottom, so that what is left has no hole.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Max, OuterRef, Subquery
from django.db.models.functions import Now

from asgi_app.noticing import entries
from asgi_app.noticing.tables import Inbox, Notification

#: Notifications of one inbox: as many as one reply to a client that was away can hold.
KEPT = 1000
#: Seconds a notification is kept: who was away for a quarter of a year starts anew.
KEPT_SECONDS = 90 * 86_400
#: More than `KEPT` by this many is let be, so that an inbox is not trimmed at each notification.
_SLACK = 50
#: Inboxes, or rows, that are looked at together.
_BATCH = 500


def trim(*, seconds: float = KEPT_SECONDS, most: int = KEPT) -> int:
    """Forget what is too old or too much of the inboxes where something is; how many rows.  At most a batch of each."""
    return _trim_old(seconds) + _trim_long(most)


def _trim_old(seconds: float) -> int:
    """Below the newest of the old ones everything goes: it is older still, whatever the clocks said."""
    rows = Notification.objects.using(entries.database())
    old = rows.filter(created_at__lt=Now() - timedelta(seconds=seconds)).order_by("created_at")
    oldest = set(old.values_list("inbox_id", flat=True)[:_BATCH])
    tops = rows.filter(inbox_id__in=oldest, created_at__lt=Now() - timedelta(seconds=seconds))
    done = 0
    for key, top in tops.values_list("inbox_id").annotate(Max("number")).order_by():
        done += rows.filter(inbox_id=key, number__lte=top)._raw_delete(entries.database())
    return done


def _trim_long(most: int) -> int:
    alias = entries.database()
    rows = Notification.objects.using(alias)
    bottom = rows.filter(inbox_id=OuterRef("pk")).order_by("number").values("number")[:1]
    long = Inbox.objects.using(alias).filter(last__gt=most + _SLACK).annotate(bottom=Subquery(bottom))
    done = 0
    for key, last in long.filter(bottom__lte=F("last") - most - _SLACK).values_list("key", "last")[:_BATCH]:
        done += rows.filter(inbox_id=key, number__lte=last - most)._raw_delete(alias)
    return done
