"""What is true even when all of the store is lost."""

from __future__ import annotations

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


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
