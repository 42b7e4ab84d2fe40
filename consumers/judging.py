"""May a subscriber go on?  Asked again as long as the subscription stands.

Invariant: who cannot be asked about has not lost anything, and waits for no answer longer than `_WITHIN`; who was
refused, or whose rule itself failed, does not go on.
"""

from __future__ import annotations

import asyncio
import logging
import time

from asgi_app import access
from asgi_app.access import Identity
from asgi_app.errors import Denied, NotFound, Unauthenticated, Unavailable
from cache_layer.errors import StoreUnavailable
from consumers.channel import Subscription

log = logging.getLogger(__name__)

#: After one of these a subscription cannot go on.
FINAL = (NotFound, Denied, Unauthenticated)
#: Seconds for which a judgement serves values that come without a read, and the confirmation of an API token.
JUDGED_FOR = 5.0
#: Seconds one verdict may take.
_WITHIN = 2.0
#: Confirmed API tokens that are remembered.
_CONFIRMED_MOST = 10_000


class Judge:
    """The verdicts of one event loop."""

    def __init__(self) -> None:
        #: Digest of an API token: when it was last found valid (monotonic).
        self._confirmed: dict[str, float] = {}

    def forget(self) -> None:
        """Somebody has lost rights: what was confirmed counts no more."""
        self._confirmed.clear()

    async def verdict(self, seat: Subscription) -> Exception | None:
        """Why the subscription is lost; None: it is not, as far as anybody can tell.  Equal for equal identities."""
        try:
            async with asyncio.timeout(_WITHIN):
                await self.confirm(seat.holder.identity)
                await seat.source.allowed()
        except (StoreUnavailable, Unavailable, TimeoutError):
            return None  # without the store nothing is delivered, and an API token's expiry is known to its connection
        except FINAL as error:
            return error
        except Exception as error:
            log.exception("%s cannot be judged", seat.source.topic)
            return error
        return None

    async def confirm(self, identity: Identity) -> None:
        """Raises Unauthenticated when the API token of an identity does not hold any more.

        Asks once in a while; a database that is away says nothing about a token.
        """
        now = time.monotonic()
        if not identity.token or now < self._confirmed.get(identity.token, 0.0) + JUDGED_FOR:
            return
        try:
            await access.with_database(lambda: access.confirm(identity))
        except Unavailable:
            return
        if len(self._confirmed) >= _CONFIRMED_MOST:
            self._confirmed.clear()
        self._confirmed[identity.token] = now
