"""The one thread that computes, and how what it computes reaches coroutines.

    coroutine ──submit──> Feed ──> arrivals ─┐
                                             ▼
                       worker thread: reading jobs, then one step of every engine in turn
                                             │ events of all feeds, one call into the loop a round
    coroutine <──next──── Feed <─────────────┘

Models of one server share its cores, so they share this thread: a step of each in turn. Work that reads whole texts
(embeddings, log-probabilities of a prompt) runs on it between the steps, a piece at a time. A feed whose reader is
slow keeps at most HELD events; then the engine pauses its request, and nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from paddock.engine.engine import Engine, Task
from paddock.engine.request import Event
from paddock.errors import OverloadError, PaddockError

HELD = 64  # events of one feed that may wait for its reader
Result = TypeVar("Result")


class Feed:
    """The events of one request, for one coroutine. `task` is the engine's."""

    def __init__(self, worker: Worker, engine: Engine, task: Task) -> None:
        self.engine, self.task = engine, task
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    async def next(self) -> list[Event]:
        """Events as they come, at least one; none once it has ended. Raises what the engine failed with."""
        while not self._events and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._events and self._failure is not None:
            raise self._failure.with_traceback(None)
        events = list(self._events)
        full = len(events) >= HELD
        self._events.clear()
        if full:
            self._worker.wake()
        return events

    def cancel(self) -> None:
        """Ends it, wherever it stands; its blocks are free within a step."""
        self._worker.cancel(self)

    @property
    def room(self) -> bool:
        """Whether the worker may hand over more."""
        return len(self._events) < HELD

    def deliver(self, events: list[Event], ended: bool, failure: Exception | None) -> None:
        """Called in the loop."""
        self._events.extend(events)
        self._ended, self._failure = self._ended or ended, self._failure or failure
        self._arrived.set()

    def send(self, events: list[Event], ended: bool, failure: Exception | None) -> tuple[Any, ...]:
        return self._loop, self, events, ended, failure


class Worker:
    """Steps engines and runs reading jobs until it is stopped. `limit`: requests that may wait for their first step."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.beats = 0  # rounds, to see that it lives
        self._arrived: deque[Feed] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._feeds: dict[Feed, None] = {}
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="paddock-worker", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Requests that no step has computed anything for yet."""
        feeds = tuple(self._feeds)
        return len(self._arrived) + sum(f.task.sequence.table is None and not f.task.ended for f in feeds)

    @property
    def active(self) -> int:
        """Requests that have not ended."""
        return len(self._arrived) + len(self._feeds)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step it takes now; what was still running fails."""
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        self._wanted.set()

    def submit(self, engine: Engine, task: Task, *, room: int = 1) -> Feed:
        """Lets a request in. `room`: how many places of the queue it and its siblings take.

        Raises OverloadError where too many wait already, or the worker is gone.
        """
        if not self.alive:
            raise OverloadError("the engine is down", down=True, retry_after=10)
        if self.waiting + room > self.limit:
            raise OverloadError(
                f"{self.waiting} requests are waiting already", fix="try again a little later, or ask for fewer choices"
            )
        feed = Feed(self, engine, task)
        self._arrived.append(feed)
        self.wake()
        return feed

    def cancel(self, feed: Feed) -> None:
        feed.engine.drop(feed.task)
        self.wake()

    async def run(self, job: Callable[[], Result]) -> Result:
        """Runs `job` on the worker's thread between two steps: for what reads whole texts with a model."""
        if not self.alive:
            raise OverloadError("the engine is down", down=True, retry_after=10)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            if future.cancelled():
                return
            try:
                result, error = job(), None
            except Exception as failure:
                result, error = None, failure.with_traceback(None)
            _call(loop, settle, result, error)

        self._jobs.append(work)
        self.wake()
        return await future

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wanted.clear()
                if not self._round():
                    self._wanted.wait()
        finally:
            self._stopping = True
            self._abandon()

    def _round(self) -> bool:
        """One job, one step of every engine that has work. False if there was nothing to do."""
        self.beats += 1
        busy = False
        if self._jobs:
            self._jobs.popleft()()
            busy = True
        while self._arrived:
            feed = self._arrived.popleft()
            if not feed.task.ended:  # cancelled before it was let in
                feed.engine.submit(feed.task)
            self._feeds[feed] = None
        for engine in dict.fromkeys(feed.engine for feed in self._feeds):
            busy |= self._step(engine)
        self._hand_over()
        return busy or bool(self._jobs)

    def _step(self, engine: Engine) -> bool:
        try:
            return engine.step()
        except Exception as error:
            for feed in self._feeds:
                if feed.engine is engine and not feed.task.ended:
                    engine.drop(feed.task)
                    feed.task.failure = error
            return True

    def _hand_over(self) -> None:
        """What lies ready goes to the loops, one call for all feeds of a loop."""
        batches: dict[asyncio.AbstractEventLoop, list[tuple[Any, ...]]] = {}
        for feed in tuple(self._feeds):
            task = feed.task
            if not task.ready or not feed.room:
                continue
            ended = task.ended
            loop, *message = feed.send(feed.engine.take(task), ended, task.failure if ended else None)
            batches.setdefault(loop, []).append(tuple(message))
            if ended:
                del self._feeds[feed]
        for loop, messages in batches.items():
            _call(loop, _deliver, messages)

    def _abandon(self) -> None:
        """The thread ends: nobody is left waiting."""
        gone = OverloadError("the server is shutting down", down=True, retry_after=10)
        for feed in (*self._feeds, *self._arrived):
            loop, *message = feed.send([], True, gone)
            _call(loop, _deliver, [tuple(message)])
        while self._jobs:
            self._jobs.popleft()


def _deliver(messages: list[tuple[Feed, list[Event], bool, Exception | None]]) -> None:
    for feed, events, ended, failure in messages:
        feed.deliver(events, ended, failure)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop is closed: nobody listens any more
        if not loop.is_closed():
            raise PaddockError("the server's loop does not take calls") from None
