"""What the processes of a run know of each other's health, besides what they compute together.

A process that fails says so on the board before it goes, and with which exit code, so that the others end with the same
one instead of waiting for an answer. One that is killed or stopped says nothing: it is missed by its beat.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist

from paddock.errors import PaddockError

GRACE = 10.0  # seconds that the main thread has to end by itself after another process failed
FAILED, HEARD, LEFT = "failed", "heard", "left"
# What a broken or timed out collective says of itself; PyTorch has no class of its own for gloo's.
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe|[Tt]imed out|wait timeout|heartbeat")


@dataclass(frozen=True)
class Failure:
    """The first process that failed, the exit code it ends with, and why."""

    rank: int
    code: int
    what: str

    def error(self, world: int) -> PaddockError:
        error = PaddockError(f"process {self.rank} of {world} stopped: {self.what}", fix=_FIX)
        error.exit_code = self.code
        return error


_FIX = "see that process's own message; with torchrun --max-restarts the run goes on from its newest saved step"


class Watch:
    """A thread that beats, and listens for the others.

    store: the board, on a connection of its own. limit: seconds without a beat after which a process counts as lost.
    The main process (rank 0) minds all others, and they mind it: that is enough, and scales.
    """

    def __init__(self, store: dist.Store, rank: int, world: int, limit: float, leave: Callable[[int], None]) -> None:
        self.store, self.rank, self.world, self.limit, self.leave = store, rank, world, limit, leave
        self.period = min(0.5, limit / 4)
        self.failure: Failure | None = None
        self.closing = threading.Event()
        self.heard: dict[int, tuple[bytes, float]] = {}
        self._beat(0)
        self.thread = threading.Thread(target=self._run, name="paddock-watch", daemon=True)

    def start(self) -> None:
        """Begins; every process must have made its watch, so that there is a beat of each."""
        self.thread.start()

    def tell(self, code: int, what: str) -> Failure:
        """This process fails. Gives the failure that all processes end with, which another's may be."""
        self.closing.set()
        mine = json.dumps({"rank": self.rank, "code": code, "what": what[:2000]})
        try:
            first = Failure(**json.loads(self.store.compare_set(FAILED, "", mine)))
            if first.rank == self.rank:
                self._wait(HEARD, self.world - 1, min(3.0, 4 * self.period + 1))
            else:
                self.store.add(HEARD, 1)
            return first
        except (RuntimeError, ValueError, TypeError):  # the board went with the process that held it
            return Failure(self.rank, code, what)

    def close(self, holds: bool) -> None:
        """A good end. Who holds the board (`holds`) stays until all have left it."""
        self.closing.set()
        self.thread.join()
        with contextlib.suppress(RuntimeError):  # gone before us: nobody needs it any more
            self.store.add(LEFT, 1)
            if holds:
                self._wait(LEFT, self.world, self.limit)

    def _run(self) -> None:
        number = 0
        try:
            while not self.closing.wait(self.period):
                number += 1
                self._beat(number)
                if self.store.check([FAILED]):
                    self._end(Failure(**json.loads(self.store.get(FAILED))))
                    return
                missed = self._missed()
                if missed is not None:
                    what = f"it has not answered for {self.limit:g} s"
                    told = json.dumps({"rank": missed, "code": PaddockError.exit_code, "what": what})
                    self.store.compare_set(FAILED, "", told)
        except (RuntimeError, ValueError, TypeError) as error:
            if not self.closing.is_set():
                self._end(Failure(0, PaddockError.exit_code, f"it can no longer be reached ({str(error)[:200]})"))

    def _beat(self, number: int) -> None:
        self.store.set(f"beat/{self.rank}", str(number))

    def _missed(self) -> int | None:
        """A process that was not heard for too long."""
        now = time.monotonic()
        minded = range(1, self.world) if self.rank == 0 else range(1)
        for rank, beat in zip(minded, self.store.multi_get([f"beat/{rank}" for rank in minded]), strict=True):
            last, since = self.heard.get(rank, (None, now))
            if beat != last:
                self.heard[rank] = (beat, now)
            elif now - since > self.limit:
                return rank
        return None

    def _end(self, failure: Failure) -> None:
        """Another process failed: the main thread hears of it by itself where it is in a collective, or is made to."""
        self.failure = failure
        with contextlib.suppress(RuntimeError):
            self.store.add(HEARD, 1)
        if not self.closing.wait(GRACE):
            sys.stderr.write(f"error: {failure.error(self.world)}\n")
            sys.stderr.flush()
            self.leave(failure.code)

    def _wait(self, key: str, count: int, limit: float) -> None:
        until = time.monotonic() + limit
        while self.store.add(key, 0) < count and time.monotonic() < until:
            time.sleep(0.02)


def lost(error: BaseException) -> bool:
    """Whether an error is a collective's: another process is gone, or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(LOST.search(str(error))))


def leave(code: int) -> None:
    """Ends the process at once. Its threads may wait in collectives that nobody will ever answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
