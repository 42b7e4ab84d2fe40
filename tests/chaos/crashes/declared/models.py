"""Effects in the database."""

from django.db import models


class Effect(models.Model):
    """One effect of one run of an action; not unique, so that a second one would be seen."""

    name = models.CharField(max_length=100, db_index=True)

    def __str__(self) -> str:
        return self.name
