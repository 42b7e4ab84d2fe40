"""What is true even when all of the store is lost."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from asgi_app.declaring.options import LATENESS
from asgi_app.noticing.tables import Alert, Asked, Inbox, Notification

__all__ = [
    "Alert",
    "ApiToken",
    "Asked",
    "Inbox",
    "Job",
    "Notification",
    "Outbox",
    "ScheduleEntry",
    "ScheduleState",
    "Webhook",
    "WebhookDelivery",
]


class ApiToken(models.Model):
    """A bearer token of a user; only the SHA-256 of the token is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="millpond_tokens")
    digest = models.CharField(max_length=64, unique=True)
    #: Space-separated: read run publish invalidate.
    scopes = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)
    #: None: never.
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"token {self.pk} of {self.user}"


class Outbox(models.Model):
    """What a committed transaction leaves to be done outside of the database; see `asgi_app/outbox.py`."""

    #: Made here and not by the database: MySQL does not tell the numbers of several rows.
    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    #: `invalidate`.
    kind = models.CharField(max_length=32)
    #: JSON.
    payload = models.TextField()
    #: By the clock of the database: rows of several machines are compared.
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "outbox"
        indexes = [models.Index(fields=["kind", "created_at"], name="millpond_outbox_due")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.created_at}"


class Job(models.Model):
    """One run of an action: its record, and (while `rung_at` is empty) the entry of the outbox that says it is to run.

    It is written in the transaction of whoever asks for it.  All its times are by the clock of the database.  What may
    become of it says `tasks/LIFECYCLE.md`; only `asgi_app/ledger.py` changes it.
    """

    #: UUIDv7: their order is that of creation.
    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(max_length=200)
    #: JSON object, complete.
    params = models.TextField()
    queue = models.CharField(max_length=100)
    #: 0 to 9, 9 the most urgent.
    priority = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10)
    #: How often its status has changed; every write asks for the number it has read.
    transitions = models.PositiveIntegerField(default=1)
    #: Number of the newest attempt: only that one may write.
    fence = models.PositiveIntegerField(default=0)
    #: Attempts that raised, whose worker died, and that were interrupted through no fault of theirs.
    failures = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveIntegerField(default=0)
    #: Who asked: id of a user, "" the public, "*" the service.
    owner = models.CharField(max_length=150)
    #: On whose behalf it runs, as JSON.
    principal = models.TextField()
    #: Digest of owner, action and Idempotency-Key.
    idempotency = models.CharField(max_length=32, null=True, unique=True, editable=False)
    #: The job it runs again (a replayed dead letter).
    retry_of = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    #: When it was put on its queue; empty: somebody has to.
    rung_at = models.DateTimeField(null=True)
    #: Not to be run before (a retry waits).
    due_at = models.DateTimeField(null=True)
    #: Not to be started after.
    expires_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    #: Which worker process has it.
    worker = models.CharField(max_length=120, default="")
    #: When somebody asked for its end.
    cancel_at = models.DateTimeField(null=True)
    #: Problem of the last attempt (RFC 9457), "" for none.
    error = models.TextField(default="")
    #: What its function returned, as JSON, "" for nothing yet.
    result = models.TextField(default="")
    #: The last attempts, as a JSON list of objects.
    history = models.TextField(default="[]")

    class Meta:
        indexes = [
            models.Index(fields=["status", "due_at"], name="millpond_job_status"),
            models.Index(fields=["owner", "-id"], name="millpond_job_owner"),
            models.Index(fields=["name", "-id"], name="millpond_job_name"),
            models.Index(fields=["finished_at"], name="millpond_job_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"

    def fields(self) -> dict[str, str]:
        """As a record of the store has them: what `jobs.public` reads."""
        return {
            "id": str(self.id),
            "kind": "action",
            "name": self.name,
            "params": self.params,
            "queue": self.queue,
            "priority": str(self.priority),
            "status": self.status,
            "version": str(self.transitions * REPORTS),
            "fence": str(self.fence),
            "failures": str(self.failures),
            "crashes": str(self.crashes),
            "owner": self.owner,
            "principal": self.principal,
            "created_at": _ms(self.created_at),
            "started_at": _ms(self.started_at),
            "finished_at": _ms(self.finished_at),
            "worker": self.worker,
            "cancel": _ms(self.cancel_at),
            "error": self.error,
            "result": self.result,
            "history": self.history,
            "retry_of": str(self.retry_of or ""),
        }

    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON builtins."""
        found: dict[str, Any] = json.loads(self.params)
        return found


class Webhook(models.Model):
    """An address of a user that wants to be told how the user's jobs have ended; see `asgi_app/webhooks.py`."""

    #: UUIDv7, as of a delivery: their order is that of creation.
    id = models.UUIDField(primary_key=True, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="millpond_webhooks")
    url = models.CharField(max_length=2000)
    #: JSON list of globs on the names of actions.
    actions = models.TextField(default='["*"]')
    #: `whsec_` and base64; kept as it is, because it signs.
    secret = models.CharField(max_length=100, editable=False)
    #: The one before, which signs along until then.
    old_secret = models.CharField(max_length=100, default="", editable=False)
    old_secret_until = models.DateTimeField(null=True, editable=False)
    active = models.BooleanField(default=True)
    #: Why it is not active.
    disabled_reason = models.CharField(max_length=200, default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"webhook {self.pk}"


class WebhookDelivery(models.Model):
    """One message to one webhook, written with the end of the job it tells of; see `tasks/webhooks.py`."""

    #: Also the `webhook-id` of every attempt: by it a receiver knows what it has seen.
    id = models.UUIDField(primary_key=True, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    #: Empty for a test.  No foreign key: jobs are forgotten on their own.
    job = models.UUIDField(null=True, editable=False)
    #: `job.succeeded`, `.failed`, `.cancelled`, `.dead`, `.expired` or `webhook.test`.
    event = models.CharField(max_length=30)
    #: JSON, sent and signed byte for byte.
    payload = models.TextField()
    #: `pending`, `delivered` or `dead`.
    status = models.CharField(max_length=10, default="pending")
    attempts = models.PositiveSmallIntegerField(default=0)
    #: When to try (again); whoever tries puts it off first, so that nobody else tries meanwhile.
    due_at = models.DateTimeField(db_default=Now())
    #: What the last attempt was answered: a status, or else an error.
    last_status = models.PositiveSmallIntegerField(null=True)
    last_error = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["status", "due_at"], name="millpond_delivery_due"),
            models.Index(fields=["webhook", "-id"], name="millpond_delivery_of"),
            models.Index(fields=["created_at"], name="millpond_delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.pk}"


class ScheduleEntry(models.Model):
    """Something that happens at times, beside what the declarations say; every scheduler reads it again and again."""

    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=10, choices=[("action", "run an action"), ("resource", "refresh a resource")])
    what = models.CharField(max_length=200, help_text="The name of a declared action or resource.")
    params = models.JSONField(default=dict, blank=True, help_text='A JSON object, e.g. {"days": 7}.')
    crontab = models.CharField(
        max_length=255,
        blank=True,
        help_text="Minute, hour, day, month and weekday, which must all hold, e.g. 0 6 * * mon-fri.",
    )
    seconds = models.FloatField(null=True, blank=True, help_text="Instead of a crontab line: seconds between two runs.")
    timezone = models.CharField(
        max_length=64, default="UTC", help_text="Where the crontab line is read, e.g. Europe/Berlin."
    )
    catch_up = models.CharField(
        "missed firings",
        max_length=4,
        default="last",
        choices=[("skip", "forget them"), ("last", "make up for the last"), ("all", "make up for all (100 at most)")],
    )
    lateness = models.FloatField(
        default=LATENESS, help_text="Seconds after which a missed firing is not made up for any more."
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    #: Nothing from before this moment is made up for: an entry that was switched off or changed begins anew.
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "schedule"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raises ValidationError that names every field that is wrong."""
        from asgi_app.scheduling import plans

        self.crontab, self.timezone = " ".join(self.crontab.lower().split()), self.timezone.strip()
        try:
            plans.plan_of(self)
        except plans.Unplannable as error:
            raise ValidationError(dict(error.reasons)) from error


class ScheduleState(models.Model):
    """How far the schedulers have got with one plan, so that one that starts knows what was missed."""

    #: `Plan.key`.
    key = models.CharField(max_length=255, primary_key=True)
    #: Its times, `Plan.times`: what was due by others was not missed.
    times = models.TextField()
    #: Unix milliseconds: every firing that was due until then was fired or is forgotten.
    settled_ms = models.BigIntegerField()

    def __str__(self) -> str:
        return self.key


#: A version of an action's job counts its changes in units of this, and within a change the reports of progress.
REPORTS = 1_000_000


def _ms(moment: datetime | None) -> str:
    return "" if moment is None else str(round(moment.timestamp() * 1000))
