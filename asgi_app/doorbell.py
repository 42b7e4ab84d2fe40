"""How a worker is told that there is work; the domain knows no more of a broker than this.

Invariant: ringing twice is harmless, and a lost ring is rung again: the job's record is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cache_layer.records import Bell


class Doorbell(Protocol):
    """`settings.MILLPOND_DOORBELL` names what makes one from an `Env`."""

    def bell(self, job_id: str, *, queue: str, priority: int, time_limit: float, countdown: float = 0.0) -> Bell:
        """The message that makes a worker of `queue` look at the job, in `countdown` seconds at the earliest."""

    async def ring(self, job_id: str, fields: Mapping[str, str]) -> None:
        """Deliver the message of a job through a broker that is not the store.  Raises Unavailable."""

    async def close(self) -> None:
        """Let go of the broker; may be called twice."""
