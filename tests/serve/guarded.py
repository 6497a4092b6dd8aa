"""Servers with keys, and requests as a socket sees them, for the tests of what guards them."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Settings

USER, OTHER, ADMIN = "user-key-Zq81vX", "other-key-Lm27pR", "admin-key-Tt95wB"
KEYED: dict[str, Any] = {"api_keys": (USER, OTHER), "admin_keys": (ADMIN,), "template": "alpaca"}
PUBLIC = {("GET", "/health"), ("GET", "/ready")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
# What no error may tell: places in memory, files of the server, code.
INSIDE = re.compile(
    r"0x[0-9a-f]{4,}|Traceback|File \"|\.py\b|site-packages|(?:^|[\s'\"])/(?:home|root|usr|tmp|work|var|opt)/"
    r"|paddock\.[a-z]|torch\.|pydantic|starlette|fastapi|Error\("
)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def client_of(server: Server, **options: Any) -> TestClient:
    return TestClient(
        make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False, follow_redirects=False, **options
    )


@contextlib.contextmanager
def opened(**settings: Any) -> Iterator[Server]:
    """A server that has loaded its model and computes."""
    server = Server(Settings(**settings))
    server.open()
    try:
        yield server
    finally:
        server.close()


def addresses(server: Server) -> list[tuple[str, set[str]]]:
    """Every route's address, parameters filled in, and its methods."""
    found = []
    for context in iter_route_contexts(make_app(server).routes):
        path = re.sub(r"\{[^}]*\}", "x", getattr(context.route, "path", "/"))
        found.append((path, set(getattr(context.route, "methods", None) or {"GET"})))
    return found


def check_refusal(response: Any, status: int | None = None) -> None:
    """A refusal has an error object in JSON, and tells nothing of the inside."""
    assert status is None or response.status_code == status, (response.status_code, response.text)
    assert response.status_code >= 400
    assert not INSIDE.search(response.text), response.text
    if response.request.method != "HEAD":
        error = response.json()["error"]
        assert isinstance(error, str) or error["message"]


def connected(address: str, seconds: float = 5.0) -> socket.socket:
    place = urlsplit(address)
    assert place.hostname and place.port
    return socket.create_connection((place.hostname, place.port), timeout=seconds)


def exchange(address: str, data: bytes, seconds: float = 5.0) -> bytes:
    """Sends bytes to a server as they are, and reads until it hangs up or has answered."""
    with connected(address, seconds) as wire:
        wire.sendall(data)
        return read_answer(wire)


def read_answer(wire: socket.socket) -> bytes:
    """One response: its head, and its body as far as Content-Length says."""
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while not complete(answer) and (piece := wire.recv(65536)):
            answer += piece
    return answer


def read_all(wire: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while piece := wire.recv(65536):
            answer += piece
    return answer


def complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def status_of(answer: bytes) -> int:
    """0 where there was no answer."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0
