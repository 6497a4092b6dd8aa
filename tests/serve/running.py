"""A server on a socket of this machine, in this process."""

from __future__ import annotations

import gc
import threading
import warnings

import uvicorn

from paddock.serve.app import make_app
from paddock.serve.connections import Connection
from paddock.serve.server import Server

TEMPLATE = "alpaca"  # the bundled model was published without one


class Running:
    """`with Running(server) as address`: the server's application behind uvicorn, until the block ends."""

    def __init__(self, server: Server) -> None:
        config = uvicorn.Config(
            make_app(server), host="127.0.0.1", port=0, log_level="warning", lifespan="off", ws="none", http=Connection
        )
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.uvicorn.started:
            assert self.thread.is_alive(), "the server did not start"
        port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.uvicorn.should_exit = True
        self.thread.join()
        # A browser connects ahead of need: what asyncio accepted just as its loop ended is left for nobody to close,
        # and would be held against whatever test is running when it is collected.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
