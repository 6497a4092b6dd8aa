"""Bodies and bytes meant to do harm, at every address that takes a body: refused in time, and the server goes on."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from guarded import INSIDE, addresses, client_of, connected, exchange, opened, read_all, read_answer, status_of
from running import Running

from paddock.serve.server import Server

JSON = {"Content-Type": "application/json"}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "temperature": 0}
DIALECTS = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat")
DEEP = "[" * 60 + "]" * 60
LONG = "a" * 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with opened(template="alpaca", ctx_size=128) as server:
        yield server


@pytest.fixture(scope="module")
def expected(server: Server) -> str:
    return content(client_of(server))


def content(client: Any) -> str:
    response = client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def filled(value: str) -> str:
    """One JSON value in every field that any dialect has."""
    names = (
        "messages", "prompt", "input", "model", "max_tokens", "stop", "tools", "response_format", "logit_bias", "query",
        "documents", "text", "tokens", "seed", "n", "stream", "format", "options", "system", "echo", "truncation",
        "temperature", "logprobs", "tool_choice", "encoding_format", "content", "name", "path", "suffix",
    )  # fmt: skip
    return "{" + ",".join(f'"{name}":{value}' for name in names) + "}"


VALUES = [
    "null", "true", "0", "-1", "1.5", "1e308", "-1e308", "9" * 400, "2147483648", "-9223372036854775809", '""',
    '"\\u0000"', f'"{LONG}"', '"\\ud83d\\ude00"', '"\u202e\u200b\U000e0041"', "[]", "{}", "[[]]", "[null]", "[{}]",
    '[""]', '{"":""}', DEEP, '{"a":' * 50 + "1" + "}" * 50, "[" + ",".join(["1"] * 20_000) + "]", '"__proto__"',
    '["' + '","'.join(["x"] * 3000) + '"]', '"../../etc/passwd"', '"..\\\\..\\\\x"', '"x\\r\\nSet-Cookie: a=b"',
    '"<script>alert(1)</script>"', '"' + "(" * 5000 + '"',
    '[{"role":"user"}]', '[{"role":"user","content":null}]', '[{"role":"user","content":[{"type":"text"}]}]',
    '[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]',
    '[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://127.0.0.1:1/"}}]}]',
    '[{"role":"assistant","content":null,"tool_calls":[{"id":"","type":"function","function":{"name":"","arguments":"{"}}]}]',
    '[{"role":"tool","content":"x","tool_call_id":"none"}]',
    '[{"role":"system","content":"{{ 7*7 }}{% for i in range(9999999) %}x{% endfor %}"}]',
    '{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#"}}}',
    '{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"string","pattern":"(a+)+$"}}}',
]  # fmt: skip


def test_no_value_in_any_field_breaks_any_address(server: Server, expected: str) -> None:
    client = client_of(server)
    paths = sorted({path for path, methods in addresses(server) if "POST" in methods})
    assert len(paths) > 8
    for value in VALUES:
        status = client.post("/tokenize", content=value.encode("utf-8", "surrogatepass"), headers=JSON).status_code
        assert status == 400, value[:200]
    for path in paths:
        for value in VALUES if path in DIALECTS else VALUES[::2]:
            tools = json.dumps({**ASK, "prompt": "x", "input": "x"})[:-1] + f',"tools":{value}}}'
            for body in (filled(value), tools) if path in DIALECTS else (filled(value),):
                started = time.monotonic()
                response = client.post(path, content=body.encode("utf-8", "surrogatepass"), headers=JSON)
                assert response.status_code < 500, (path, body[:200], response.text[:300])
                assert time.monotonic() - started < 20, (path, body[:100])
                if response.status_code >= 400:
                    assert not INSIDE.search(response.text.replace("/etc/passwd", "")), (path, response.text)
                    assert len(response.text) < 5000
                assert "a=b" not in response.headers.get("set-cookie", "")
    assert content(client) == expected


def test_fields_that_nobody_knows_cost_little_and_break_no_header(address: str, expected: str) -> None:
    """However many there are, and whatever their names hold: the header that tells of them is one line."""
    many = {f"temperatur{place}": 1 for place in range(100_000)}
    for extra in ({"a\r\nSet-Cookie: b": 1}, {"a\0b": 1}, {" ": 1}, {"": 1}, {"\x7f\u2028": 1}, {"x" * 10**6: 1}, many):
        started = time.monotonic()
        response = httpx.post(f"{address}/v1/chat/completions", json={**ASK, **extra}, timeout=60)
        assert time.monotonic() - started < 10
        assert response.status_code == 200 and "set-cookie" not in response.headers
        told = response.headers["X-Paddock-Ignored"].split(", ")
        assert len(told) == min(len(extra), 16) and all(len(name) <= 64 for name in told)
    response = httpx.post(f"{address}/v1/chat/completions", json={**ASK, "logit_bias": {"x" * 10**6: 1}}, timeout=60)
    assert response.status_code == 400 and len(response.content) < 2000


MANY = 200_000
WRONG: dict[str, dict[str, Any]] = {
    "/detokenize": {"tokens": ["a"] * MANY},
    "/v1/completions": {"prompt": [0, *["a"] * MANY]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": [{}] * 1000}] * 200},
    "/v1/messages": {"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text"}] * 1000}] * 200},
    "/v1/responses": {"input": "Hi", "metadata": {f"k{place}": 0 for place in range(MANY)}},
    "/v1/embeddings": {"input": [[{}] * MANY]},
    "/api/generate": {"model": "stories260K", "prompt": "Hi", "context": ["a"] * MANY},
    "/api/chat": {"model": "stories260K", "messages": [{"role": "user", "tool_calls": [{}] * 128}] * 1000},
    "/v1/rerank": {"query": "a", "documents": [{"text": 0}] * 2048},
    "/tokenize": {"messages": [{"role": "user", "content": [{}] * 1000}] * 200},
}


@pytest.mark.parametrize("path", [*WRONG, "bias"])
def test_many_wrong_values_cost_no_more_than_one(server: Server, path: str) -> None:
    body = WRONG.get(path, {**ASK, "logit_bias": {f"x{place}": 1 for place in range(MANY)}})
    client, data = client_of(server), json.dumps(body)
    started = time.process_time()
    response = client.post("/v1/chat/completions" if path == "bias" else path, content=data, headers=JSON)
    assert response.status_code == 400 and time.process_time() - started < 3, response.text


def test_broken_bytes_at_every_address(server: Server, expected: str) -> None:
    client, chance = client_of(server), random.Random(3)
    good = json.dumps({**ASK, "prompt": "Once", "input": "Once"}).encode()
    paths = sorted({path for path, methods in addresses(server) if "POST" in methods and path != "/login"})
    for path in paths:
        for _ in range(12):
            data = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(data))
                data[place : place + chance.randint(0, 3)] = bytes(
                    chance.randrange(256) for _ in range(chance.randint(0, 3))
                )
            response = client.post(path, content=bytes(data), headers=JSON)
            assert response.status_code < 500, (path, bytes(data))
    assert content(client) == expected


def head(path: str = "/v1/chat/completions", *lines: str) -> bytes:
    return "\r\n".join(
        (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines, "", "")
    ).encode()


BODY = json.dumps(ASK).encode()
HARMFUL: list[tuple[str, bytes]] = [
    ("two lengths", head("/tokenize", "Content-Length: 4", "Content-Length: 99") + b"null"),
    ("both ways to say how long", head("/tokenize", "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    ("chunked twice", head("/tokenize", "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    ("unknown coding", head("/tokenize", "Transfer-Encoding: gzip") + b"x"),
    ("chunk of no number", head("/tokenize", "Transfer-Encoding: chunked") + b"zz\r\nnull\r\n0\r\n\r\n"),
    ("chunk that lies", head("/tokenize", "Transfer-Encoding: chunked") + b"2\r\nnull\r\n0\r\n\r\n"),
    ("huge chunk", head("/tokenize", "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFF\r\nnull"),
    ("negative length", head("/tokenize", "Content-Length: -5") + b"null"),
    ("length of words", head("/tokenize", "Content-Length: four") + b"null"),
    ("space before the colon", head("/tokenize", "Content-Length : 4") + b"null"),
    ("folded header", head("/tokenize", "X-A: 1", " folded", "Content-Length: 4") + b"null"),
    ("NUL in a header", head("/tokenize", "X-A: a\0b", "Content-Length: 4") + b"null"),
    ("bare line feeds", b"GET /v1/models HTTP/1.1\nHost: localhost\n\n"),
    ("no version", b"GET /v1/models\r\n\r\n"),
    ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    ("HTTP/2 prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("only noise", bytes(random.Random(1).randrange(256) for _ in range(5000))),
    ("NUL in the target", b"GET /v1/mod\0els HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("percent and a NUL", b"GET /v1/models%00 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a body nobody announced", b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + BODY),
]


@pytest.fixture(scope="module")
def address(server: Server) -> Iterator[str]:
    with Running(server) as found:
        yield found


@pytest.mark.parametrize(("what", "data"), HARMFUL, ids=[what for what, _ in HARMFUL])
def test_bytes_that_are_hardly_http(address: str, what: str, data: bytes) -> None:
    answer = exchange(address, data, 0.5)
    assert status_of(answer) in (0, 200, 400, 403, 404, 405, 413, 415), answer[:200]
    assert (
        b"Traceback" not in answer
        and status_of(exchange(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 200
    )


def test_no_request_is_smuggled_behind_another(address: str) -> None:
    """What follows a body is its own request, or none: it is never taken for part of one that came before."""
    inner = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for data in (
        head("/tokenize", f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked", "Connection: close")
        + b"0\r\n\r\n"
        + inner,
        head("/tokenize", "Content-Length: 2", f"Content-Length: {2 + len(inner)}", "Connection: close")
        + b"{}"
        + inner,
        head("/tokenize", "Transfer-Encoding: xchunked", "Content-Length: 2", "Connection: close") + b"{}" + inner,
    ):
        with connected(address, 3) as wire:
            wire.sendall(data)
            answer = read_all(wire)
        assert answer.count(b"HTTP/1.1 ") <= 1 and b"stories260K" not in answer


def test_requests_in_a_row_on_one_connection_are_each_answered(address: str) -> None:
    with connected(address) as wire:
        for _ in range(3):
            wire.sendall(head("/v1/chat/completions", f"Content-Length: {len(BODY)}") + BODY)
            assert status_of(read_answer(wire)) == 200


def test_clients_that_leave_halfway_leave_nothing_behind(server: Server, address: str) -> None:
    for place in range(1, len(BODY), 7):
        with connected(address) as wire:
            wire.sendall(head("/v1/chat/completions", f"Content-Length: {len(BODY)}") + BODY[:place])
    for _ in range(20):
        with connected(address) as wire:
            wire.sendall(head("/v1/chat/completions", f"Content-Length: {len(BODY)}") + BODY)
    deadline = time.monotonic() + 10
    while (server.worker.active or server.in_flight) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.worker.active == 0 and server.in_flight == 0
    assert status_of(exchange(address, head("/v1/chat/completions", f"Content-Length: {len(BODY)}") + BODY)) == 200
