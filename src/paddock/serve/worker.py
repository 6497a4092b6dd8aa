"""The one thread that computes, and how what it computes reaches coroutines.

    coroutine ──submit──> Feed ──> arrivals ─┐
                                             ▼
                       worker thread: reading jobs, then one step of every engine in turn
                                             │ events of all feeds, one call into the loop a round
    coroutine <──next──── Feed <─────────────┘

Models of one server share its cores, so they share this thread: a step of each in turn. Work that reads whole texts
(embeddings, log-probabilities of a prompt) runs on it between the steps, a piece at a time. A feed whose reader is
slow keeps at most HELD events; then the engine pauses its request, and nobody else waits for it.

Requests wait here, not in the engine: a seat that is free goes to the highest priority, then to the caller who has the
fewest, then to who came first. So a hundred requests of one caller do not hold up the one of another.

Nothing waits for a thread that is gone: whoever puts something in looks afterwards whether the thread still runs, and
the thread, once it has said that it does not, fails everything that was put in before.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from paddock.engine.carrying import Adapter
from paddock.engine.engine import Engine, Task
from paddock.errors import OverloadError
from paddock.serve.feed import Feed, Message, Observer, call_in, deliver

FAILURES = 3  # steps of an engine that may fail running before the thread gives up
Result = TypeVar("Result")
log = logging.getLogger("paddock.serve")


class Job(NamedTuple):
    """Something to run between two steps, and what to do if it never will be."""

    run: Callable[[], None]
    fail: Callable[[Exception], None]


class Worker:
    """Steps engines and runs reading jobs until it is stopped.

    limit: requests that may wait. seats: requests of one engine that do not wait. died: called by the thread when it
    ends by itself; what was still running has failed by then.
    """

    def __init__(
        self,
        limit: int,
        seats: int = 64,
        observer: Observer | None = None,
        died: Callable[[], None] | None = None,
    ) -> None:
        self.limit, self.seats, self.observer = limit, seats, observer
        self.beats = 0  # rounds, to see that it lives
        self._died = died
        self._arrived: deque[Feed] = deque()
        self._jobs: deque[Job] = deque()
        self._feeds: dict[Feed, None] = {}  # all that have not ended
        self._queue: list[Feed] = []  # those of them that have no seat yet, as they came
        self._seated: Counter[Engine] = Counter()
        self._failures: Counter[Engine] = Counter()
        self._closed: WeakSet[Engine] = WeakSet()
        self._wanted = threading.Event()
        self._stopping = False
        self._gone: Exception = OverloadError("the server is shutting down", down=True, retry_after=10)
        self._thread = threading.Thread(target=self._run, name="paddock-worker", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether requests are taken: it was started, and has not ended."""
        return self._thread.is_alive() and not self._stopping

    @property
    def feeds(self) -> list[Feed]:
        """Requests that have not ended."""
        return list(dict.fromkeys([*self._arrived, *tuple(self._feeds)]))

    @property
    def waiting(self) -> int:
        """Requests that no step has computed anything for yet."""
        return sum(feed.times.begun is None and not feed.task.ended for feed in self.feeds)

    @property
    def active(self) -> int:
        """Requests that have not ended."""
        return len(self.feeds)

    def busy(self, engine: Engine, adapter: Adapter | None = None) -> bool:
        """Whether requests of this engine, or of an adapter in it, have not ended."""
        return any(_goes(feed, engine, adapter) for feed in self.feeds)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float | None = None) -> bool:
        """Ends the thread after the step it takes now; what was still running fails at once. Whether it ended in time.

        For whoever stops it from the loop, `fail` alone does not wait.
        """
        self.fail(self._gone)
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def fail(self, error: Exception) -> None:
        """Takes nothing in any more; everything that was still running fails with `error`, now."""
        self._gone = error
        self._stopping = True
        self.wake()
        self._abandon()

    def wake(self) -> None:
        self._wanted.set()

    def submit(self, engine: Engine, task: Task, *, room: int = 1) -> Feed:
        """Lets a request in. `room`: how many places of the queue it and its siblings take.

        Raises OverloadError where too many wait already, or the worker or the engine is gone.
        """
        self._check_alive()
        if engine in self._closed or (task.adapter is not None and task.adapter.closed):
            raise OverloadError("this model has just left the server", down=True, retry_after=1)
        if (waiting := self._queued(engine, room)) > self.limit:
            raise OverloadError(
                f"{max(waiting - room, 0)} requests are waiting already",
                fix="try again a little later, or ask for fewer choices",
            )
        feed = Feed(self, engine, task)
        self._arrived.append(feed)
        self.wake()
        if not self.alive:
            feed.deliver([], True, self._gone)
        return feed

    def _queued(self, engine: Engine, more: int) -> int:
        """How many would wait with `more` requests of this engine."""
        load = Counter(feed.engine for feed in self.feeds)
        load[engine] += more
        return sum(max(count - self.seats, 0) for count in load.values())

    def _check_alive(self) -> None:
        if not self.alive:
            raise OverloadError("the engine is down", down=True, retry_after=10)

    def cancel(self, feed: Feed) -> None:
        feed.cancelled = True
        feed.engine.drop(feed.task)
        self.wake()

    def close(self, engine: Engine, error: Exception | None = None, adapter: Adapter | None = None) -> None:
        """Takes no more requests of this engine, or only of an adapter in it; those that run fail with `error`, where
        one is given."""
        if adapter is not None:
            adapter.closed = True
        else:
            self._closed.add(engine)
            del self._failures[engine]
        if error is not None:
            for feed in self.feeds:
                if _goes(feed, engine, adapter):
                    deliver([feed.send([], True, error)])
                    self.cancel(feed)

    async def run(self, job: Callable[[], Result]) -> Result:
        """Runs `job` on the worker's thread between two steps: for what reads whole texts with a model.

        Raises OverloadError where too many wait already or the worker is gone, and what `job` raises.
        """
        self._check_alive()
        if len(self._jobs) >= self.limit + self.seats:
            raise OverloadError(f"{len(self._jobs)} texts are waiting already", fix="try again a little later")
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
            except BaseException:  # the thread ends with it
                call_in(loop, settle, None, OverloadError("the engine is down", down=True, retry_after=10))
                raise
            call_in(loop, settle, result, error)

        self._jobs.append(Job(work, lambda error: call_in(loop, settle, None, error)))
        self.wake()
        if not self.alive:
            settle(None, self._gone)
        return await future

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wanted.clear()
                if not self._round():
                    self._wanted.wait()
        except BaseException:
            if not self._stopping:
                log.critical("the thread that computes has died", exc_info=True)
        finally:
            died, self._stopping = not self._stopping, True
            if died:
                self._gone = OverloadError("the engine failed; this request is lost", down=True, retry_after=10)
            self._abandon()
            if died and self._died is not None:
                self._died()

    def _round(self) -> bool:
        """One job, one step of every engine that has work. False if there was nothing to do."""
        self.beats += 1
        busy = False
        if job := self._next_job():
            job.run()
            busy = True
        while self._arrived:
            feed = self._arrived[0]
            self._queue.append(feed)
            self._feeds[feed] = None  # before it leaves the arrivals: it is never in neither
            self._arrived.popleft()
        if self._queue:
            self._seat()
        for engine in dict.fromkeys(feed.engine for feed in self._feeds):
            busy |= self._step(engine)
        return self._hand_over() or busy or bool(self._jobs)  # a seat that became free is given in the next round

    def _seat(self) -> None:
        """Lets those in that there are seats for; those that gave up meanwhile leave."""
        for feed in [feed for feed in self._queue if feed.cancelled]:
            deliver([feed.send([], True, None)])
            self._unseat(feed)
        free = {engine: self._free(engine) for engine in {feed.engine for feed in self._queue}}
        if not any(count > 0 for count in free.values()):
            return
        shares = Counter((feed.engine, feed.caller) for feed in self._feeds if feed.seated)
        while able := [feed for feed in self._queue if free[feed.engine] > 0]:
            feed = min(able, key=lambda f: (-f.task.request.priority, shares[f.engine, f.caller]))
            self._queue.remove(feed)
            free[feed.engine] -= 1
            shares[feed.engine, feed.caller] += 1
            self._seated[feed.engine] += 1
            feed.seated = True
            feed.engine.submit(feed.task)

    def _free(self, engine: Engine) -> int:
        """Seats of an engine; whoever's reader has stalled gives way in it, and counts for none."""
        left = self.seats - self._seated[engine]
        if left <= 0:
            left += sum(f.seated and f.engine is engine and f.task.sequence.paused for f in self._feeds)
        return left

    def _unseat(self, feed: Feed) -> None:
        """It has ended."""
        del self._feeds[feed]
        if not feed.seated:
            self._queue.remove(feed)
            return
        self._seated[feed.engine] -= 1
        if not self._seated[feed.engine]:
            del self._seated[feed.engine]  # nothing is kept of a model that was unloaded

    def _next_job(self) -> Job | None:
        try:
            return self._jobs.popleft()
        except IndexError:
            return None

    def _step(self, engine: Engine) -> bool:
        """One step of an engine. Its own requests fail with it; after FAILURES running, so does the thread."""
        before = time.monotonic()
        try:
            busy = engine.step()
        except Exception as error:
            self._failures[engine] += 1
            lost = [feed for feed in self._feeds if feed.engine is engine]
            for feed in lost:
                engine.drop(feed.task)
                self._unseat(feed)
            deliver([feed.send([], True, error) for feed in lost])
            if self._failures[engine] >= FAILURES:
                raise
            return True
        del self._failures[engine]
        for feed in self._feeds:
            if feed.times.begun is None and feed.engine is engine and feed.task.sequence.reused is not None:
                feed.times.begun = before
        return busy

    def _hand_over(self) -> bool:
        """What lies ready goes to the loops. Whether anything did: a request that paused goes on with the next step."""
        messages: list[Message] = []
        for feed in tuple(self._feeds):
            task = feed.task
            if not task.ready or not (feed.room or feed.cancelled):
                continue
            ended = task.ended
            messages.append(feed.send(feed.engine.take(task), ended, task.failure if ended else None))
            if ended:
                self._unseat(feed)
        deliver(messages)
        return bool(messages)

    def _abandon(self) -> None:
        """Nobody is left waiting. Called by the thread when it ends, and by whoever ends it."""
        deliver([feed.send([], True, self._gone) for feed in self.feeds])
        while job := self._next_job():
            job.fail(self._gone)


def _goes(feed: Feed, engine: Engine, adapter: Adapter | None) -> bool:
    """Whether a request belongs to an adapter of an engine, or to anything in the engine where none is given."""
    return feed.engine is engine and (adapter is None or feed.lane[1] == adapter.number)
