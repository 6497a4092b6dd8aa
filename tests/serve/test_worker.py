"""The thread that computes: nothing is lost, nobody waits for ever, and everybody gets a turn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import paddock
from paddock.engine.engine import Engine
from paddock.engine.language_model import LanguageModel
from paddock.engine.runners import engine_for
from paddock.errors import OverloadError
from paddock.serve import access
from paddock.serve.feed import HELD, Feed
from paddock.serve.worker import FAILURES, Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return paddock.load()


@pytest.fixture
def engine(model: LanguageModel) -> Engine:
    return engine_for(model.model, sequences=4)


@contextlib.contextmanager
def working(**options: Any) -> Iterator[Worker]:
    worker = Worker(**{"limit": 64, "seats": 4, **options})
    worker.start()
    try:
        yield worker
    finally:
        assert worker.stop(20)


def submit(
    worker: Worker, engine: Engine, model: LanguageModel, tokens: int = 40, caller: str = "a", **more: Any
) -> Feed:
    request = model.plan("Once upon a time", tokens, settings={"temperature": 0}, **more)
    token = access.bind(access.Caller(caller))
    try:
        return worker.submit(engine, engine.task(request, model.decoder(request)))
    finally:
        access.release(token)


async def events_of(feed: Feed) -> AsyncIterator[Any]:
    while events := await feed.next():
        for event in events:
            yield event
        if events[-1].finish_reason:
            return


async def text_of(feed: Feed) -> str:
    return "".join([event.text async for event in events_of(feed)])


async def until(check: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.005)


def stuck(feed: Feed) -> bool:
    """Its reader has stalled, and the engine waits for it."""
    return feed.task.sequence.paused and len(feed._events) >= HELD


@pytest.mark.parametrize("pauses", [0, 1, 3])
async def test_a_reader_that_stalls_gets_everything(engine: Engine, model: LanguageModel, pauses: int) -> None:
    expected = model.generate("Once upon a time", 300, temperature=0).text
    assert len(expected) > 3 * HELD
    with working() as worker:
        feed = submit(worker, engine, model, 300)
        pieces = []
        for _ in range(pauses):
            await until(lambda: stuck(feed))
            assert len(feed._events) < HELD + 16 + 2, "what waits for it is bounded"
            pieces += await feed.next()
        async with asyncio.timeout(20):
            rest = await text_of(feed)
        assert "".join(event.text for event in pieces) + rest == expected


async def test_a_stalled_reader_that_leaves_is_forgotten(engine: Engine, model: LanguageModel) -> None:
    with working() as worker:
        feed = submit(worker, engine, model, 400)
        await until(lambda: stuck(feed))
        feed.cancel()  # and nobody calls next() again
        await until(lambda: worker.active == 0)
        assert engine.stats.used == 0 and engine.stats.running == 0


async def test_stalled_readers_hold_nobody_s_seat(engine: Engine, model: LanguageModel) -> None:
    with working() as worker:
        stalled = [submit(worker, engine, model, 300) for _ in range(4)]
        await until(lambda: all(map(stuck, stalled)))
        async with asyncio.timeout(20):
            assert await text_of(submit(worker, engine, model))
            texts = [await text_of(feed) for feed in stalled]
        assert len(set(texts)) == 1 and worker.active == 0


async def test_a_crowd_does_not_hold_up_another_caller(engine: Engine, model: LanguageModel) -> None:
    begun: list[tuple[float, str]] = []
    with working(seats=2) as worker:
        crowd = [submit(worker, engine, model, 100, "crowd") for _ in range(20)]
        other = [submit(worker, engine, model, 100, "other") for _ in range(3)]
        await asyncio.gather(*map(text_of, [*crowd, *other]))
        begun = sorted((feed.times.begun or 0, feed.caller) for feed in [*crowd, *other])
    order = [caller for _, caller in begun]
    assert [place for place, caller in enumerate(order) if caller == "other"][-1] < 10, order


async def test_priority_goes_first(engine: Engine, model: LanguageModel) -> None:
    with working(seats=1) as worker:
        crowd = [submit(worker, engine, model, 60) for _ in range(6)]
        urgent = submit(worker, engine, model, 60, priority=5)
        await asyncio.gather(*map(text_of, [*crowd, urgent]))
        later = [feed for feed in crowd if feed.times.begun > urgent.times.begun]  # type: ignore[operator]
    assert len(later) >= 4


@pytest.mark.parametrize(("seats", "limit"), [(4, 0), (2, 3), (4, 8)])
async def test_seats_and_queue_are_what_is_taken(engine: Engine, model: LanguageModel, seats: int, limit: int) -> None:
    with working(seats=seats, limit=limit) as worker:
        feeds = [submit(worker, engine, model, 200) for _ in range(seats + limit)]
        with pytest.raises(OverloadError, match=f"{limit} requests are waiting already") as refusal:
            submit(worker, engine, model)
        assert not refusal.value.down
        assert len(set(await asyncio.gather(*map(text_of, feeds)))) == 1
        assert await text_of(submit(worker, engine, model)), "and there is room again"


async def test_whoever_gives_up_in_the_queue_leaves_it(engine: Engine, model: LanguageModel) -> None:
    with working(seats=1) as worker:
        first = submit(worker, engine, model, 300)
        queued = [submit(worker, engine, model, 300) for _ in range(8)]
        for feed in queued[::2]:
            feed.cancel()
        async with asyncio.timeout(30):
            texts = await asyncio.gather(*map(text_of, [first, *queued[1::2]]))
            assert [await feed.next() for feed in queued[::2]] == [[]] * 4
        assert len(set(texts)) == 1
        await until(lambda: worker.active == 0)
        assert engine.stats.used == 0


class Killer(BaseException):
    """Nothing that the worker expects."""


def die() -> None:
    raise Killer


async def test_when_it_dies_nobody_waits_for_it(engine: Engine, model: LanguageModel) -> None:
    died = threading.Event()
    worker = Worker(limit=64, seats=1, died=died.set)
    worker.start()
    running, queued = submit(worker, engine, model, 400), submit(worker, engine, model, 400)
    await running.next()
    jobs = [asyncio.ensure_future(worker.run(die)), *(asyncio.ensure_future(worker.run(lambda: 1)) for _ in range(3))]
    async with asyncio.timeout(5):
        for feed in (running, queued):
            with pytest.raises(OverloadError) as failure:
                await text_of(feed)
            assert failure.value.down
        assert all(isinstance(found, OverloadError) for found in await asyncio.gather(*jobs, return_exceptions=True))
    assert died.wait(5) and not worker.alive
    with pytest.raises(OverloadError):
        submit(worker, engine, model)
    with pytest.raises(OverloadError):
        await worker.run(lambda: 1)


async def test_what_is_put_in_while_it_dies_fails_too(engine: Engine, model: LanguageModel) -> None:
    """Between the look whether it lives and the putting in."""
    worker = Worker(limit=64, seats=4)
    worker.start()
    worker._check_alive = lambda: None  # type: ignore[method-assign]
    assert worker.stop(20)
    async with asyncio.timeout(5):
        with pytest.raises(OverloadError):
            await submit(worker, engine, model).next()
        with pytest.raises(OverloadError):
            await worker.run(lambda: 1)


async def test_a_job_that_fails_fails_alone(engine: Engine, model: LanguageModel) -> None:
    with working() as worker:
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        assert await worker.run(lambda: 7) == 7
        assert await text_of(submit(worker, engine, model))


async def test_an_engine_that_keeps_failing_ends_the_thread(
    engine: Engine, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(limit=64, seats=4)
    worker.start()
    other = engine_for(model.model)

    def broken() -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine, "step", broken)
    async with asyncio.timeout(20):
        for _ in range(FAILURES - 1):
            with pytest.raises(RuntimeError, match="broken"):
                await text_of(submit(worker, engine, model))
            assert await text_of(submit(worker, other, model)), "another model's requests go on"
        with pytest.raises(RuntimeError, match="broken"):
            await text_of(submit(worker, engine, model))
    await until(lambda: not worker.alive)


async def test_an_engine_that_is_closed_takes_nothing_more(engine: Engine, model: LanguageModel) -> None:
    with working() as worker:
        running = submit(worker, engine, model, 400)
        await running.next()
        worker.close(engine)
        with pytest.raises(OverloadError, match="left the server"):
            submit(worker, engine, model)
        worker.close(engine, OverloadError("it was unloaded", down=True))
        async with asyncio.timeout(5):
            with pytest.raises(OverloadError, match="it was unloaded"):
                await text_of(running)
        await until(lambda: not worker.busy(engine))
        assert engine.stats.used == 0
