"""Actions that are asked for at the same time are written down in one transaction.

A commit waits for the disk, and on SQLite for all other writers, whether it is of one row or of a hundred.
Invariant: who is answered has a row that is committed; what is wrong with one order is told to who gave it, and to
nobody else; nobody waits for more than the transaction under way and the next one.
"""

from __future__ import annotations

import asyncio

from asgi_app import ledger
from asgi_app.ledger import Order
from asgi_app.rows import WAITING, away, in_database
from cache_layer.background import Background

#: Rows of one transaction.
_MOST = 100
#: Id of the job, and whether it is new.
Written = tuple[str, bool]


class Writing:
    """For one event loop."""

    def __init__(self) -> None:
        self._background = Background()
        self._waiting: list[tuple[Order, asyncio.Future[Written]]] = []
        self._busy = False

    async def stop(self) -> None:
        """End what runs behind; may be called twice."""
        await self._background.close()
        self._refuse(away(), [])

    async def create(self, order: Order) -> Written:
        """As `ledger.create`.  Cancelled, it may be written all the same.

        Raises IdempotencyMismatch, and Unavailable when the database is away or too many wait for it.
        """
        if len(self._waiting) >= WAITING:
            raise away()
        answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        if not self._busy:
            self._busy = True
            self._background.start(self._write_all())
        return await answer

    async def _write_all(self) -> None:
        """All of a turn of the loop, then what has come meanwhile."""
        batch: list[tuple[Order, asyncio.Future[Written]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                batch = [(order, answer) for order, answer in batch if not answer.done()]
                written = await in_database(ledger.create_all, [order for order, _ in batch])
                for (_, answer), outcome in zip(batch, written, strict=True):
                    if answer.done():
                        continue
                    if isinstance(outcome, Exception):
                        answer.set_exception(outcome)
                    else:
                        answer.set_result(outcome)
        except Exception as error:  # the database does not answer: nor would it those who wait behind them
            self._refuse(error, batch)
        except asyncio.CancelledError:
            self._refuse(away(), batch)
            raise
        finally:
            self._busy = False

    def _refuse(self, error: Exception, batch: list[tuple[Order, asyncio.Future[Written]]]) -> None:
        waiting, self._waiting = [*batch, *self._waiting], []
        for _, answer in waiting:
            if not answer.done():
                answer.set_exception(error)
