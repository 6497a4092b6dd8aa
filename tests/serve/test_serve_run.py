"""A server's life within this process, as far as it needs no signals: those are test_lifecycle's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from paddock.engine import grammar
from paddock.serve.listening import address_of, listen
from paddock.serve.run import _Run
from paddock.serve.server import Server
from paddock.serve.settings import Settings

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "temperature": 0}


@contextlib.contextmanager
def living(settings: Settings) -> Iterator[str]:
    """The address of a server that `run` would run."""
    ready, listening = threading.Event(), listen("127.0.0.1", 0)
    life = _Run(Server(settings), listening, lambda _: ready.set())
    thread = threading.Thread(target=lambda: asyncio.run(life.main()))
    with listening:
        thread.start()
        try:
            assert ready.wait(60)
            yield address_of(listening, "127.0.0.1", False)
        finally:
            life._wake(life.stop)
            thread.join()
            if life.last_resort is not None:
                life.last_resort.cancel()


def test_who_waits_for_a_grammar_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than a machine's cores have threads by default: others' requests are answered meanwhile."""
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def slow(program: str, limits: dict[str, Any]) -> str:
        waiting.release()
        assert go_on.wait(60)
        return ""

    monkeypatch.setattr(grammar.CHECKER, "error", slow)
    many = min(32, (os.cpu_count() or 1) + 4) + 4
    with living(Settings(template="alpaca", access_log=False)) as address, ThreadPoolExecutor(many) as callers:
        url = f"{address}/v1/chat/completions"
        asked = [
            callers.submit(httpx.post, url, json={**ASK, "guided_regex": f"[a-{letter}]+{place}"}, timeout=90)
            for place, letter in enumerate("z" * many)
        ]
        try:
            for _ in range(min(many, 8)):
                waiting.acquire(timeout=30)
            started = time.monotonic()
            assert httpx.post(url, json=ASK, timeout=20).status_code == 200
            assert httpx.get(f"{address}/metrics", timeout=20).status_code == 200
            assert time.monotonic() - started < 10
        finally:
            go_on.set()
        assert [one.result().status_code for one in asked] == [200] * many
