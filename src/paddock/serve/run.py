"""A server from its start to its end: models load behind an open door, requests run, signals end it in order.

    listen ──> HTTP answers, models load ──> ready ──signal──> drain ──> broken off ──> gone
               /ready 503                    200               503      error events

The first signal (SIGTERM, Ctrl-C) lets what runs end, within `drain_seconds`; the second breaks it off at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from paddock.engine.grammar_check import CHECKER as GRAMMARS
from paddock.errors import OverloadError
from paddock.serve.accesslog import Plain
from paddock.serve.app import make_app
from paddock.serve.connections import Connection
from paddock.serve.server import Server
from paddock.serve.settings import Settings
from paddock.tokenizer.template_worker import WORKER as TEMPLATES

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TELL_SECONDS = 1.0  # for streams that were broken off to say so
HTTP_SECONDS = 1  # for connections to close
EXIT_SECONDS = 2.0  # for threads to end, which cannot be made to
SECOND_SIGNAL_SECONDS = 1.5
# Work beside the loop mostly waits: for a turn with the processes of templates and of grammars, which one caller's
# requests (--per-key-in-flight) may take up for a while. asyncio's own number is a few more than there are cores.
THREADS = 64
log = logging.getLogger("paddock.serve")


def run(settings: Settings, listening: socket.socket, began: Callable[[Server], None]) -> int:
    """Serves until it is told to stop; the exit code. `began`: called when the models are loaded.

    Raises what `Server` and `Server.open` do.
    """
    life = _Run(Server(settings), listening, began)
    with _logging(), listening, life.heeding_signals():
        code = asyncio.run(life.main())
    life.settle(code)
    return code


class _Http(uvicorn.Server):
    """uvicorn's, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Run:
    """One life of a server."""

    def __init__(self, server: Server, listening: socket.socket, began: Callable[[Server], None]) -> None:
        chosen = server.settings
        self.server, self.listening, self.began = server, listening, began
        self.http = _Http(
            uvicorn.Config(
                make_app(server),
                log_config=None,
                access_log=False,
                http=Connection,
                ws="none",
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=HTTP_SECONDS,
                ssl_certfile=chosen.ssl_certfile,
                ssl_keyfile=chosen.ssl_keyfile,
            )
        )
        self.signals = 0
        self.loader = threading.Thread(target=self._open, name="paddock-load", daemon=True)
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self.failure: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.last_resort: threading.Timer | None = None
        self.latest = float("inf")  # when the last resort is taken

    async def main(self) -> int:
        self.loop = asyncio.get_running_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(THREADS, "paddock-beside"))
        if self.signals:
            self.stop.set()
        serving = asyncio.create_task(self.http.serve([self.listening]))
        serving.add_done_callback(lambda _: self.stop.set())
        self.loader.start()
        try:
            await self.stop.wait()
            if self.failure is None and not serving.done():
                await self._drain()
            self.http.should_exit = True
            await serving
        finally:
            self._leave_within(EXIT_SECONDS)
            self.server.close()
        if self.failure is not None:
            raise self.failure
        return 0

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._signalled) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.last_resort is not None:
                self.last_resort.cancel()

    def settle(self, code: int) -> None:
        """Ends the process where a thread is still inside a library, which the interpreter's own end might disturb."""
        if self.loader.is_alive() or not self.server.worker.stop(0.0):
            _leave(code)

    def _open(self) -> None:
        """On a thread of its own, which the end of the server does not wait for."""
        try:
            self.server.open()
            gc.collect()
            gc.freeze()  # a third of a second of standstill each time, and what is loaded is no garbage
            if not self.server.draining:
                self.began(self.server)
        except BaseException as error:
            self.failure = error
            self._wake(self.stop)

    def _signalled(self, number: int, frame: object) -> None:
        """Between two instructions of the main thread, whatever it does; the loop wakes up of a signal."""
        self.signals += 1
        self.server.draining = True
        if self.signals > 1:
            self._leave_within(SECOND_SIGNAL_SECONDS)
            self._wake(self.hurry)
        self._wake(self.stop)

    def _wake(self, event: asyncio.Event) -> None:
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self.loop.call_soon_threadsafe(event.set)

    def _leave_within(self, seconds: float) -> None:
        """Ends the process after `seconds` if it is still there then: a thread inside a library cannot be stopped."""
        if time.monotonic() + seconds >= self.latest:
            return
        if self.last_resort is not None:
            self.last_resort.cancel()
        self.latest = time.monotonic() + seconds
        code = 0 if self.failure is None else getattr(self.failure, "exit_code", 1)
        self.last_resort = threading.Timer(seconds, _leave, (code,))
        self.last_resort.daemon = True
        self.last_resort.start()

    async def _drain(self) -> None:
        """New work is refused by now. What runs may end; then it is broken off, and its readers are told."""
        server = self.server
        if server.in_flight:
            log.info("stopping: %d requests have %g s to end", server.in_flight, server.settings.drain_seconds)
        await self._idle(server.settings.drain_seconds)
        if server.in_flight:
            log.info("%d requests are broken off", server.in_flight)
            server.worker.fail(OverloadError("the server is shutting down", down=True, retry_after=10))
            self.hurry.clear()
            await self._idle(TELL_SECONDS)

    async def _idle(self, seconds: float) -> None:
        """Until no request is being answered, for `seconds`, or until somebody is in a hurry."""
        end = time.monotonic() + seconds
        while self.server.in_flight and time.monotonic() < end and not self.hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.hurry.wait(), 0.05)


def _leave(code: int) -> None:
    """Ends the process, and those it started, without asking anybody."""
    for child in (TEMPLATES, GRAMMARS):
        with contextlib.suppress(Exception):
            child.stop()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Log lines go to standard error while the server runs: requests, failures, and what uvicorn has to say of them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain("%(message)s"))
    names = {"paddock.access": logging.INFO, "paddock.serve": logging.INFO, "paddock.prompts": logging.INFO}
    loggers = {logging.getLogger(name): level for name, level in {**names, "uvicorn.error": logging.WARNING}.items()}
    for logger, level in loggers.items():
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
