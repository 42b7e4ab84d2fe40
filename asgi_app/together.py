"""Questions of many at once: who asks while a query runs shares the next one.

Invariant: at most one query of a kind is under way; a question is answered by a query that began after it was asked, or
fails with that query; who asks may leave at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

#: Seconds in which those who ask at the same time gather, before each query.
_PAUSE = 0.01


class Together(Generic[Question, Answer]):
    """Questions of one kind, on one event loop."""

    def __init__(self, ask: Callable[[list[Question]], Awaitable[Sequence[Answer]]], most: int) -> None:
        """`ask` answers at most `most` questions, in their order."""
        self._ask = ask
        self._most = most
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def of(self, question: Question) -> Answer:
        """Raises what asking raises."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_PAUSE)
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._answer([(question, future) for question, future in batch if not future.done()])
        finally:
            self._task = None

    async def _answer(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in batch]) if batch else ()
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        finally:
            for _, future in batch:
                future.cancel()  # this task was ended; an answered one stays as it is
