"""A value that whoever misses it computes in this process: a page, the rows of a query.

Invariant: like a resource with `offload=False` it is computed once per key in the whole cluster, and knows nothing of
who asks beyond what its key holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from asgi_app.declaring.signature import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Inline:
    """One computation, as `Reader.answer` takes it."""

    offload: ClassVar[bool] = False

    #: For logs and errors.
    name: str
    #: Seconds it may take.
    time_limit: float
    #: Gives what JSON can hold (`msgspec.Raw`: JSON text as it is).
    work: Callable[[], Awaitable[Any]]

    def call(self, params: Any, progress: Any, principal: Principal) -> Awaitable[Any]:
        """As `Resource.call`."""
        return self.work()

    def asker(self, principal: Principal) -> Principal:
        """As `Resource.asker`."""
        return Principal.public()
