"""The events of one request on their way from the worker's thread to the coroutine that reads them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from paddock.engine.engine import Engine, Task
from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.access import current

Lane = tuple[Engine, int]
HELD = 64  # events of one feed that may wait for its reader


@dataclass
class Times:
    """When things happened to a request, `time.monotonic`; None before they did. begun: it got its first blocks."""

    submitted: float = field(default_factory=time.monotonic)
    begun: float | None = None
    first: float | None = None
    last: float | None = None


class Observer(Protocol):
    """Told, in the loop, what becomes of every request: the one place that counts and times them."""

    def submitted(self, feed: Feed) -> None: ...

    def brought(self, feed: Feed, events: list[Event]) -> None:
        """Its reader takes these events; `feed.times` says when it took some before."""
        ...

    def ended(self, feed: Feed, reason: str) -> None:
        """Once for each request: "stop", "length", "abort" (nobody reads on) or "error"."""
        ...


class Carrier(Protocol):
    """What a feed needs of the worker."""

    observer: Observer | None

    def wake(self) -> None: ...

    def cancel(self, feed: Feed) -> None: ...


class Feed:
    """The events of one request, for one coroutine. `task` is the engine's, `note` the observer's.

    caller: whose it is. cancelled: nobody reads on. seated: the worker gave it to the engine. lane: the engine, and the
    number of the adapter in it (0: none), which it has after its task has left, too.
    """

    def __init__(self, worker: Carrier, engine: Engine, task: Task) -> None:
        self.engine, self.task, self.times = engine, task, Times()
        self.lane: Lane = (engine, 0 if task.adapter is None else task.adapter.number)
        self.cancelled = self.seated = False
        self.caller = current().name
        self.note: Any = None
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._sent = self._read = 0  # events: counted by the worker, and by the reader
        self._told = False
        if worker.observer is not None:
            worker.observer.submitted(self)

    async def next(self) -> list[Event]:
        """Events as they come, at least one; none once it has ended. Raises what the engine failed with."""
        while not self._events and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._events and self._failure is not None:
            self._tell_end("error")
            raise self._failure.with_traceback(None)
        events = list(self._events)
        self._events.clear()
        full = not self.room
        self._read += len(events)
        if full:
            self._worker.wake()
        self._tell(events)
        return events

    def cancel(self) -> None:
        """Ends it, wherever it stands; its blocks are free within a step."""
        self._worker.cancel(self)
        self._tell_end("abort")

    def _tell(self, events: list[Event]) -> None:
        if self._worker.observer is not None and events:
            self._worker.observer.brought(self, events)
        if events:
            self.times.last = time.monotonic()
            self.times.first = self.times.first or self.times.last
        if not events or events[-1].finish_reason is not None:
            self._tell_end((events and events[-1].finish_reason) or "abort")

    def _tell_end(self, reason: str) -> None:
        if self._worker.observer is not None and not self._told:
            self._told = True
            self._worker.observer.ended(self, reason)

    @property
    def room(self) -> bool:
        """Whether the worker may hand over more, what is on its way counted."""
        return self._sent - self._read < HELD

    def deliver(self, events: list[Event], ended: bool, failure: Exception | None) -> None:
        """Called in the loop."""
        if self._ended:
            return
        self._events.extend(events)
        self._ended, self._failure = ended, failure
        self._arrived.set()

    def send(self, events: list[Event], ended: bool, failure: Exception | None) -> Message:
        """Called by the worker."""
        self._sent += len(events)
        return Message(self._loop, self, events, ended, failure)


class Message(NamedTuple):
    """What is to be delivered where."""

    loop: asyncio.AbstractEventLoop
    feed: Feed
    events: list[Event]
    ended: bool
    failure: Exception | None


def deliver(messages: Iterable[Message]) -> None:
    """One call into each loop for all that is meant for it."""
    batches: dict[asyncio.AbstractEventLoop, list[Message]] = {}
    for message in messages:
        batches.setdefault(message.loop, []).append(message)
    for loop, batch in batches.items():
        call_in(loop, _arrive, batch)


def _arrive(messages: list[Message]) -> None:
    for _, feed, events, ended, failure in messages:
        feed.deliver(events, ended, failure)


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop is closed: nobody listens any more
        if not loop.is_closed():
            raise PaddockError("the server's loop does not take calls") from None
