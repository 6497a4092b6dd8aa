"""What breaks inside while clients wait: each of them is told, nobody else notices, and the server lives on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
import torch
from loaded import Loaded
from loadgen import Ask, Crowd
from test_load import chat, solo

from paddock.engine.runner import Rows
from paddock.errors import OverloadError
from paddock.serve.settings import Settings
from paddock.serve.worker import Worker


class Dead(BaseException):
    """What no step survives."""


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    with Loaded(Settings(template="alpaca")) as loaded:
        yield loaded


def breaking(loaded: Loaded, error: BaseException) -> threading.Event:
    """Once the event is set, the next step raises `error`, that one only."""
    now, engine = threading.Event(), loaded.engine
    run = engine.runner.run

    def broken(batch: list[Rows]) -> torch.Tensor:
        if now.is_set():
            now.clear()
            raise error
        return run(batch)

    engine.runner.run = broken  # type: ignore[method-assign]
    return now


def _dead(worker: Worker) -> bool:
    return not worker.alive


def test_a_dead_engine_is_told_to_every_stream_and_started_again_once(loaded: Loaded) -> None:
    expected = solo(loaded.served.model, 1, 16)
    for again in (False, True):
        now = breaking(loaded, Dead())
        with Crowd(loaded.address, [Ask(chat(number, 300)) for number in range(8)]) as crowd:
            loaded.until(
                lambda: len(loaded.server.worker.feeds) == 8 and all(f.times.first for f in loaded.server.worker.feeds)
            )
            worker, killed = loaded.server.worker, time.monotonic()
            now.set()
            loaded.until(partial(_dead, worker))
            if again:
                response = httpx.get(f"{loaded.address}/ready")
                assert response.status_code == 503 and time.monotonic() - killed < 30
            results = crowd.results()
        assert all(result.status == 200 and not result.ended and result.texts[0] for result in results)
        assert {result.error for result in results} == {"server_unavailable"}
        if not again:
            loaded.until(lambda: httpx.get(f"{loaded.address}/ready").status_code == 200)
            answer = httpx.post(f"{loaded.address}/v1/chat/completions", json=chat(1, 16, stream=False), timeout=60)
            assert answer.json()["choices"][0]["message"]["content"] == expected
            loaded.check_idle()
    refused = httpx.post(f"{loaded.address}/v1/chat/completions", json=chat(1, 16))
    assert refused.status_code == 503 and refused.headers["Retry-After"]
    assert httpx.get(f"{loaded.address}/health").status_code == 200


def test_who_waits_to_be_read_is_told_too(loaded: Loaded) -> None:
    gate, answers = threading.Event(), list[httpx.Response]()

    def die() -> None:
        gate.wait(30)
        raise Dead

    def ask(path: str, body: dict[str, Any]) -> None:
        answers.append(httpx.post(loaded.address + path, json=body, timeout=60))

    assert loaded.loop is not None
    held = asyncio.run_coroutine_threadsafe(loaded.server.worker.run(die), loaded.loop)
    asked = {"/v1/embeddings": {"input": "a"}, "/v1/rerank": {"query": "a", "documents": ["b"]}}
    threads = [threading.Thread(target=ask, args=one) for one in asked.items()]
    for thread in threads:
        thread.start()
    loaded.until(lambda: len(loaded.server.worker._jobs) == 2)
    gate.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(answer.json()["error"]["code"] == "server_unavailable" for answer in answers)
    with pytest.raises(OverloadError):
        held.result(10)


def test_a_step_that_fails_fails_those_in_it_and_nobody_after(loaded: Loaded) -> None:
    now = breaking(loaded, RuntimeError("a secret of the inside"))
    with Crowd(loaded.address, [Ask(chat(number, 300)) for number in range(4)]) as crowd:
        loaded.until(
            lambda: len(loaded.server.worker.feeds) == 4 and all(f.times.first for f in loaded.server.worker.feeds)
        )
        now.set()
        results = crowd.results()
    assert all(result.error == "server_error" and not result.ended for result in results)
    later = Crowd(loaded.address, [Ask(chat(number, 16)) for number in range(4)]).results()
    assert [result.text for result in later] == [solo(loaded.served.model, number, 16) for number in range(4)]
    loaded.check_idle()


def test_logits_that_are_no_numbers_fail_their_own_request_only(loaded: Loaded) -> None:
    engine, poisoned = loaded.engine, set[int]()
    run = engine.runner.run

    def spoilt(batch: list[Rows]) -> torch.Tensor:
        logits, place = run(batch), 0
        for rows in batch:
            if rows.logits and len(rows.ids) > 1 and not poisoned:
                poisoned.add(rows.key)
            if rows.key in poisoned:
                logits[place : place + rows.logits] = float("nan")
            place += rows.logits
        return logits

    engine.runner.run = spoilt  # type: ignore[method-assign]
    results = Crowd(loaded.address, [Ask(chat(number, 40)) for number in range(8)]).results()
    failed = [number for number, result in enumerate(results) if not result.ended]
    assert len(failed) == len(poisoned) == 1 and results[failed[0]].error
    for number, result in enumerate(results):
        if number not in failed:
            assert result.text == solo(loaded.served.model, number, 40)
    loaded.check_idle()
