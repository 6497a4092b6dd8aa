"""A server around the bundled model: in process (`client`), and over a real socket (`live`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Watched, launched, watched
from fastapi.testclient import TestClient
from running import TEMPLATE, Running

from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Settings


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests that do not change it."""
    made = Server(Settings(template=TEMPLATE))
    made.open()
    yield made
    made.close()


@pytest.fixture(scope="session")
def client(server: Server) -> TestClient:
    """Requests without a socket; a failure inside the server is a response here too."""
    return TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="session")
def live(server: Server) -> Iterator[str]:
    """The address of the same server on a socket of this machine."""
    with Running(server) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser, for one file of tests: while Playwright runs, no other event loop can on this thread."""
    with launched() as browser:
        yield browser


@pytest.fixture
def watch(chromium: Any, live: str) -> Iterator[Watched]:
    """A fresh page of the web interface, whose every request and complaint is noted."""
    with watched(chromium, live) as found:
        yield found
