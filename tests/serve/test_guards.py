"""Names, origins, bodies and headers, as the guards take them or not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from guarded import KEYED, USER, bearer, check_refusal, client_of, connected, exchange, opened, read_answer, status_of
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Running

from paddock.errors import PaddockError, UsageError
from paddock.serve import guards
from paddock.serve.app import make_app
from paddock.serve.guards import BODY_BYTES, Bodies, Hosts, Outermost, check_choices
from paddock.serve.refusals import BadRequest
from paddock.serve.server import Server
from paddock.serve.settings import Settings
from paddock.serve.wire import MAX_DEPTH, MAX_VALUES, check_json

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}


async def nothing(*_: Any) -> Any: ...


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    with opened(**KEYED, cors_origins=("https://app.example.org", "http://localhost:3000")) as server:
        yield server


# Names


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.0.0.1:8000", "LocalHost:1", "[::1]:80", "localhost."])
def test_loopback_names_are_ours(name: str) -> None:
    assert Hosts(nothing, "127.0.0.1", ()).goes_by([name])


@pytest.mark.parametrize(
    "name",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7", "", "localhost/", "a@localhost",
     "localhost:port", "0.0.0.0", "[::]", "127.0.0.2", "localhost..", "loc\xe4lhost", "localhost, localhost", "*"],
)  # fmt: skip
def test_other_names_are_not(name: str) -> None:
    assert not Hosts(nothing, "127.0.0.1", ()).goes_by([name])


def test_names_an_operator_adds() -> None:
    hosts = Hosts(nothing, "models.lan", ("llm.example.org", "10.0.0.3", "[fd00::1]"))
    for name in ("models.lan:8000", "LLM.example.org", "10.0.0.3", "[fd00::1]:8000", "localhost"):
        assert hosts.goes_by([name])
    for names in (["example.org"], ["x.llm.example.org"], ["10.0.0.4"], [], ["localhost", "localhost"]):
        assert not hosts.goes_by(names)
    assert Hosts(nothing, "127.0.0.1", ("*",)).goes_by(["anything.example"])


def test_a_server_on_all_addresses_takes_any_address_and_no_name() -> None:
    for host in ("0.0.0.0", "::"):
        hosts = Hosts(nothing, host, ())
        assert hosts.goes_by(["192.168.1.7:8000"]) and hosts.goes_by(["[fd00::1]"])
        assert not hosts.goes_by(["rebound.example"]) and not hosts.goes_by(["1.2.3.4.example"])


def test_a_foreign_name_is_refused_before_anything_is_told(client: Any) -> None:
    for path in ("/health", "/v1/models", "/nothing"):
        check_refusal(client.get(path, headers={"Host": "evil.example"}), 403)


# Origins

ORIGINS = [
    "https://app.example.org", "http://localhost:3000",
    "https://app.example.org.evil.example", "https://evil.example", "http://app.example.org", "https://app.example.org:8443",
    "https://APP.example.org", "null", "https://app.example.org/", "https://app.example.orgx", "http://localhost", "*",
]  # fmt: skip
ALLOWED = set(ORIGINS[:2])


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("mode", ["preflight", "get", "post", "without a key"])
def test_other_origins_pages_read_nothing_unless_named(keyed: Server, origin: str, mode: str) -> None:
    client, headers = client_of(keyed), {"Origin": origin}
    if mode == "preflight":
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-a, b\x00c",
        }
        response = client.options(CHAT, headers={**headers, **asked})
        assert response.status_code == (204 if origin in ALLOWED else 401)
        if origin in ALLOWED:
            assert response.headers["access-control-allow-headers"] == "authorization, x-a"
    elif mode == "get":
        response = client.get("/v1/models", headers={**headers, **bearer(USER)})
        assert response.status_code == 200
    elif mode == "post":
        response = client.post(CHAT, json={}, headers={**headers, **bearer(USER)})
        check_refusal(response, 400)
    else:
        response = client.get("/v1/models", headers=headers)
        check_refusal(response, 401)
    expected = origin if origin in ALLOWED else None
    assert response.headers.get("access-control-allow-origin") == expected
    assert "access-control-allow-credentials" not in response.headers
    assert "Origin" in response.headers["vary"]


def test_without_named_origins_there_is_no_cors_at_all(client: Any) -> None:
    for headers in ({"Origin": "http://127.0.0.1"}, {"Origin": "https://evil.example"}):
        response = client.options(CHAT, headers={**headers, "Access-Control-Request-Method": "POST"})
        assert response.status_code == 405
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://x.example/", "x.example", "https://*.x.example", "HTTPS://X", ""]
)
def test_what_is_no_origin_cannot_be_named(origin: str) -> None:
    with pytest.raises(UsageError, match="--cors-origin"):
        make_app(Server(Settings(cors_origins=(origin,))))


@pytest.mark.parametrize("host", ["http://x.example", "x.example:8000", "x/y", "", "a b", "*.example", "[::1]:80"])
def test_what_is_no_name_cannot_be_allowed(host: str) -> None:
    with pytest.raises(UsageError, match="--allowed-host"):
        make_app(Server(Settings(allowed_hosts=(host,))))


def test_names_and_addresses_can() -> None:
    check_choices((), ("x.example", "*", "10.0.0.1", "::1", "[::1]", "a_b"))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost"])
def test_an_open_server_computes_for_no_page_but_its_own(client: Any, origin: str) -> None:
    check_refusal(client.post(CHAT, json={}, headers={"Origin": origin}), 403)
    check_refusal(client.post(CHAT, json={}, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    check_refusal(client.post(CHAT, json={}, headers={"Origin": "http://127.0.0.1"}), 400)
    check_refusal(client.post(CHAT, json={}), 400)


def test_named_origins_may_use_an_open_server() -> None:
    with opened(cors_origins=("app://obsidian.md", "https://a.example")) as server:
        response = client_of(server).post(CHAT, json={}, headers={"Origin": "app://obsidian.md"})
        check_refusal(response, 400)
        assert response.headers["access-control-allow-origin"] == "app://obsidian.md"


# Ids and headers


@pytest.mark.parametrize("id", ["a", "req-1.2_3", "A" * 64])
def test_a_harmless_request_id_comes_back(client: Any, id: str) -> None:
    assert client.get("/health", headers={"X-Request-Id": id}).headers["x-request-id"] == id


@pytest.mark.parametrize("id", ["", "A" * 65, "a b", "a\tb", "a;b", "../x", "<b>", "\xe4", "a\x1b[31m"])
def test_other_request_ids_are_replaced(client: Any, id: str) -> None:
    response = client.get("/health", headers=[(b"X-Request-Id", id.encode("latin-1"))])
    assert response.headers["x-request-id"] != id and len(response.headers["x-request-id"]) == 32


def test_two_request_ids_are_none(client: Any) -> None:
    response = client.get("/health", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert len(response.headers["x-request-id"]) == 32


def test_every_response_says_how_it_may_be_used(client: Any) -> None:
    for response in (
        client.get("/health"),
        client.get("/nothing"),
        client.get("/health", headers={"Host": "x.example"}),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert "unsafe" not in guards.PAGE_POLICY and "http" not in guards.PAGE_POLICY and "*" not in guards.PAGE_POLICY


def test_too_many_headers(client: Any) -> None:
    check_refusal(client.get("/health", headers=[(f"x-{n}", "1") for n in range(101)]), 431)
    check_refusal(client.get("/health", headers={"x-long": "a" * 33_000}), 431)
    assert client.get("/health", headers=[(f"x-{n}", "1") for n in range(80)]).status_code == 200


def test_ten_thousand_headers_end_one_connection_and_nothing_else(live: str) -> None:
    head = "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-{n}: {n}\r\n" for n in range(10_000)) + "\r\n"
    assert status_of(exchange(live, head.encode())) in (0, 400, 431)
    assert status_of(exchange(live, ("GET /" + "a" * 200_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n").encode())) in (
        0,
        400,
    )
    assert status_of(exchange(live, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 200


# Bodies


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
     "application/json; charset=utf-16", "application/json; charset=latin1", "application/json, text/plain", "json",
     "application/json; boundary=x", "application/problem+json"],
)  # fmt: skip
def test_bodies_that_are_not_json_by_their_own_word(client: Any, kind: str) -> None:
    response = client.post(CHAT, content=b"{}", headers={"Content-Type": kind} if kind else {})
    check_refusal(response, 415)
    message = response.json()["error"]["message"]
    assert (repr(kind) if kind else "missing") in message and "expected application/json; with curl: -H" in message


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_bodies_that_are(client: Any, kind: str) -> None:
    check_refusal(client.post(CHAT, content=b"{}", headers={"Content-Type": kind}), 400)


def test_a_body_in_a_coding_is_never_unpacked(client: Any) -> None:
    for coding in ("gzip", "deflate", "br", "identity, gzip"):
        check_refusal(client.post(CHAT, content=b"{}", headers={**JSON, "Content-Encoding": coding}), 415)
    check_refusal(client.post(CHAT, content=b"{}", headers={**JSON, "Content-Encoding": "identity"}), 400)


def pieces(size: int) -> Iterator[bytes]:
    """A body without a Content-Length."""
    yield b'{"messages":"'
    for _ in range(size // 2**16):
        yield b"a" * 2**16


def test_a_body_has_a_size(client: Any) -> None:
    check_refusal(client.post(CHAT, content=b"[" + b" " * (BODY_BYTES - 2) + b"]", headers=JSON), 400)
    check_refusal(client.post(CHAT, content=b"[" + b" " * (BODY_BYTES - 1) + b"]", headers=JSON), 413)
    check_refusal(client.post(CHAT, content=pieces(2 * BODY_BYTES), headers=JSON), 413)


def test_a_size_that_is_too_large_is_refused_unread(live: str) -> None:
    for length in (BODY_BYTES + 1, 10**15, 10**19 - 1):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = exchange(live, f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert status_of(answer) == 413 and b"connection: close" in answer.lower()


def test_a_body_that_does_not_come_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guards.BODY_SECONDS == 20
    monkeypatch.setattr(Bodies.__init__, "__defaults__", (BODY_BYTES, 0.3))
    with Running(server) as address, connected(address) as wire:
        started = time.monotonic()
        wire.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
        wire.sendall(b"Content-Length: 1000\r\n\r\n")
        for _ in range(3):
            wire.sendall(b" ")
            time.sleep(0.05)
        answer = read_answer(wire)
    assert status_of(answer) == 408 and 0.2 < time.monotonic() - started < 4
    assert b"connection: close" in answer.lower() and b'"error"' in answer


def test_a_client_that_hangs_up_is_answered_nothing() -> None:
    called, sent = [], []

    async def app(*_: Any) -> None:
        called.append(1)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/x", "headers": [], "method": "POST", "state": {}}
    asyncio.run(Bodies(app)(scope, gone, send))
    assert not called and not sent


# JSON


def refused(data: bytes) -> str:
    with pytest.raises(BadRequest) as error:
        check_json(data)
    assert error.value.status == 400
    return error.value.what


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def test_nesting_has_an_end() -> None:
    check_json(nested(MAX_DEPTH))
    check_json(b'{"a":' * 32 + b"[" * 32 + b"]" * 32 + b"}" * 32)
    check_json(b'"' + b"[" * 10**5 + b'"')
    check_json(b'{"a":"\\"[[[","b":[]}')
    check_json(b"[" + b",".join([nested(60)] * 100) + b"]")
    for data in (nested(MAX_DEPTH + 1), nested(1000), nested(10**6), b"[" * 10**6, b'{"a":' * 70 + b"1" + b"}" * 70):
        assert "levels deep" in refused(data)
    assert "not JSON" in refused(b"[" * 20) and "not JSON" in refused(b"]" * 20)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b'{"x":[{"a":1,"b":2,"\\u0061":2}]}', "twice"),
        (b"[NaN]", "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b"[1e400]", "too large"),
        (b"[-1e999]", "too large"),
        (b"1" * 5000, "thousands of digits"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\uDC00x":1}', "surrogate"),
        (b'["\\ude00\\ud83d"]', "surrogate"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not UTF-8"),
        ("{}".encode("utf-32-le"), "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b'{"a":1} {"b":2}', "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b'"a\x00b"', "not JSON"),
        (b'"\\x41"', "not JSON"),
        (b'{"a":1', "not JSON"),
        (b'"', "not JSON"),
        (b" ", "not JSON"),
        (b"// x\n{}", "not JSON"),
        (b"[" + b"1," * MAX_VALUES + b"1]", "values"),
    ],
)
def test_json_that_two_readers_could_read_differently(data: bytes, why: str) -> None:
    assert why in refused(data)


def test_a_name_that_comes_twice_among_many_is_found_at_once() -> None:
    names = ",".join(f'"{place}":0' for place in range(200_000))
    started = time.process_time()
    assert "'199999' twice" in refused(f'{{{names},"199999":0}}'.encode())
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "data",
    [b"{}", b'"\\ud83d\\ude00"', b'"\\\\ud800"', "\"\U0001f600\"".encode(), b'"\\u0000"', b"1e308", b"-0", b"1" * 4000,
     b'{"a":{"a":1},"b":{"a":2}}', b'[",,,,,", "}}}"]', b"  [1 , 2]\r\n"],
)  # fmt: skip
def test_json_that_is_sound(data: bytes) -> None:
    check_json(data)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES, st.booleans())
def test_whatever_is_written_as_json_passes(value: Any, ascii: bool) -> None:
    check_json(json.dumps(value, ensure_ascii=ascii).encode())


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='[]{}",:\\ue1 d8', max_size=60))
def test_whatever_is_not_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        refused(text.encode())


@pytest.mark.parametrize("piece", ["[],", "{},", '"",', '"\\\\",', "1,", "[[[[[[[[", "{", '"', "\\", "1", "a"])
def test_no_body_is_slow_to_refuse(piece: str) -> None:
    """8 MiB of anything, in a second where the machine is quiet."""
    data = (piece * (BODY_BYTES // len(piece) + 1)).encode()[:BODY_BYTES]
    started = time.process_time()
    refused(data)
    assert time.process_time() - started < 3


# What breaks inside


def test_what_breaks_inside_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []
    message = "/srv/someone/models/secret.bin and the prompt"

    async def broken(*_: Any) -> None:
        raise KeyError(message)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/x", "method": "GET", "headers": [(b"x-request-id", b"id-7")]}
    with caplog.at_level("DEBUG"):
        asyncio.run(Outermost(broken)(scope, nothing, send))
    body = json.loads(sent[1]["body"])
    assert sent[0]["status"] == 500 and "id-7" in body["error"]["message"] and "secret" not in str(sent)
    assert "id-7" in caplog.text and "KeyError" in caplog.text and "in broken" in caplog.text
    assert "secret" not in caplog.text and "prompt" not in caplog.text


def test_what_breaks_after_the_first_byte_sends_no_second_beginning() -> None:
    sent: list[Any] = []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise PaddockError("too late")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/x", "method": "GET", "headers": []}
    asyncio.run(Outermost(broken)(scope, nothing, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_nothing_but_http_is_spoken() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Outermost(nothing)({"type": "websocket"}, nothing, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
