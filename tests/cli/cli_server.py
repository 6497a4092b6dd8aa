"""A server of this process that `paddock chat --url` can talk with."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn

from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Settings


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[tuple[Server, str]]:
    """A server on a free port of this machine, and its address."""
    server = Server(settings)
    server.open()
    config = uvicorn.Config(make_app(server), host="127.0.0.1", port=0, log_level="warning", lifespan="off", ws="none")
    listening = uvicorn.Server(config)
    thread = threading.Thread(target=listening.run, daemon=True)
    thread.start()
    try:
        while not listening.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield server, f"http://127.0.0.1:{listening.servers[0].sockets[0].getsockname()[1]}"
    finally:
        listening.should_exit = True
        thread.join()
        server.close()
