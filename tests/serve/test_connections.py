"""Connections whose clients send nothing, or the head of a request letter by letter."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from guarded import connected, exchange, read_all, read_answer, status_of
from running import Running

from paddock.serve import connections

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture()
def address(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    with Running(server) as found:
        yield found


def test_whoever_sends_nothing_is_hung_up_on(address: str) -> None:
    started = time.monotonic()
    with connected(address) as wire:
        assert read_all(wire) == b""
    assert 0.2 < time.monotonic() - started < 4


def test_so_is_whoever_sends_a_head_letter_by_letter(address: str) -> None:
    started = time.monotonic()
    with connected(address) as wire:
        for place in range(40):
            try:
                wire.sendall(HEAD[place : place + 1])
            except OSError:
                break
            time.sleep(0.05)
        assert read_all(wire) == b"" and time.monotonic() - started < 4


def test_a_second_request_has_as_long_again(address: str) -> None:
    with connected(address) as wire:
        for _ in range(3):
            wire.sendall(HEAD)
            assert status_of(read_answer(wire)) == 200
            time.sleep(0.25)
        wire.sendall(HEAD[:10])
        assert read_all(wire) == b""


def test_others_are_served_meanwhile_and_long_answers_are_not_cut(address: str) -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}],"max_tokens":300,"ignore_eos":true,"stream":true}'
    with connected(address, 30) as slow, connected(address, 30) as wire:
        slow.sendall(HEAD[:5])
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        wire.sendall(head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n")
        time.sleep(0.6)  # the head is there: what follows has the time of a body
        wire.sendall(body)
        assert b"[DONE]" in read_all(wire)
    assert status_of(exchange(address, HEAD)) == 200


@pytest.mark.parametrize("kept", ["keep-alive", "close"])
def test_an_answer_that_nobody_takes_does_not_stay_in_memory(
    server: Any, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes it slowly gets all of it; who takes nothing is hung up on."""
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.6)
    body = json.dumps({"prompt": "hello wor " * 200_000, "return_token_strs": True}).encode()
    head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Connection: {kept}\r\nContent-Length: {len(body)}\r\n\r\n"
    running = Running(server)

    def unsent() -> list[int]:
        return [one.transport.get_write_buffer_size() for one in running.uvicorn.server_state.connections]

    with running as address:
        for takes in (True, False):
            with connected(address, 30) as wire:
                wire.sendall(head.encode() + body)
                before = wire.recv(1024)
                taken, ended = len(before), time.monotonic() + 20
                while takes and before[-1:] != b"}" and time.monotonic() < ended:
                    time.sleep(0.01)
                    before = wire.recv(2**16)
                    taken += len(before)
                assert not takes or taken > 8_000_000
                while not takes and any(unsent()) and time.monotonic() < ended:
                    time.sleep(0.05)
                assert not any(unsent())
