"""One answer from the engine to a client: what is cancelled, what fails, where text may be cut, who reads slowly."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from scripted import BYTE, NAME, Script, scripted
from streams import events, together

from paddock.engine.engine import Engine
from paddock.errors import OverloadError, PaddockError
from paddock.serve import streaming
from paddock.serve.answering import Answering, Delta
from paddock.serve.app import make_app
from paddock.serve.asking import Asked, plan_text
from paddock.serve.server import Server
from paddock.serve.settings import Settings
from paddock.serve.streaming import Pieces, Stream

TEXT = "naïve 中文 🙂 👩‍👩‍👧 e\u0301 end. The end"
ASK = {"model": NAME, "prompt": "Once", "max_tokens": 200, "temperature": 0}


class Stage:
    """A server, and the model on it that writes what it is told."""

    def __init__(self) -> None:
        self.server = Server(Settings(template="alpaca"))
        self.server.open()
        self.script: Script
        self.engine: Engine
        self.script, self.engine = scripted(self.server)
        app = make_app(self.server)
        self.client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    def answer(self, **asked: Any) -> Answering:
        plan = plan_text(self.server.registry.find(NAME), Asked(prompts=["Once"], **asked))
        return Answering(self.server.worker, plan)

    def post(self, **changes: Any) -> Any:
        return self.client.post("/v1/completions", json={**ASK, **changes})

    def idle(self) -> bool:
        """Whether nothing runs or waits, and every block is free or kept for a prompt that comes again."""
        stats = self.engine.stats
        blocks = stats.used == 0 and stats.free + stats.cached == stats.blocks
        return blocks and not stats.running and not stats.waiting and not self.server.worker.active


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.server.close()


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# --- text ----------------------------------------------------------------------------------------------------------


def test_no_character_is_split_wherever_the_limit_cuts(stage: Stage) -> None:
    """A token is a byte here. What the limit leaves of a character is one U+FFFD, in the stream as in the whole."""
    stage.script.write(TEXT)
    for limit in range(1, len(TEXT.encode()) + 1):
        chunks = events(stage.post(max_tokens=limit, stream=True).text)
        pieces = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
        expected = TEXT.encode()[:limit].decode(errors="replace")
        assert "".join(pieces) == expected == stage.post(max_tokens=limit).json()["choices"][0]["text"]
        assert all("\ufffd" not in piece for piece in pieces[:-2])


def test_a_stop_string_is_found_at_every_place_and_border(stage: Stage) -> None:
    stage.script.write(TEXT)
    for start in range(len(TEXT)):
        for length in (1, 2, 5):
            stop = TEXT[start : start + length]
            whole = stage.post(stop=["never", stop]).json()["choices"][0]
            assert (whole["text"], whole["finish_reason"]) == (TEXT[: TEXT.index(stop)], "stop")
            if length == 2:
                streamed = together(events(stage.post(stop=["never", stop], stream=True).text))["choices"][0]
                assert (streamed["text"], streamed["finish_reason"]) == (whole["text"], "stop")


def test_what_looked_like_a_stop_string_comes_out_in_the_end(stage: Stage) -> None:
    stage.script.write(TEXT)
    for stops in (["end!"], ["The end."], ["\u0301 end. T?", "d. x"]):
        assert stage.post(stop=stops).json()["choices"][0]["text"] == TEXT
        assert together(events(stage.post(stop=stops, stream=True).text))["choices"][0]["text"] == TEXT


def test_log_probabilities_of_held_back_tokens_keep_their_place(stage: Stage) -> None:
    """All tokens are told, those of a stop string too; offsets count the characters that were certain before."""
    stage.script.write("é stop")
    for stream in (False, True):
        response = stage.post(stop=" stop", logprobs=0, stream=stream)
        choice = together(events(response.text))["choices"][0] if stream else response.json()["choices"][0]
        assert choice["text"] == "é"
        assert choice["logprobs"]["tokens"] == ["bytes:\\xc3", "bytes:\\xa9", *" stop"]
        assert choice["logprobs"]["text_offset"] == [0, 0, 1, 2, 3, 4, 5]


# --- ends ----------------------------------------------------------------------------------------------------------


def test_leaving_early_frees_everything(stage: Stage) -> None:
    stage.script.write(TEXT)

    async def some() -> list[Delta]:
        answering = stage.answer(max_tokens=100, n=3)
        async for deltas in answering.deltas():
            return deltas
        return []

    assert asyncio.run(some())
    assert soon(stage.idle)


def test_an_answer_that_is_cancelled_before_it_is_read_frees_everything(stage: Stage) -> None:
    stage.script.write(TEXT)

    async def never_read() -> None:
        answering = stage.answer(max_tokens=300)
        answering.cancel()
        answering.cancel()

    asyncio.run(never_read())
    assert soon(stage.idle)


def test_what_others_break_off_is_no_end(stage: Stage) -> None:
    """A request that was dropped in the engine has not stopped by itself, and nobody is told so."""
    stage.script.ids = [BYTE + ord("a")]  # without an end: more than a feed holds, so it cannot be over yet

    async def broken() -> list[str]:
        answering, texts = stage.answer(max_tokens=400), []
        async for deltas in answering.deltas():
            texts += [delta.text for delta in deltas]
            answering._choices[0].feed.cancel()
        return texts

    with pytest.raises(OverloadError, match="broken off"):
        asyncio.run(broken())
    assert soon(stage.idle)


@pytest.mark.parametrize("failure", [RuntimeError("a secret of the machine room"), PaddockError("told to everybody")])
def test_a_failure_mid_stream_is_an_event_and_no_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    stage.script.write(TEXT)
    stage.script.fails_at = 6
    monkeypatch.setattr(stage.script, "failure", failure)
    text = stage.post(stream=True, n=2).text
    pieces = re.findall(r'"index":0,"text":"([^"]*)"', text)
    assert "".join(pieces) and TEXT.startswith("".join(pieces))
    last = [line for line in text.split("\n") if line.startswith("data: ")][-1]
    assert '"error"' in last and "[DONE]" not in text and "secret" not in text
    assert ("told to everybody" in last) == isinstance(failure, PaddockError)
    assert soon(stage.idle)


def test_a_failure_of_a_whole_answer_tells_nothing_of_the_inside(stage: Stage) -> None:
    stage.script.write(TEXT)
    stage.script.fails_at = 6
    response = stage.post()
    assert response.status_code == 500 and response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    stage.script.write("well")
    assert stage.post().json()["choices"][0]["text"] == "well"


def test_choices_end_each_at_its_own_place(stage: Stage) -> None:
    """One of two requests is stopped by a string; the other goes on."""
    stage.script.write("one two")
    body = stage.post(prompt=["Once", "Twice"], n=2, max_tokens=5).json()
    assert [choice["text"] for choice in body["choices"]] == ["one t"] * 4
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["completion_tokens"] == 20


# --- clients -------------------------------------------------------------------------------------------------------


class Connection:
    """An ASGI connection of a client that hangs up when told to, and reads while `reads` is set."""

    def __init__(self) -> None:
        self.left, self.reads = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.messages: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.messages.append(message)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages).decode()


class Source:
    """Pieces of a stream that remember whether they were closed."""

    def __init__(self, delay: float, count: int = 10**6) -> None:
        self.delay, self.count = delay, count
        self.closed = self.ended = False

    async def pieces(self) -> Pieces:
        try:
            for number in range(self.count):
                await asyncio.sleep(self.delay)
                yield f"data: {number}\n\n"
        finally:
            self.closed = True

    def ending(self) -> None:
        self.ended = True


def test_a_client_that_hangs_up_ends_the_stream() -> None:
    async def main() -> None:
        source, connection = Source(0.01), Connection()
        stream = Stream(source.pieces(), ending=source.ending)
        asyncio.get_running_loop().call_later(0.05, connection.left.set)
        await asyncio.wait_for(stream({"type": "http"}, connection.receive, connection.send), 5)  # type: ignore[arg-type]
        assert source.closed and source.ended

    asyncio.run(main())


def test_a_stream_that_never_began_ends_its_request_too() -> None:
    async def main() -> None:
        source, connection = Source(0.01), Connection()
        stream = Stream(source.pieces(), ending=source.ending)
        connection.reads.clear()  # the headers do not get out
        asyncio.get_running_loop().call_later(0.02, connection.left.set)
        await asyncio.wait_for(stream({"type": "http"}, connection.receive, connection.send), 5)  # type: ignore[arg-type]
        assert source.ended and not source.closed, "no piece was ever asked for"

    asyncio.run(main())


def test_a_reader_that_stalls_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STALL_SECONDS", 0.1)

    async def main() -> None:
        source, connection = Source(0.001), Connection()
        connection.reads.clear()
        asyncio.get_running_loop().call_later(0.02, connection.reads.set)
        asyncio.get_running_loop().call_later(0.05, connection.reads.clear)
        stream = Stream(source.pieces(), ending=source.ending)
        began = time.monotonic()
        await asyncio.wait_for(stream({"type": "http"}, connection.receive, connection.send), 5)  # type: ignore[arg-type]
        assert 0.1 < time.monotonic() - began < 2 and source.closed and source.ended

    asyncio.run(main())


def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.05)

    async def main() -> None:
        source, connection = Source(0.3, count=1), Connection()
        await Stream(source.pieces())({"type": "http"}, connection.receive, connection.send)  # type: ignore[arg-type]
        assert 3 <= connection.text.count(": still here\n\n") <= 6
        assert connection.text.endswith("data: 0\n\n") and not connection.messages[-1]["more_body"]

    asyncio.run(main())
