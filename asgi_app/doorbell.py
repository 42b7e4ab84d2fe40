"""How a worker is told that there is work; the domain knows no more of a broker than this.

Invariant: ringing twice is harmless, and a lost ring is rung again: who waits stands in the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cache_layer.queues import Bell


class Doorbell(Protocol):
    """`settings.MILLPOND_DOORBELL` names what makes one from an `Env`."""

    def bell(self, job_id: str, *, queue: str, priority: int) -> Bell:
        """The message that makes a worker of `queue` take its best job; it is named after the job that rings."""

    def lists(self, queue: str) -> Sequence[str]:
        """The lists of a queue, by level, when the broker is the store itself; else none."""

    async def ring(self, bell: Bell) -> None:
        """Deliver a message through a broker that is not the store, within a second.  Raises Unavailable."""

    async def close(self) -> None:
        """Let go of the broker; may be called twice."""
