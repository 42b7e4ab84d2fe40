"""The tables of the inboxes.

Invariant: the numbers of an inbox grow by one with each notification, in the order of the commits, for each is given
under a lock on the inbox's row; old ones go from the bottom only.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from cache_layer.keys import digest

#: Characters of the id of who has an inbox.
LONGEST_USER = 255


def key_of(user_id: str) -> str:
    """By what an inbox is found: databases differ in which texts they take for equal."""
    return digest("inbox", user_id)


def new_epoch() -> str:
    """Of an inbox that begins."""
    return secrets.token_hex(4)


class Inbox(models.Model):
    """The inbox of one principal, whose id need not be that of a user here; see `asgi_app/notices.py`."""

    #: `key_of` the id.
    key = models.CharField(max_length=32, primary_key=True, editable=False)
    #: Whose it is, to be read by people.
    principal = models.CharField(max_length=LONGEST_USER, editable=False)
    #: The user it goes with; empty for who is none here.
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.CASCADE, related_name="millpond_inbox"
    )
    epoch = models.CharField(max_length=8, default=new_epoch, editable=False)
    #: Number of the newest notification.
    last = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        verbose_name_plural = "inboxes"

    def __str__(self) -> str:
        return f"inbox of {self.principal}"


class Notification(models.Model):
    """Something its reader has been told."""

    inbox = models.ForeignKey(Inbox, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    #: Its id for everybody: 1, 2, 3, … within the inbox.
    number = models.PositiveBigIntegerField()
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    level = models.CharField(max_length=10)
    #: JSON, "" for none.
    data = models.TextField(default="")
    #: Digest of the collapse key, "" without one.
    collapse = models.CharField(max_length=32, default="", editable=False)
    #: Number of the one it takes the place of.
    replaces = models.PositiveBigIntegerField(null=True)
    #: A newer one has taken its place: it is told again to who was away, and else not shown any more.
    replaced = models.BooleanField(default=False)
    #: By the clock of the database, as all times here.
    created_at = models.DateTimeField(db_default=Now())
    #: Not to be shown after.
    expires_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["inbox", "number"], name="millpond_notification_number")]
        indexes = [
            models.Index(fields=["inbox", "collapse"], name="millpond_notification_same"),
            models.Index(fields=["created_at"], name="millpond_notification_age"),
        ]

    def __str__(self) -> str:
        return self.title


class Asked(models.Model):
    """Somebody asked for a computation and was told to come back (202): the one who shall hear of its end."""

    key = models.CharField(max_length=32, primary_key=True, editable=False)
    #: Not a foreign key: computations have their records in the store.
    job = models.UUIDField()
    principal = models.CharField(max_length=LONGEST_USER)
    #: Name of the resource, and the topic of the value.
    name = models.CharField(max_length=200)
    topic = models.TextField()
    #: When to look after it (again); empty: its end was told, and is not told again.
    due_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "asked"
        indexes = [
            models.Index(fields=["job"], name="millpond_asked_job"),
            models.Index(fields=["due_at"], name="millpond_asked_due"),
        ]

    def __str__(self) -> str:
        return f"{self.topic} for {self.principal}"


class Alert(models.Model):
    """Whether what a rule watches for was true of the last value of a topic: it is told when that begins."""

    #: Digest of the topic and of what of the principal belongs to it.
    key = models.CharField(max_length=32, primary_key=True, editable=False)
    topic = models.TextField(editable=False)
    raised = models.BooleanField(default=False)
    #: Of the value it was last true or false of.
    epoch = models.CharField(max_length=32, default="")
    offset = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.topic


def in_seconds(seconds: float) -> Any:
    """A moment by the clock of the database."""
    return Now() + timedelta(seconds=seconds)


def moment(at: datetime | None) -> str | None:
    """As users see a time."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
