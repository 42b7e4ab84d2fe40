"""What the back end does is written once, as generators of steps; this carries steps out, in a thread or on a loop.

Invariant: both drivers do the same at each step, and what a step raises is raised inside the generator.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cache_layer.kv import Carrier, Trip

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Let others go on for a while."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Call what makes a value; on a loop a coroutine, or what returns one, is awaited.  Replies with the value."""

    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Do steps once for all callers of a key in this process.  Replies with their `Shared`, or raises what they did."""

    key: str
    steps: Callable[[], Steps[Any]]
    #: Seconds that a thread waits for another one before it does the steps itself.
    patience: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared(Generic[T]):
    """What shared steps came to."""

    result: T
    #: Whether this caller did them; else they may have begun before it asked.
    own: bool


Step = Trip[Any] | Pause | Compute | Share
Steps = Generator[Step, Any, T]


class Flights(Protocol):
    """Shared steps under way."""

    def do(self, share: Share, carrier: Carrier) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What a driver needs: the store's client and the flights of all threads, or those of one event loop."""

    carrier: Carrier
    flights: Flights


def run(steps: Steps[T], side: Side) -> T:
    """Carry steps out in this thread."""
    try:
        step = next(steps)
        while True:
            try:
                reply = _perform(step, side)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(steps: Steps[T], side: Side) -> T:
    """Carry steps out on this event loop."""
    try:
        step = next(steps)
        while True:
            try:
                reply = await _aperform(step, side)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


def _perform(step: Step, side: Side) -> Any:
    match step:
        case Trip():
            return step.read(step.start(side.carrier))
        case Pause():
            return time.sleep(step.seconds)
        case Compute():
            return _called(step.default)
        case Share():
            return side.flights.do(step, side.carrier)


async def _aperform(step: Step, side: Side) -> Any:
    match step:
        case Trip():
            return step.read(await step.start(side.carrier))
        case Pause():
            return await asyncio.sleep(step.seconds)
        case Compute():
            value = step.default() if callable(step.default) else step.default
            return await value if inspect.isawaitable(value) else value
        case Share():
            return await side.flights.do(step, side.carrier)


def _called(default: Any) -> Any:
    value = default() if callable(default) else default
    if inspect.iscoroutine(value):
        value.close()  # or its never having been awaited would be a warning somewhere else
        raise TypeError("get_or_set() cannot await a coroutine; use aget_or_set()")
    return value


class ThreadFlights:
    """Flights of all threads of a process."""

    def __init__(self) -> None:
        self._flights: dict[str, Future[Any]] = {}

    def do(self, share: Share, carrier: Carrier) -> Shared[Any]:
        """As `Share` says.  A thread that loses its patience, or whose flight was given up, does the steps itself."""
        mine: Future[Any] = Future()
        flight = self._flights.setdefault(share.key, mine)
        side = Side(carrier=carrier, flights=self)
        if flight is mine:
            return Shared(result=self._lead(share, side, mine), own=True)
        try:
            return Shared(result=flight.result(share.patience), own=False)
        except TimeoutError:
            if flight.done():
                return Shared(result=flight.result(), own=False)
            return Shared(result=run(share.steps(), side), own=True)
        except CancelledError:
            if flight.cancelled():
                return self.do(share, carrier)
            raise

    def _lead(self, share: Share, side: Side, flight: Future[Any]) -> Any:
        """Do the steps for those who wait."""
        try:
            try:
                result = run(share.steps(), side)
            finally:
                del self._flights[share.key]
        except Exception as error:
            flight.set_exception(error)
            raise
        except BaseException:
            flight.cancel()  # what ends this thread (SystemExit, KeyboardInterrupt) is not for the others
            raise
        flight.set_result(result)
        return result


class LoopFlights:
    """Flights of one event loop.  They run in tasks of their own, which no caller's cancellation ends."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[Any]] = {}

    async def do(self, share: Share, carrier: Carrier) -> Shared[Any]:
        """As `Share` says.  The steps see the context variables of the caller who came first."""
        flight = self._flights.get(share.key)
        own = flight is None
        if flight is None:
            flight = asyncio.get_running_loop().create_task(arun(share.steps(), Side(carrier=carrier, flights=self)))
            self._flights[share.key] = flight
            flight.add_done_callback(lambda done: self._landed(share.key, done))
        return Shared(result=await asyncio.shield(flight), own=own)

    def _landed(self, key: str, flight: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # read, so that a flight nobody waits for is no warning
