"""Many clients at once, in a process of their own: nobody's text is another's, nobody starves, nothing is left behind.

Figures are printed (pytest -s); what is asserted does not depend on how fast this machine is.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loaded import Loaded, long_story
from loadgen import Ask, Crowd, Result, jain, percentile, tokens_at

from paddock.engine.engine import AHEAD
from paddock.engine.language_model import LanguageModel
from paddock.serve import streaming
from paddock.serve.feed import HELD
from paddock.serve.settings import Settings

STORY = "Once upon a time there was a little girl named Lily She had a big red ball and her dog ran very fast"


def conversation(number: int) -> list[dict[str, str]]:
    """Some begin alike, none are the same."""
    chance = random.Random(number % 7)
    text = " ".join(chance.choices(STORY.split(), k=12)) + f" {number}"
    return [{"role": "user", "content": text}]


def settings(number: int) -> dict[str, Any]:
    """Every other one greedy, the others drawn."""
    return {"temperature": 0} if number % 2 else {"temperature": 1.0, "top_k": 40, "seed": number}


def chat(number: int, tokens: int, **fields: Any) -> dict[str, Any]:
    """As long as asked for: no end before."""
    asked = {"messages": conversation(number), "max_tokens": tokens, "min_tokens": tokens, "stream": True}
    return {**asked, **settings(number), **fields}


def solo(model: LanguageModel, number: int, tokens: int) -> str:
    """What this conversation gets with nobody else there: an engine of its own."""
    return model.chat(conversation(number), tokens, min_new_tokens=tokens, **settings(number)).text


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with Loaded(Settings(template="alpaca")) as loaded:
        yield loaded


def figures(results: list[Result]) -> str:
    first = [result.arrivals[0][0] - result.began for result in results]
    whole = [result.finished - result.began for result in results]
    return (
        f"first token p50 {percentile(first, 0.5):.3f} s, p95 {percentile(first, 0.95):.3f} s; "
        f"whole: fastest {min(whole):.2f} s, slowest {max(whole):.2f} s"
    )


@pytest.mark.parametrize("tokens", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_64_streams_at_once_are_what_each_is_alone(loaded: Loaded, tokens: int) -> None:
    asks = [Ask(chat(number, tokens, logprobs=True)) for number in range(64)]
    results = Crowd(loaded.address, asks).results()
    assert all(result.ended and result.error is None for result in results)
    assert [result.arrivals[-1][1] for result in results] == [tokens] * 64, "no token lost, none twice"
    expected = [solo(loaded.served.model, number, tokens) for number in range(64)]
    assert [result.text for result in results] == expected
    moments = sorted(when for result in results for when, _ in result.arrivals)
    cut = moments[len(moments) // 2]
    fair = jain([tokens_at(result, cut) for result in results])
    print(f"\n64 streams: Jain {fair:.4f} at {cut:.2f} s; {figures(results)}")
    assert fair >= 0.98
    loaded.check_idle()


def test_who_does_not_read_costs_little_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, wide = 60, {"logprobs": True, "top_logprobs": 20, "n": 4}
    asks = [Ask(chat(number, 300, **wide), stalled=True, leave=300) for number in range(8)]
    with Loaded(Settings(template="alpaca"), send_buffer=4096) as loaded, Crowd(loaded.address, asks):
        worker = loaded.server.worker
        loaded.until(lambda: len(worker.feeds) == 32 and all(feed.task.sequence.paused for feed in worker.feeds))
        for feed in worker.feeds:
            assert len(feed._events) + len(feed.task.events) <= HELD + AHEAD
            assert len(feed.task.answer.written) < 300
        results = Crowd(loaded.address, [Ask(chat(number, tokens)) for number in range(48)]).results()
        assert [result.text for result in results] == [solo(loaded.served.model, n, tokens) for n in range(48)]
        print(f"\n48 beside 8 that do not read: {figures(results)}")
        monkeypatch.setattr(streaming, "STALL_SECONDS", 0.5)
        loaded.check_idle()  # they were hung up on


def test_more_than_there_is_room_for_is_refused_at_once() -> None:
    with Loaded(Settings(template="alpaca", parallel=16, queue=64)) as loaded:
        results = Crowd(loaded.address, [Ask(chat(number, 48)) for number in range(256)]).results()
        taken = {number: result for number, result in enumerate(results) if result.status == 200}
        refused = [result for result in results if result.status != 200]
        assert len(taken) >= 80 and len(taken) + len(refused) == 256
        assert refused and {result.status for result in refused} == {429}
        assert all(result.retry_after and result.error == "rate_limit_exceeded" for result in refused)
        waits = [result.answered - result.began for result in refused]
        print(f"\n256 at once: {len(taken)} taken, {len(refused)} refused within p99 {percentile(waits, 0.99):.3f} s")
        ends = [result.finished for result in taken.values()]
        assert max(result.answered for result in refused) < percentile(ends, 0.5), "a refusal waits for no answer"
        assert all(result.ended for result in taken.values())
        model = loaded.served.model
        assert all(result.text == solo(model, number, 48) for number, result in taken.items())
        loaded.check_idle()


def departures(count: int, seed: int, within: float) -> list[Ask]:
    """Clients that leave at any moment: streamed and not, one choice and four, some after a number of events."""
    chance = random.Random(seed)
    asks = []
    for number in range(count):
        body = chat(number, chance.choice((8, 100, 300)), stream=chance.random() < 0.6, n=chance.choice((1, 4)))
        leave = chance.uniform(0.0, within)
        at = chance.randrange(1, 30) if body["stream"] and chance.random() < 0.3 else None
        asks.append(Ask(body, after=chance.uniform(0, within), leave=leave, leave_at=at))
    return asks


@pytest.mark.parametrize(("count", "within"), [(100, 2.0), pytest.param(1000, 20.0, marks=pytest.mark.slow)])
def test_clients_that_leave_at_any_moment_leave_nothing(loaded: Loaded, count: int, within: float) -> None:
    crowd = Crowd(loaded.address, departures(count, seed=count, within=within))
    staying = Crowd(loaded.address, [Ask(chat(number, 64)) for number in range(8)])
    results, stayed = crowd.results(), staying.results()
    assert [result.text for result in stayed] == [solo(loaded.served.model, number, 64) for number in range(8)]
    left = sum(not result.ended for result in results)
    print(f"\n{left} of {len(results)} left before the end")
    assert left > count / 5
    assert {result.status for result in results} <= {0, 200, 429}
    loaded.check_idle()


def test_who_leaves_has_no_more_read_for_him(loaded: Loaded) -> None:
    worker, read = loaded.server.worker, list[int]()
    run = worker.run

    async def counting(job: Any) -> Any:
        read.append(1)
        return await run(job)

    worker.run = counting  # type: ignore[method-assign]
    texts = ["one day " * 100] * 2000
    with Crowd(loaded.address, [Ask({"input": texts}, "/v1/embeddings")]):
        loaded.until(lambda: len(read) > 3)
    loaded.until(lambda: loaded.server.in_flight == 0)
    worker.run = run  # type: ignore[method-assign]
    print(f"\n{len(read)} pieces were read")
    assert len(read) < 900
    loaded.check_idle()


def test_connections_that_say_nothing_cost_nothing_but_themselves(loaded: Loaded) -> None:
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("there is no /proc here")
    loaded.check_idle()
    before = len(list(files.iterdir()))
    host = loaded.address.removeprefix("http://").split(":")
    begun = (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: ", b"POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\n"
             b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")  # fmt: skip
    silent = [socket.create_connection((host[0], int(host[1])), timeout=30) for _ in range(150)]
    for number, connection in enumerate(silent):
        connection.sendall(begun[number % len(begun)])
    results = Crowd(loaded.address, [Ask(chat(number, 32)) for number in range(16)]).results()
    assert [result.text for result in results] == [solo(loaded.served.model, number, 32) for number in range(16)]
    for connection in silent:
        connection.close()
    loaded.check_idle()
    loaded.until(lambda: len(list(files.iterdir())) <= before)


def test_a_long_prompt_lets_the_others_write_on(tmp_path: Path) -> None:
    with Loaded(Settings(models=(long_story(tmp_path, 4096),), template="alpaca")) as loaded:
        engine, steps = loaded.engine, list[dict[int, int]]()
        run = engine.runner.run
        engine.runner.run = lambda batch: (  # type: ignore[method-assign]
            steps.append({rows.key: len(rows.ids) for rows in batch}) or run(batch)
        )
        decoders = Crowd(loaded.address, [Ask(chat(number, 400)) for number in range(16)])
        loaded.until(lambda: engine.stats.running == 16 and all(f.times.first for f in loaded.server.worker.feeds))
        long = {"prompt": "one day " * 1200, "max_tokens": 4, "stream": True}
        late = Crowd(loaded.address, [Ask(long, path="/v1/completions")])
        result = late.results()[0]
        others = decoders.results()
    assert result.ended, result
    longest = max(sum(step.values()) for step in steps)
    reading = [step for step in steps if any(size > 64 for size in step.values())][1:]
    reader = next(key for key, size in reading[-1].items() if size > 64)
    pieces = [step for step in reading if step.get(reader, 0) > 64]
    assert len(pieces) >= 3 and longest <= 512 + 16, "the prompt is read in pieces"
    missing = [16 - (len(step) - 1) for step in pieces]
    print(f"\nread in {len(pieces)} pieces; decoders that had to skip one: {missing}; {figures(others)}")
    assert max(missing) <= 4, "those who write are in every step, but for who just paused"
    assert all(other.ended for other in others)


def test_a_cache_half_as_large_as_needed_changes_no_text() -> None:
    with Loaded(Settings(template="alpaca", parallel=16), blocks=50) as loaded:
        results = Crowd(loaded.address, [Ask(chat(number, 60)) for number in range(24)]).results()
        assert [result.text for result in results] == [solo(loaded.served.model, number, 60) for number in range(24)]
        print(f"\n{loaded.engine.stats.preemptions} times a request began again")
        assert loaded.engine.stats.preemptions > 0
        loaded.check_idle()
