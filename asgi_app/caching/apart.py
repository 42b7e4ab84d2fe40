"""Django's code run apart from the request that asked for it: in a context, a thread and on connections of its own.

Invariant: what runs here outlives its request, waits for nobody else's synchronous code and leaves no connection open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What Django keeps beside a request, in the running context."""

    language: str | None
    zone: tzinfo
    urlconf: Any
    prefix: str

    @classmethod
    def of_now(cls) -> Circumstances:
        zone = timezone.get_current_timezone()
        return cls(translation.get_language(), zone, get_urlconf(), get_script_prefix())

    def _enter(self) -> None:
        if self.language is None:
            translation.deactivate_all()
        else:
            translation.activate(self.language)
        timezone.activate(self.zone)
        set_urlconf(self.urlconf)
        set_script_prefix(self.prefix)


@asynccontextmanager
async def apart(circumstances: Circumstances) -> AsyncIterator[None]:
    """Run the body under these circumstances; for a task with a context of its own, which keeps them.

    Synchronous code that the body enters by `sync_to_async` has a thread of its own: in the one that all share the
    computations of a process would queue.  Cancelled it ends once that thread is free.
    """
    circumstances._enter()
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            # The thread ends here, and nobody else can have its connections.
            await sync_to_async(connections.close_all)()
