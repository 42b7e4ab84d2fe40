"""The outgoing side of one connection: what was said, then what is new, one write at a time, none for ever.

Invariants: a connection that cannot be written to holds its replies and a set of subscriptions with news, never a queue
of values; the caller of `say` or `touch` never waits; a write that is stuck for `STALLED` seconds ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

from cache_layer import metrics
from consumers.channel import News, Subscription
from consumers.transport import Port

log = logging.getLogger(__name__)

#: Seconds one write may take.
STALLED = 30.0
#: Seconds for the last words of a connection.
FAREWELL = 5.0
#: Frames in one write, and characters after which a write is full.
_BATCH = 16
_FULL = 65_536
#: Replies waiting from which on nothing more should be read from the client.
_CROWDED = 64

Frame = str | Callable[[], str]


class Writer:
    """Writes text through `send`, one call at a time.

    While the client reads, everything is written in the very call that brings it, without a task: `send` is driven by
    hand and becomes a task only when it has to wait (so it must not ask for the current task before it waits).
    """

    def __init__(
        self,
        send: Callable[[str], Coroutine[Any, Any, None]],
        render: Callable[[Subscription, News], str | None],
        *,
        glue: str,
        stalled: Callable[[], None],
        failed: Callable[[], None],
        at_once: Callable[[Subscription, News], bool] | None = None,
        port: Port | None = None,
    ) -> None:
        """`render` makes the frame for news, None for nothing to write; `glue` joins frames into one write.

        `at_once` writes news that is prepared for many, where nothing has to wait; False: it did nothing.  `port` is
        what others may write to past this writer while it is idle.  `stalled`
        is called when a write got stuck, and should lead to `finish`; `failed` when `send` or `render` raised: the
        socket is gone or of no use, and nothing is written any more.
        """
        self._send = send
        self._render = render
        self._glue = glue
        self._stalled = stalled
        self._failed = failed
        self._at_once = at_once
        self._port = port
        self._said: deque[Frame] = deque()
        self._dirty: dict[Subscription, None] = {}
        self._final: Callable[[], Awaitable[None]] | None = None
        self._gone: Callable[[], None] = lambda: None
        self._busy = False
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._settle()

    def say(self, frame: Frame) -> None:
        """Write a frame, before any news.  A function is called when it is its turn."""
        if self._final is None and not self._ended:
            self._said.append(frame)
            if len(self._said) >= _CROWDED:
                self._room.clear()
            self._pump()
            self._settle()

    def touch(self, subscription: Subscription) -> None:
        """There may be news for this subscription."""
        if self._final is not None or self._ended:
            return
        if self._busy or self._said or self._dirty:
            if subscription in self._dirty:
                metrics.pushes["overtaken"] += 1
            self._dirty[subscription] = None
            self._pump()
            self._settle()
            return
        try:  # the way of a broadcast, once per connection
            news = subscription.catch_up()
            if self._at_once is not None and len(news) == 1 and self._at_once(subscription, news[0]):
                return
            text = self._glue.join(self._frames(subscription, news))
            if subscription.behind:
                self._dirty[subscription] = None
            if (not text or self._write(text)) and (self._said or self._dirty):
                self._pump()
            self._settle()
        except Exception as error:
            self._broke(error)

    @property
    def stuck(self) -> float:
        """Seconds the write under way takes already, 0 without one."""
        if self._deadline is None or self._final is not None:
            return 0.0
        return max(0.0, STALLED - (self._deadline.when() - asyncio.get_running_loop().time()))

    def forget(self, subscription: Subscription) -> None:
        """Nothing of this subscription is written from now on."""
        self._dirty.pop(subscription, None)

    async def room(self) -> None:
        """Wait until the client has taken what was said to it."""
        await self._room.wait()

    def finish(self, final: Callable[[], Awaitable[None]], gone: Callable[[], None]) -> None:
        """Write what was said, then await `final`; call `gone` if that cannot be done in `FAREWELL` seconds."""
        if self._final is not None or self._ended:
            return
        self._dirty.clear()
        self._final, self._gone = final, gone
        self._pump()
        self._settle()
        if not self._ended:
            self._watch(FAREWELL, self._give_up)

    def stop(self) -> None:
        """The connection is gone: write nothing any more.  May be called twice."""
        self._end()
        if self._task is not None:
            self._task.cancel()

    def _pump(self) -> None:
        if self._busy or self._ended:
            return
        try:
            while (text := self._next()) is not None:
                if not self._write(text):
                    return
        except Exception as error:
            self._broke(error)
        if self._final is not None and not self._ended:
            self._busy = True
            self._hand_over(self._go_on(None))

    def _write(self, text: str) -> bool:
        """Write, by hand; False when that has to wait: a task goes on from there."""
        self._busy = True
        sending = self._send(text)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            self._busy = False
            return True
        self._hand_over(self._go_on(_Rest(sending, waits_for)))
        return False

    def _hand_over(self, work: Coroutine[Any, Any, None]) -> None:
        self._watch_write()
        self._task = asyncio.get_running_loop().create_task(work)

    async def _go_on(self, write: _Rest | None) -> None:
        """The way of `_pump` in a task: from a write that has to wait until there is nothing to do."""
        try:
            if write is not None:
                await write
            while (text := self._next()) is not None:
                self._watch_write()
                await self._send(text)
            if self._final is not None and not self._ended:
                await self._final()
                self._end()
        except Exception as error:
            self._broke(error)
        finally:
            self._busy = False
            self._task = None
            if self._final is None:
                self._watch(None, self._stalled)
            self._settle()

    def _broke(self, error: Exception) -> None:
        # Whatever `send` raises: the server has closed the socket, and the receiving side learns why.
        log.debug("a connection cannot be written to: %r", error)
        self._end()
        self._failed()

    def _watch_write(self) -> None:
        # The last words have a deadline of their own.
        if self._final is None:
            self._watch(STALLED, self._stalled)

    def _next(self) -> str | None:
        """The text of the next write, None for nothing to do."""
        if not self._said and not self._dirty:
            return None
        parts: list[str] = []
        size = 0
        while len(parts) < _BATCH and size < _FULL and (self._said or self._dirty):
            made = self._take()
            parts += made
            size += sum(map(len, made))
        if len(self._said) < _CROWDED:
            self._room.set()
        return self._glue.join(parts) if parts else None

    def _take(self) -> list[str]:
        if self._said:
            frame = self._said.popleft()
            try:
                return [frame if isinstance(frame, str) else frame()]
            except Exception:
                log.exception("a reply cannot be written")
                return []
        subscription = next(iter(self._dirty))
        del self._dirty[subscription]
        frames = self._frames(subscription, subscription.catch_up())
        if subscription.behind:  # the others have their turn first
            self._dirty[subscription] = None
        return frames

    def _frames(self, subscription: Subscription, news: list[News]) -> list[str]:
        """Raises what rendering raises: what cannot be written must not become a hole, so the connection ends."""
        try:
            frames = (self._render(subscription, one) for one in news)
            return [frame for frame in frames if frame is not None]
        except Exception:
            log.exception("news of %s cannot be written", subscription.name)
            raise

    def _watch(self, seconds: float | None, late: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None and not self._ended:
            self._deadline = asyncio.get_running_loop().call_later(seconds, late)

    def _give_up(self) -> None:
        gone = self._gone
        self.stop()
        gone()

    def _settle(self) -> None:
        """Say whether others may write, after anything that may have changed it."""
        if self._port is not None:
            waits = self._busy or self._said or self._dirty
            self._port.idle = not (waits or self._ended or self._final is not None)

    def _end(self) -> None:
        self._ended = True
        self._said.clear()
        self._dirty.clear()
        self._room.set()
        self._watch(None, self._stalled)
        self._settle()


class _Rest:
    """The rest of a coroutine that was driven by hand up to its first wait."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                waits_for = self._throw(error)
            else:
                waits_for = self._step(value)
            if waits_for is _DONE:
                return

    def _step(self, value: Any) -> Any:
        try:
            return self._work.send(value)
        except StopIteration:
            return _DONE

    def _throw(self, error: BaseException) -> Any:
        try:
            return self._work.throw(error)
        except StopIteration:
            return _DONE


_DONE = object()


def abort(send: Any) -> bool:
    """Cut the connection behind an ASGI `send` of uvicorn, whose buffer a client that does not read keeps full.

    With a reset: megabytes that nobody takes would stay in the kernel for minutes.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    cut = getattr(transport, "abort", None)
    if transport is None or cut is None:
        return False
    below = transport.get_extra_info("socket") if hasattr(transport, "get_extra_info") else None
    if below is not None:
        with suppress(OSError):
            below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cut()
    return True
