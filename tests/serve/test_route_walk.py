"""Default deny: every route, method and spelling of an address, with every state of a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from guarded import (
    ADMIN,
    KEYED,
    METHODS,
    PUBLIC,
    USER,
    addresses,
    bearer,
    check_refusal,
    client_of,
    connected,
    exchange,
    opened,
    read_all,
    status_of,
)
from running import Running
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from paddock.serve.app import make_app
from paddock.serve.guards import OPEN
from paddock.serve.server import Server

NO_KEY: list[dict[str, str]] = [bearer("wrong-key-123"), bearer(USER[:-1]), {"x-api-key": "wrong-key-123"}]
ADMINISTRATORS = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}  # besides what lies below /v1/admin
UNKNOWN = (
    "/nothing",
    "/v1",
    "/v1/",
    "/v1/nothing",
    "/docs",
    "/redoc",
    "/assets/x.js",
    "/health/x",
)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    with opened(**KEYED) as server:
        yield server


@pytest.fixture(scope="module")
def walker(keyed: Server) -> TestClient:
    return client_of(keyed)


def test_the_open_routes_are_three_and_exist(keyed: Server) -> None:
    assert PUBLIC | {("POST", "/login")} == OPEN
    known = {(method, path) for path, methods in addresses(keyed) for method in methods}
    assert known >= OPEN


def test_without_a_key_nothing_answers_but_health(keyed: Server, walker: TestClient) -> None:
    paths = {path for path, _ in addresses(keyed)} | set(UNKNOWN) | {"/", "/openapi.json", "/metrics"}
    assert len(paths) > 15
    walk: list[tuple[str, str, dict[str, str]]] = [(path, method, {}) for path in paths for method in METHODS]
    walk += [(path, method, wrong) for path, methods in addresses(keyed) for method in methods for wrong in NO_KEY]
    for path, method, headers in walk:
        response = walker.request(method, path, headers=headers)
        if (method, path) in PUBLIC:
            assert response.status_code == 200
        elif (method, path) == ("POST", "/login"):
            assert response.status_code == 401 and "set-cookie" not in response.headers
        else:
            check_refusal(response, 401)


def test_with_a_key_addresses_are_what_they_are(keyed: Server, walker: TestClient) -> None:
    """The same walk notices a server that answers 401 to everybody."""
    for path, methods in addresses(keyed):
        for method in METHODS:
            status = walker.request(method, path, headers=bearer(USER)).status_code
            if path.startswith("/v1/admin") or (path in ADMINISTRATORS and method in methods):
                assert status == 403
            elif method in methods:
                assert status not in (403, 405) and status < 500, (method, path, status)
                assert status != 401 or path == "/login"  # which wants it in the form
            else:
                assert status in (404, 405), (method, path, status)
    for path in UNKNOWN:
        assert walker.get(path, headers=bearer(USER)).status_code == 404


def test_administration_is_for_administrators(keyed: Server, walker: TestClient) -> None:
    admin = [row for row in addresses(keyed) if row[0].startswith("/v1/admin") or row[0] in ADMINISTRATORS]
    assert len(admin) >= 2 + len(ADMINISTRATORS)
    for path, methods in [*admin, ("/v1/admin/nothing", {"GET"})]:
        for method in methods:
            check_refusal(walker.request(method, path, headers=bearer(USER)), 403)
            assert walker.request(method, path, headers=bearer(ADMIN)).status_code not in (401, 403)


def test_what_is_mounted_later_is_closed_too(keyed: Server) -> None:
    app = make_app(keyed)
    hello = PlainTextResponse("hello")
    app.routes.append(Mount("/files", routes=[Route("/a.js", hello)]))
    app.routes.append(Route("/plain", hello))
    app.add_api_route("/late", lambda: "late")
    app.add_api_route("/{path:path}", lambda: "all")
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    for path in ("/files/a.js", "/plain", "/late", "/anything/else"):
        check_refusal(client.get(path), 401)
        assert client.get(path, headers=bearer(USER)).status_code == 200


def test_the_router_asks_again_whatever_the_gate_let_through(keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the two ever differ about an address, the route that was matched decides."""
    monkeypatch.setattr("paddock.serve.guards.OPEN", {(m, p) for p, ms in addresses(keyed) for m in ms})
    client = client_of(keyed)
    for path, methods in addresses(keyed):
        if path.startswith("/openapi") or "GET" not in methods or ("GET", path) in PUBLIC:
            continue
        check_refusal(client.get(path), 401)


# What a socket may say. None of it is a request for an open address, or it comes with a wrong name.
TARGETS = [
    "/v1/models", "//v1/models", "/v1//models", "/v1/models/", "/V1/models", "/v1/models?x=/health",
    "/v1/models#/health",
    "/health/../v1/models", "/health/%2e%2e/v1/models", "/health%2f..%2fv1%2fmodels", "/health/..%2fv1/models",
    "/health;/v1/models", "/v1/models;/health", "/v1/models%00/health", "/v1/models%0d%0aX:1", "/%76%31/models",
    "/v1/models%20", "/%2f/v1/models", "/./v1/models", "/health/./../v1/models", "\\v1\\models", "/v1\\models",
    "http://127.0.0.1/v1/models", "http://evil.example/v1/models", "http://127.0.0.1/health", "https://x/health",
    "http:///health", "health", "*", "?", "/?/health", "//health", "/health/", "/HEALTH", "/health%00", "/health%20",
    "/health%2f", "/ready/", "//ready", "/openapi.json", "/metrics", "/", "/login", "/logout", "/session",
    "/index.html",
    "/v1/chat/completions", "/v1/admin/models", "/v1/%61dmin/models", "/.well-known/x", "/%c0%af", "/%ff%fe", "/%",
    "/%zz", "/favicon.ico", "/assets/../v1/models", "/v1/models/..;/", "/api/tags", "/v1/messages", "/tokenize",
]  # fmt: skip
HOSTS = [
    "127.0.0.1", "localhost", "LOCALHOST", "localhost:1", "localhost.", "[::1]", "[::1]:8000",
    "x/?", "127.0.0.1/health", "127.0.0.1/health?", "127.0.0.1#/health", "evil.example", "evil.example/health",
    "health", "127.0.0.1:80/health?", "@127.0.0.1", "a@127.0.0.1", "127.0.0.1@evil.example", "localhost,evil.example",
    "localhost evil.example", "", " ", "127.0.0.1.evil.example", "127.0.0.1:x", "[::1", "[127.0.0.1]", "0x7f.1",
    "2130706433", "127.1", "localhost%00", "localhost\t", "..", "localhost:99999999",
]  # fmt: skip
GOOD_HOSTS = {"127.0.0.1", "localhost", "LOCALHOST", "localhost:1", "localhost.", "[::1]", "[::1]:8000", "localhost\t"}
EXTRA = [
    "", "X-Original-URL: /health\r\n", "X-Rewrite-URL: /health\r\n", "X-Forwarded-Host: localhost\r\n",
    "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Prefix: /health\r\n", "X-HTTP-Method-Override: GET\r\n",
    "Authorization: Bearer\r\n", "Authorization: Bearer null\r\n", "Cookie: paddock_session=\r\n",
    "Cookie: paddock_session=0; paddock_session=1\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Host: localhost\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: xchunked\r\n",
    "Expect: 100-continue\r\n", "Content-Length: -1\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
]  # fmt: skip
RAW_METHODS = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "GETT", "PRI"]


def variants(count: int) -> list[tuple[str, str, str, str, str]]:
    """Every target, host, method and header at least once with plain others, and then mixed ones."""
    chance = random.Random(8)
    plain = [("GET", target, "localhost", "", "1.1") for target in TARGETS]
    plain += [("GET", "/v1/models", host, "", "1.1") for host in HOSTS]
    plain += [(method, "/v1/models", "localhost", "", "1.1") for method in RAW_METHODS]
    plain += [("GET", "/v1/models", "localhost", extra, "1.1") for extra in EXTRA]
    plain += [("GET", target, "localhost", "", "1.0") for target in TARGETS[::6]]
    while len(plain) < count:
        plain.append(
            (
                chance.choice(RAW_METHODS[:7]),
                chance.choice(TARGETS),
                chance.choice(HOSTS),
                chance.choice(EXTRA),
                chance.choice(("1.1", "1.1", "1.0")),
            )
        )
    return plain


def allowed(method: str, target: str, host: str) -> bool:
    """Whether the answer may be a success: the two open addresses, spelt plainly."""
    return host in GOOD_HOSTS and (method, target.split("?")[0]) in PUBLIC


def test_no_way_of_asking_gets_past_the_key(keyed: Server) -> None:
    seen: dict[int, int] = {}
    with Running(keyed) as address:

        def ask(variant: tuple[str, str, str, str, str]) -> tuple[Any, bytes]:
            method, target, host, extra, version = variant
            head = f"{method} {target} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n"
            return variant, exchange(address, head.encode("latin-1"))

        with ThreadPoolExecutor(8) as pool:
            for variant, answer in pool.map(ask, variants(900)):
                status = status_of(answer)
                seen[status] = seen.get(status, 0) + 1
                body = answer.partition(b"\r\n\r\n")[2]
                assert not allowed(*variant[:3]) or status in (200, 400), variant
                assert allowed(*variant[:3]) or status in (0, 400, 401, 403), (variant, answer[:300])
                assert b'"data"' not in body and b"openapi" not in body and b"stories260K" not in body, variant
        good = exchange(address, f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {USER}\r\n\r\n".encode())
        assert status_of(good) == 200 and b"stories260K" in good
    assert seen.get(401, 0) > 200 and seen.get(403, 0) > 200, seen


def test_a_second_request_on_a_connection_needs_its_own_key(keyed: Server) -> None:
    with Running(keyed) as address:
        first = f"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {USER}\r\n\r\n"
        second = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with connected(address) as wire:
            wire.sendall((first + second).encode())
            answer = read_all(wire)
    assert answer.count(b"HTTP/1.1 200") == 1 and answer.count(b"HTTP/1.1 401") == 1
