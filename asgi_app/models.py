"""What is true even when all of the store is lost."""

from __future__ import annotations

from django.conf import settings
from django.db import models


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
