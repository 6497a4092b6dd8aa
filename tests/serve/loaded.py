"""Servers for load tests: what they run on can be looked at from the outside."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from serve_models import copy_bundled

from paddock.engine.engine import Engine
from paddock.engine.runners import engine_for
from paddock.serve.app import make_app
from paddock.serve.registry import Served
from paddock.serve.server import Server
from paddock.serve.settings import Named, Settings


class Loaded:
    """`with Loaded(settings) as loaded`: a server on a socket of this machine until the block ends.

    send_buffer: bytes that the system may take of what a client does not read. blocks: the size of the cache.
    """

    def __init__(self, settings: Settings, send_buffer: int | None = None, blocks: int | None = None) -> None:
        self.server = Server(settings)
        self.blocks = blocks
        self.socket = socket.socket()
        if send_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Loaded:
        self.server.open()
        if self.blocks is not None:
            served = self.served
            engine = engine_for(served.model.model, blocks=self.blocks, sequences=self.server.settings.parallel)
            self.server.registry.remove(served.name)
            self.server.registry.add(Served(served.name, served.model, engine, served.root))
        config = uvicorn.Config(make_app(self.server), log_level="warning", lifespan="off", ws="none", backlog=1024)
        self.http = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.until(lambda: self.http.started)
        self.tasks = self.names()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.should_exit = True
        self.thread.join()
        self.server.close()
        self.socket.close()

    def _run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self.http.serve([self.socket])

        asyncio.run(serve())

    @property
    def served(self) -> Served:
        return self.server.registry.find(None)

    @property
    def engine(self) -> Engine:
        engine = self.served.engine
        assert engine is not None
        return engine

    def names(self) -> list[str]:
        """The coroutines that are under way in the server's loop."""
        assert self.loop is not None
        return sorted(str(task.get_coro().__qualname__) for task in asyncio.all_tasks(self.loop))  # type: ignore[union-attr]

    def until(self, there: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.005)

    def check_idle(self) -> None:
        """Nothing is left of any request: no feed, no block, no coroutine."""
        self.until(lambda: not self.server.worker.active)
        self.until(lambda: self.engine.stats.used == 0)
        self.until(lambda: self.names() == self.tasks)
        stats = self.engine.stats
        assert stats.free + stats.cached == stats.blocks and not stats.running and not stats.waiting
        assert self.server.in_flight == 0


def long_story(folder: Path, context: int) -> Named:
    """The bundled model, which may read more than it was trained to."""
    path = copy_bundled(folder / "long")
    config: dict[str, Any] = json.loads((path / "config.json").read_text())
    config["max_position_embeddings"] = context
    (path / "config.json").write_text(json.dumps(config))
    return Named("long", str(path))
