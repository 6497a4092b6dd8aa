"""A key and a prompt that would be recognised anywhere, through everything a server does, at its most talkative."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import addresses, client_of, connected, exchange, opened, read_all
from running import Running

from paddock.errors import PaddockError
from paddock.serve.server import Server

KEY, WRONG, ADMIN = "cAnArY-Kq73-zYx9-hGf2", "wR0nG-jJv5-bQe8-mNu4", "aDm1N-pWo6-xLi3-sTd7"
PROMPT = "marzipan-orrery-quixotry"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4, "temperature": 0}


def pieces(secret: str) -> set[str]:
    return {secret[place : place + 6] for place in range(len(secret) - 5)}


def leaked(text: str, *secrets: str) -> set[str]:
    return {piece for secret in secrets for piece in pieces(secret) if piece in text}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with opened(api_keys=(KEY,), admin_keys=(ADMIN,), template="alpaca") as server:
        yield server


@pytest.fixture()
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that any logger says, uvicorn's own too."""
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    before = {name: (logging.getLogger(name).propagate, logging.getLogger(name).level) for name in names}
    with caplog.at_level(1):
        for name in names:
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel(1)
        yield caplog
    for name, (propagate, level) in before.items():
        logging.getLogger(name).propagate = propagate
        logging.getLogger(name).setLevel(level)


def test_no_piece_of_a_key_is_written_anywhere(
    server: Server, log: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, said = client_of(server), []
    for path, methods in addresses(server):
        for method in methods:
            for key in (KEY, WRONG, ADMIN):
                for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}, {"Authorization": key}):
                    body = ASK if method == "POST" and path != "/login" else None
                    response = client.request(method, path, headers=headers, json=body)
                    said.append(response.text + str(response.headers))
    for key in (KEY, WRONG):
        said.append(client.post("/login", data={"key": key}).text)
        said.append(client.post("/login", content=key.encode()).text)
    monkeypatch.setattr(server.registry, "find", lambda *_: 1 / 0)
    said.append(client.post("/v1/chat/completions", json=ASK, headers={"X-Api-Key": KEY}).text)
    monkeypatch.undo()
    said.append(client.get("/metrics", headers={"X-Api-Key": KEY}).text)
    said += [repr(server.settings), repr(server.access), repr(vars(server.access)), repr(vars(server))]
    out = capfd.readouterr()
    assert len(log.text) > 1000, "something was logged at all"
    for text in (*said, log.text, out.out, out.err):
        assert not leaked(text, KEY, WRONG, ADMIN)


def test_nor_over_a_socket(server: Server, log: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({**ASK, "stream": True}).encode()
    answers = []
    with Running(server) as address:
        for data in (
            f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: evil\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n",
            f"GET /v1/models HTTP/9.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n",
            f"Authorization: Bearer {KEY}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n : x\r\n\r\n",
        ):
            answers.append(exchange(address, data.encode(), 1))
        with connected(address) as wire:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nConnection: close\r\n"
            wire.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            answers.append(read_all(wire))
    out = capfd.readouterr()
    assert b"[DONE]" in answers[-1]
    for text in (*(answer.decode("latin-1") for answer in answers), log.text, out.out, out.err):
        assert not leaked(text, KEY)
    for text in (log.text, out.out, out.err):
        assert PROMPT not in text


def test_prompts_and_answers_stay_out_of_the_log(
    server: Server, log: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(server, headers={"X-Api-Key": KEY})
    answer = client.post("/v1/chat/completions", json={**ASK, "max_tokens": 20}).json()["choices"][0]["message"][
        "content"
    ]
    for path, methods in addresses(server):
        if "POST" in methods and path != "/login":
            for body in (ASK, {"prompt": PROMPT, "input": PROMPT, "model": PROMPT}, {"text": PROMPT, "n": PROMPT}):
                client.post(path, json=body)
            client.post(path, content=f'{{"{PROMPT}": '.encode(), headers={"Content-Type": "application/json"})
    for error in (ValueError(PROMPT), PaddockError(PROMPT), RuntimeError({"text": PROMPT})):

        def fail(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(server.registry, "find", fail)
        assert client.post("/v1/chat/completions", json=ASK).status_code == 500
        monkeypatch.undo()
    out = capfd.readouterr()
    for text in (log.text, out.out, out.err, client.get("/metrics").text):
        assert PROMPT not in text and len(answer) > 8 and answer not in text


def test_a_log_that_may_hold_prompts_says_what_broke(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(log_prompts=True, template="alpaca") as server:

        def fail(*_: Any) -> None:
            raise ValueError(PROMPT + "\n\x1b[31m")

        monkeypatch.setattr(server.registry, "find", fail)
        response = client_of(server).post("/v1/chat/completions", json=ASK)
    assert response.status_code == 500 and PROMPT not in response.text
    assert PROMPT in log.text and "\x1b" not in log.text


def test_a_key_file_is_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice:{KEY}\nbob {WRONG}\n")
    with pytest.raises(PaddockError) as refused, opened(api_key_file=file):
        pass
    assert not leaked(str(refused.value), KEY, WRONG)
