"""`paddock.Client` against a running server, and against servers that fail in every way."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

import paddock
from paddock.errors import (
    AccessError,
    ContextLengthError,
    NotFoundError,
    OverloadError,
    PaddockError,
    ServiceError,
    UsageError,
)
from paddock.serve import client as module
from paddock.serve.client import Client
from paddock.serve.server import Server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client.md"
TALK = [{"role": "user", "content": "Tell me a story"}]


@pytest.fixture
def remote(live: str) -> Iterator[Client]:
    with Client(live) as client:
        yield client


def model_of(server: Server) -> Any:
    return server.registry.find(None).model


def test_it_answers_as_the_model_does(remote: Client, server: Server) -> None:
    expected = model_of(server).chat(TALK, 20, temperature=0)
    answer = remote.chat(TALK, 20, temperature=0)
    assert (answer.text, answer.finish_reason) == (expected.text, expected.finish_reason)
    assert (answer.prompt_tokens, answer.completion_tokens) == (expected.prompt_tokens, 20)
    assert answer.model == "stories260K"
    stream = remote.stream_chat(TALK, 20, temperature=0)
    assert "".join(piece.text for piece in stream) == expected.text
    assert stream.completion().completion_tokens == 20 and stream.completion().text == expected.text


def test_drawn_answers_repeat_by_their_seed(remote: Client, server: Server) -> None:
    settings = {"temperature": 1.0, "top_p": 0.9, "seed": 11}
    assert remote.chat(TALK, 16, **settings).text == model_of(server).chat(TALK, 16, **settings).text


def test_vectors_tokens_and_models(remote: Client, server: Server) -> None:
    model = model_of(server)
    vectors = remote.embed(["Once upon", "a time"])
    assert torch.equal(torch.from_numpy(vectors.copy()), model.embed(["Once upon", "a time"]))
    with pytest.raises(ContextLengthError, match="512"):
        remote.embed(["one day " * 400])
    assert remote.embed(["one day " * 400], truncate=True).shape == (1, 64)
    with pytest.raises(UsageError, match="list"):
        remote.embed("text")
    assert remote.tokenize("Once upon") == model.tokenizer.encode("Once upon")
    assert tuple(remote.tokenize(TALK)) == model.chat_prompt(TALK).ids
    assert remote.detokenize(model.tokenizer.encode("Once upon")[1:]) == "Once upon"
    assert [entry["id"] for entry in remote.models()] == ["stories260K"]
    assert remote.describe()["paddock"]["template"] == remote.describe("stories260K")["paddock"]["template"] == "alpaca"


def test_it_writes_on_as_the_model_does(remote: Client, server: Server) -> None:
    settings = {"temperature": 0.9, "top_k": 20, "seed": 5, "repetition_penalty": 1.1, "min_new_tokens": 12}
    expected = model_of(server).generate("Once upon", 12, logprobs=2, echo=True, **settings)
    answer = remote.generate("Once upon", 12, logprobs=2, echo=True, **settings)
    assert (answer.text, answer.finish_reason) == (expected.text, expected.finish_reason)
    assert answer.logprobs is not None and answer.timings.decode > 0 and answer.tokens_per_second > 0
    assert remote.stream("Once upon", 12, echo=True, **settings).completion().text == expected.text
    stop = remote.generate("Once upon", 30, temperature=0, stop=[" there"])
    assert stop.finish_reason == "stop" and " there" not in stop.text


def test_the_page_s_example_runs(live: str) -> None:
    (block,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    program = block.replace("http://127.0.0.1:8000", live)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and " length " in done.stdout, done.stderr


def test_refusals_are_paddock_s_own(remote: Client, live: str) -> None:
    with pytest.raises(ContextLengthError, match="512"):
        remote.chat([{"role": "user", "content": "word " * 600}], 10)
    with pytest.raises(UsageError, match=r"did you mean 'temperature'\?"):
        remote.chat(TALK, 10, temprature=1)
    with pytest.raises(UsageError, match="surprise"):
        remote.chat(TALK, 10, extra={"surprise": 1})
    with pytest.raises(UsageError, match="temperature"):
        remote.chat(TALK, 10, temperature=-1)
    with Client(live, model="gpt-9") as other, pytest.raises(NotFoundError, match="gpt-9"):
        other.stream_chat(TALK, 10)


def test_leaving_a_stream_ends_the_answer(remote: Client, server: Server) -> None:
    def idle() -> bool:
        end = time.monotonic() + 30
        while server.worker.active and time.monotonic() < end:
            time.sleep(0.01)
        return not server.worker.active

    for leave in (lambda stream: stream.close(), lambda stream: None):
        stream = remote.stream_chat(TALK, 400, temperature=0, logit_bias={1: -100, 2: -100})
        assert next(stream).text == "" and server.worker.active
        leave(stream)
        del stream
        gc.collect()
        assert idle()
    unread = remote.stream_chat(TALK, 400, temperature=0)
    del unread
    gc.collect()
    assert idle()


def answering(reply: httpx.Response | Exception | list[Any], **options: Any) -> tuple[Client, list[httpx.Request]]:
    """A client whose server is made up."""
    replies, seen = list(reply) if isinstance(reply, list) else [reply], list[httpx.Request]()

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        found = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(found, Exception):
            raise found
        return found

    return Client("http://127.0.0.1:9", transport=httpx.MockTransport(handle), **options), seen


def refusal(status: int, code: str | None = None, kind: str = "x", **headers: str) -> httpx.Response:
    error = {"message": "no\x1b[31m; why", "type": kind, "param": None, "code": code}
    return httpx.Response(status, json={"error": error}, headers=headers)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(400, "context_length_exceeded"), ContextLengthError),
        (refusal(400), UsageError),
        (refusal(413), UsageError),
        (refusal(401), AccessError),
        (refusal(403), AccessError),
        (refusal(404), NotFoundError),
        (refusal(429), OverloadError),
        (refusal(503), OverloadError),
        (refusal(500), PaddockError),
        (httpx.Response(502, text="<html>bad gateway</html>"), PaddockError),
        (httpx.Response(307, headers={"Location": "http://elsewhere.invalid/"}), ServiceError),
        (httpx.Response(200, text="<html>hello</html>"), ServiceError),
        (httpx.Response(200, json=[]), ServiceError),
        (httpx.Response(200, json={"choices": 3}), ServiceError),
        (httpx.Response(200, json={"choices": [{"message": {"content": 3}}]}), ServiceError),
        (httpx.Response(200, json={"choices": [], "usage": {}}), ServiceError),
        (httpx.Response(200, text="[" * 100_000), ServiceError),
        (httpx.Response(400, json={"error": "plain words"}), UsageError),
        (httpx.Response(400, json=["x"]), UsageError),
        (httpx.ConnectError("refused"), ServiceError),
        (httpx.ReadTimeout("silent"), ServiceError),
        (httpx.RemoteProtocolError("broken"), ServiceError),
    ],
    ids=str,
)
def test_whatever_a_server_answers_is_an_error_of_ours(reply: Any, kind: type[PaddockError]) -> None:
    client, _ = answering(reply)
    with pytest.raises(kind) as caught:
        client.chat(TALK, 5)
    assert "\x1b" not in str(caught.value)


def test_what_is_too_much_at_once_says_when_to_come_again() -> None:
    client, _ = answering(refusal(429, **{"Retry-After": "7"}))
    with pytest.raises(OverloadError) as caught:
        client.chat(TALK, 5)
    assert caught.value.retry_after == 7 and not caught.value.down


GOOD = {"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}


def test_trying_again_is_off_unless_asked_and_waits_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    full, ok = refusal(429, **{"Retry-After": "3"}), httpx.Response(200, json=GOOD)
    client, seen = answering([full, ok])
    with pytest.raises(OverloadError):
        client.chat(TALK)
    assert len(seen) == 1 and waits == []
    client, seen = answering([full, httpx.ConnectError("not yet"), ok], retries=2)
    assert client.chat(TALK).text == "yes" and waits == [3, 1]
    client, seen = answering(full, retries=2)
    with pytest.raises(OverloadError):
        client.chat(TALK)
    assert len(seen) == 3
    for never in (refusal(400), refusal(401), refusal(500), refusal(429, **{"Retry-After": "3600"})):
        client, seen = answering(never, retries=5)
        with pytest.raises(PaddockError):
            client.chat(TALK)
        assert len(seen) == 1


def streamed(*events: Any, done: bool = True, cut: int = 1 << 20) -> httpx.Response:
    text = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
    data = (": ping\n\n" + text + ("data: [DONE]\n\n" if done else "")).encode()
    return httpx.Response(200, content=iter([data[i : i + cut] for i in range(0, len(data), cut)]))


def chunk(content: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}


@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
def test_a_stream_is_read_however_it_is_cut(cut: int) -> None:
    said = ["猫\u2028", "🙂\u0085\r", "\x0b end"]
    client, _ = answering(streamed(*map(chunk, said), chunk("", "stop"), {"choices": [], "usage": {}}, cut=cut))
    stream = client.stream_chat(TALK)
    assert [piece.text for piece in stream] == [*said, ""]
    assert stream.completion().text == "".join(said)


@pytest.mark.parametrize(
    ("reply", "kind", "before"),
    [
        (streamed(chunk("a"), {"error": {"message": "gone", "code": "server_unavailable"}}), OverloadError, ["a"]),
        (streamed(chunk("a"), {"error": {"message": "lost", "type": "server_error"}}), PaddockError, ["a"]),
        (streamed(chunk("a"), done=False), ServiceError, ["a"]),
        (streamed(chunk("a"), "text"), ServiceError, ["a"]),
        (streamed({"choices": [{"delta": 3}]}), ServiceError, []),
        (httpx.Response(200, content=b"data: " + b"x" * (17 << 20)), ServiceError, []),
    ],
    ids=range(6),
)
def test_a_stream_that_fails_says_so(reply: httpx.Response, kind: type[PaddockError], before: list[str]) -> None:
    client, _ = answering(reply)
    seen: list[str] = []
    with pytest.raises(kind):
        for piece in client.stream_chat(TALK):
            seen.append(piece.text)
    assert seen == before


def test_calls_come_in_pieces_and_whole() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    events = [{"choices": [{"delta": {"tool_calls": [part]}, "finish_reason": None}]} for part in (call, rest)]
    client, _ = answering(streamed(*events, chunk("", "tool_calls")))
    streamed_calls = client.stream_chat(TALK).completion()
    whole = {**call, "function": {"name": "add", "arguments": '{"a": 1}'}}
    message = {"choices": [{"message": {"content": None, "tool_calls": [whole]}, "finish_reason": "tool_calls"}]}
    client, _ = answering(httpx.Response(200, json=message))
    assert streamed_calls.tool_calls == client.chat(TALK).tool_calls
    assert streamed_calls.tool_calls[0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert streamed_calls.finish_reason == "tool_calls"


def test_settings_travel_by_the_names_of_the_api() -> None:
    client, seen = answering(httpx.Response(200, json=GOOD), model="one", api_key="secret")
    client.chat(TALK, 5, temperature=0.5, min_new_tokens=2, logit_bias={3: 1.5}, stop=["x"], logprobs=2, top_k=None)
    assert json.loads(seen[0].content) == {
        "model": "one",
        "messages": TALK,
        "max_tokens": 5,
        "temperature": 0.5,
        "min_tokens": 2,
        "logit_bias": {"3": 1.5},
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert seen[0].headers["Authorization"] == "Bearer secret"
    client.generate([1, 2], 5, echo=True)
    assert json.loads(seen[1].content) == {"model": "one", "prompt": [1, 2], "max_tokens": 5, "echo": True}


@pytest.mark.parametrize("url", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/", "http://h:1"])
def test_the_address_may_end_in_v1(url: str) -> None:
    assert Client(url).url == "http://h:1"
    assert Client("http://h:1/models/v1").url == "http://h:1/models"


@pytest.mark.parametrize("url", ["", "h:1", "ftp://h", "http://", "http://user:pw@h", "http://h/?x=1", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Client(url or " ")


def test_the_environment_names_a_server_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(client: Client) -> str | None:
        return client._http.headers.get("Authorization")

    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "PADDOCK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert Client().url == "http://127.0.0.1:8000" and key(Client()) is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    assert key(Client("http://127.0.0.1:8000")) is None, "a key of another place stays at home"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:7/v1")
    assert Client().url == "http://127.0.0.1:7" and key(Client()) == "Bearer sk-other"
    monkeypatch.setenv("PADDOCK_API_KEY", "pk")
    assert key(Client("http://127.0.0.1:8000")) == "Bearer pk" and key(Client(api_key="own")) == "Bearer own"
    with pytest.raises(UsageError):
        Client(api_key="a\nb")


def test_proxies_are_not_used_on_this_machine(monkeypatch: pytest.MonkeyPatch, live: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Client(live) as client:
        assert client.models()
    assert not Client("http://127.0.0.1.example:1")._http._mounts.keys() <= Client(live)._http._mounts.keys()


def test_it_needs_no_pytorch() -> None:
    code = "import sys, paddock; paddock.Client('http://127.0.0.1:1'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_it_is_paddock_s() -> None:
    assert paddock.Client is Client
