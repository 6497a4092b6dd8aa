"""How much one caller may ask for, who is served next, and that nobody learns of another through the cache."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from guarded import ADMIN, KEYED, OTHER, USER, bearer, check_refusal, client_of, opened

from paddock.errors import OverloadError
from paddock.serve import access
from paddock.serve.access import Caller
from paddock.serve.app import make_app
from paddock.serve.limits import MINUTE, Allowance, Limited, Limits
from paddock.serve.server import Server

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 4, "temperature": 0}
CHAT = "/v1/chat/completions"


def refuses(allowance: Allowance) -> OverloadError | None:
    try:
        allowance.enter()
    except OverloadError as error:
        return error
    return None


def test_requests_at_once() -> None:
    allowance = Allowance(2, None)
    allowance.enter()
    allowance.enter()
    error = refuses(allowance)
    assert error and not error.down and error.retry_after >= 1 and allowance.running == 2
    allowance.leave()
    assert refuses(allowance) is None
    assert all(refuses(Allowance(None, None)) is None for _ in range(100))


@pytest.mark.parametrize("seed", range(8))
def test_no_minute_ever_holds_more_than_its_number(seed: int) -> None:
    chance, now, most = random.Random(seed), [0.0], random.Random(seed).randint(1, 9)
    allowance, begun = Allowance(None, most, lambda: now[0]), []
    for _ in range(800):
        now[0] += chance.choice((0, 0, 0.1, 1, 7, 59.9, MINUTE, 70))
        error = refuses(allowance)
        if error is None:
            begun.append(now[0])
            allowance.leave()
        else:
            recent = [time for time in begun if time > now[0] - MINUTE]
            assert len(recent) == most, "it was refused without need"
            assert min(recent) + MINUTE - now[0] <= error.retry_after < min(recent) + MINUTE - now[0] + 1.01
        assert sum(now[0] - MINUTE < time for time in begun) <= most
    assert len(begun) > most


def test_waiting_as_long_as_told_is_enough() -> None:
    now = [0.0]
    allowance = Allowance(None, 3, lambda: now[0])
    for _ in range(50):
        error = refuses(allowance)
        if error is not None:
            now[0] += error.retry_after
            assert refuses(allowance) is None
        now[0] += 0.37


def test_a_key_may_have_limits_of_its_own() -> None:
    limits = Limits(16, None)
    known = limits.of(Caller("a", in_flight=2, per_minute=5))
    assert (known.at_once, known.per_minute) == (2, 5) and limits.of(Caller("a")) is known
    assert (limits.of(Caller("b")).at_once, limits.of(Caller("b")).per_minute) == (16, None)


def test_what_was_let_in_is_counted_out_however_it_ends() -> None:
    limits, caller = Limits(1, None), Caller("a")

    async def broken(*_: Any) -> None:
        assert limits.of(caller).running == 1
        raise KeyError

    async def hung(*_: Any) -> None:
        await asyncio.sleep(60)

    async def nothing(*_: Any) -> Any: ...

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "state": {"caller": caller}}
        for _ in range(3):
            with pytest.raises(KeyError):
                await Limited(broken, limits)(scope, nothing, nothing)
        task = asyncio.ensure_future(Limited(hung, limits)(scope, nothing, nothing))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadError):
            await Limited(hung, limits)(scope, nothing, nothing)
        await Limited(nothing, limits)({**scope, "method": "GET"}, nothing, nothing)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limits.of(caller).running == 0

    asyncio.run(main())


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    with opened(**KEYED) as server:
        yield server


def test_over_http_it_is_429_with_the_seconds_to_wait(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice:{USER} per_minute=2\nbob:{OTHER}\n")
    with opened(api_key_file=file, template="alpaca") as server:
        client = client_of(server)
        for status in (200, 200, 429):
            response = client.post(CHAT, json=ASK, headers=bearer(USER))
            assert response.status_code == status
        check_refusal(response, 429)
        assert 55 <= int(response.headers["retry-after"]) <= 60
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
        assert client.get("/v1/models", headers=bearer(USER)).status_code == 200
        assert client.post(CHAT, json=ASK, headers=bearer(OTHER)).status_code == 200


def test_requests_at_once_over_http_end_with_their_streams(keyed: Server) -> None:
    """Sixteen streams of one key run; the next is refused, another key's is not."""
    app = make_app(keyed)
    long = {**ASK, "max_tokens": 200, "stream": True, "ignore_eos": True}

    async def main() -> Counter[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            many = [client.post(CHAT, json=long, headers=bearer(USER)) for _ in range(20)]
            other = client.post(CHAT, json=ASK, headers=bearer(OTHER))
            *answers, last = await asyncio.gather(*many, other)
            assert last.status_code == 200
            again = await client.post(CHAT, json=ASK, headers=bearer(USER))
            assert again.status_code == 200
            return Counter(answer.status_code for answer in answers)

    assert asyncio.run(main()) == {200: 16, 429: 4}


# Who is served next


def crowd(server: Server, requests: list[tuple[str, int]], together: bool = True) -> list[str]:
    """Asks in this order, each for so many tokens; the callers in the order in which their answers ended.

    together: nothing is computed before all have asked.
    """
    ended: list[str] = []
    app, go = make_app(server), threading.Event()

    async def ask(client: httpx.AsyncClient, key: str, tokens: int) -> None:
        body = {**ASK, "max_tokens": tokens, "ignore_eos": True}
        response = await client.post(CHAT, json=body, headers=bearer(key))
        assert response.status_code == 200, response.text
        ended.append(key)

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        held = asyncio.ensure_future(server.worker.run(go.wait))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            tasks = []
            for place, (key, tokens) in enumerate(requests):
                tasks.append(asyncio.ensure_future(ask(client, key, tokens)))
                while server.worker.active <= place and together:
                    await asyncio.sleep(0.001)
                if not together:
                    go.set()
                    await asyncio.sleep(0.002)
            go.set()
            await asyncio.gather(held, *tasks)

    try:
        asyncio.run(main())
    finally:
        go.set()
    return ended


PATIENT: dict[str, Any] = {**KEYED, "parallel": 4, "queue": 200, "per_key_in_flight": None}


def test_one_request_is_not_held_up_by_a_hundred_of_another() -> None:
    with opened(**PATIENT) as server:
        ended = crowd(server, [(USER, 20)] * 100 + [(OTHER, 20)])
    assert ended.index(OTHER) < 4, "it runs among the first four"


def test_one_request_is_next_when_a_seat_becomes_free() -> None:
    with opened(**PATIENT) as server:
        ended = crowd(server, [(USER, 200)] * 30 + [(OTHER, 5)], together=False)
    assert ended.index(OTHER) <= 5


def test_equal_callers_get_equal_shares() -> None:
    keys = [f"tenant-key-{place}" for place in range(4)]
    rest = [(key, 20) for key in keys[1:] for _ in range(24)]
    random.Random(4).shuffle(rest)
    with opened(**{**PATIENT, "api_keys": tuple(keys)}) as server:
        ended = crowd(server, [(keys[0], 20)] * 24 + rest)  # one comes first with all of his
    for count in (16, 48, 80):
        shares = Counter(ended[:count])
        jain = count**2 / (len(keys) * sum(shares[key] ** 2 for key in keys))
        assert jain >= 0.98, shares


# What the cache tells


def cached(client: Any, key: str, text: str) -> int:
    body = {**ASK, "messages": [{"role": "user", "content": text}]}
    usage = client.post(CHAT, json=body, headers=bearer(key)).json()["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_nobody_finds_what_another_callers_prompt_left_in_the_cache() -> None:
    text = "The secret of the old castle by the lake was that nobody had ever lived in it. " * 2
    with opened(**KEYED) as server:
        client = client_of(server)
        assert cached(client, USER, text) == 0
        assert cached(client, USER, text) >= 16, "a caller's own prompts are found again"
        assert cached(client, OTHER, text) == 0 and cached(client, ADMIN, text) == 0
        assert cached(client, OTHER, text) >= 16


def test_two_browsers_and_a_program_of_one_key_are_one_caller(keyed: Server) -> None:
    client = client_of(keyed)
    client.post("/login", data={"key": USER}, headers={"Origin": "http://127.0.0.1"})
    text = "A prompt that was told to the program first and to the browser afterwards, word by word. " * 2
    cached(client, USER, text)
    body = {**ASK, "messages": [{"role": "user", "content": text}]}
    usage = client.post(CHAT, json=body, headers={"Origin": "http://127.0.0.1"}).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 16


def test_every_task_and_thread_of_a_request_knows_its_caller() -> None:
    async def main() -> None:
        token = access.bind(Caller("a"))
        assert (await asyncio.to_thread(access.current)).name == "a"
        task = asyncio.ensure_future(asyncio.to_thread(access.current))
        access.release(token)
        assert (await task).name == "a" and access.current() is access.ANYBODY

    asyncio.run(main())
