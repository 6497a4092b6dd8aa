"""Models that come and go: by name, with adapters, while requests run, and after the engine died."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from guarded import opened
from operating import ask, copy_scaled, eventually, write_adapter
from serve_models import write_t5, write_t5_adapter
from test_worker import die

import paddock
from paddock.engine.request import Request
from paddock.engine.runner import cache_bytes
from paddock.errors import CheckpointError, NotFoundError, OverloadError, UsageError
from paddock.serve.answering import Answering, Plan
from paddock.serve.app import make_app
from paddock.serve.registry import Registry, Served
from paddock.serve.server import Server
from paddock.serve.settings import Named, Settings

PROMPT = "Once upon a time"


@pytest.fixture
def changing() -> Iterator[Server]:
    """A server of its own, as the test changes it."""
    with opened(template="alpaca", drain_seconds=20) as server:
        yield server


def client_of(server: Server) -> TestClient:
    return TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)


def answering(server: Server, served: Served, tokens: int = 60) -> Answering:
    request = served.model.plan(PROMPT, tokens, settings={"temperature": 0})
    return Answering(server.worker, Plan(served, (request,), (served.model.decoder(request),)))


async def text(server: Server, served: Served, tokens: int = 60) -> str:
    (whole,) = await answering(server, served, tokens).whole()
    return whole.text


def test_a_limit_on_requests_is_the_server_s(changing: Server) -> None:
    with opened(template="alpaca", ctx_size=160) as server:
        client = client_of(server)
        assert client.get("/v1/models").json()["data"][0]["max_model_len"] == 160
        answer = client.post("/v1/chat/completions", json=ask(120))
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
        assert "160" in answer.json()["error"]["message"]
        assert client.post("/v1/chat/completions", json=ask(20)).status_code == 200
        usual = client.post("/v1/chat/completions", json={**ask(1), "max_tokens": None}).json()
        assert usual["usage"]["total_tokens"] <= 160
        first = server.registry.find(None)
        assert first.engine is not None
        other = changing.registry.find(None).engine
        assert other is not None and first.engine.capacity < other.capacity


def test_a_limit_that_limits_nothing_is_refused() -> None:
    server = Server(Settings(ctx_size=513))
    with pytest.raises(UsageError, match="--ctx-size 513"):
        server.open()
    server.close()


def test_several_models_share_what_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = 60 * 2**20
    monkeypatch.setattr("paddock.serve.server.free_memory", lambda device: memory)
    names = tuple(Named(f"m{place}", None) for place in range(3))
    with opened(models=names) as server:
        sizes = [e.runner.blocks * e.runner.block_bytes for e in server._engines()]
    assert len(sizes) == 3 and sum(sizes) <= memory / 2 and min(sizes) > memory / 10


def test_adapters_of_an_encoder_decoder_share_memory_not_its_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory = 60 * 2**20
    monkeypatch.setattr("paddock.serve.server.free_memory", lambda device: memory)
    folder, adapters = write_t5(tmp_path / "t5"), [write_t5_adapter(tmp_path / name) for name in "ab"]
    models, named = (Named("t5", str(folder)),), tuple(Named(path.name, str(path)) for path in adapters)
    with opened(models=models, adapters=named) as server:
        sizes = [cache_bytes(engine.runner) for engine in server._engines()]
        assert len(sizes) == 3 and sum(sizes) <= memory / 2 and min(sizes) > memory / 10
        assert all(engine.runner.source_blocks > 0 for engine in server._engines())


def test_the_room_of_sources_is_told(tmp_path: Path) -> None:
    with opened(models=(Named("t5", str(write_t5(tmp_path / "t5"))), Named("bundled", None))) as server:
        engine = server.registry.find("t5").engine
        assert engine is not None
        task = engine.task(Request((5,) * 40, 4, start=(0,)))
        engine.submit(task)
        engine.step()
        used = 3 / engine.stats.source_blocks
        told = [line for line in server.metrics.page().decode().splitlines() if "source_usage_perc{" in line]
        assert [float(line.rsplit(" ", 1)[1]) for line in told] == [pytest.approx(used)], "of the one that has sources"
        engine.cancel(task)
        assert 'source_usage_perc{model_name="t5"} 0.0' in server.metrics.page().decode()


async def _unloaded(server: Server) -> None:
    served = server.load(Named("two", None))
    expected = paddock.load().generate(PROMPT, 60, temperature=0).text
    assert await text(server, served) == expected
    parts = [weakref.ref(part) for part in (served, served.model, served.model.model, served.engine)]
    running = asyncio.ensure_future(text(server, served, 400))
    await asyncio.sleep(0.01)
    late = answering(server, server.registry.find(None))  # another model's, which goes on
    removal = asyncio.ensure_future(server.unload("two"))
    await asyncio.sleep(0)
    with pytest.raises(NotFoundError):
        server.registry.find("two")
    with pytest.raises(OverloadError, match="left the server"):
        answering(server, served)
    del served
    await removal
    assert running.done() and len(running.result()) > len(expected), "what ran has ended, not been broken off"
    assert (await late.whole())[0].text == expected
    del running, removal
    await asyncio.sleep(0.05)
    assert [part() for part in parts] == [None] * 4, "its memory is free"


def test_unloading_lets_requests_end_and_frees_memory(changing: Server) -> None:
    gc.collect()
    gc.disable()
    try:
        asyncio.run(_unloaded(changing))
    finally:
        gc.enable()


def test_unloading_breaks_off_what_takes_too_long() -> None:
    async def main(server: Server) -> None:
        two = server.load(Named("two", None))
        running = answering(server, two, 400)
        deltas = running.deltas()
        await anext(deltas)  # and its reader stalls
        started = time.monotonic()
        await server.unload("two")
        assert 0.2 <= time.monotonic() - started < 4
        with pytest.raises(OverloadError, match="was unloaded"):
            async for _ in deltas:
                pass
        assert two.engine is not None and two.engine.stats.used == 0

    with opened(drain_seconds=0.2) as server:
        asyncio.run(main(server))


def test_the_same_name_with_other_weights_is_another_model(changing: Server, tmp_path: Path) -> None:
    """Nothing that a cache knows of a name outlives what was loaded under it."""
    paths = [copy_scaled(tmp_path / str(seed), seed) for seed in (1, 2)]

    async def main() -> None:
        cold = [paddock.load(path).generate(PROMPT, 60, temperature=0).text for path in paths]
        assert cold[0] != cold[1]
        for place in (0, 1, 0):
            served = changing.load(Named("same", str(paths[place])))
            assert [await text(changing, served) for _ in range(2)] == [cold[place]] * 2
            del served
            await changing.unload("same")

    asyncio.run(main())


def test_adapters_go_on_a_model_and_come_off_first(changing: Server, tmp_path: Path) -> None:
    paths = [write_adapter(tmp_path / str(seed), seed) for seed in (1, 2)]
    base = changing.registry.find(None)

    async def main() -> None:
        plain = await text(changing, base)
        cold = [paddock.load().with_adapter(path).generate(PROMPT, 60, temperature=0).text for path in paths]
        assert len({plain, *cold}) == 3
        for place in (0, 1, 0):
            one = changing.adapt(Named("polite", str(paths[place])), base)
            assert one.parent == base.name and one.root == paths[place]
            both = await asyncio.gather(*(text(changing, served) for served in (base, one, base, one)))
            assert both == [plain, cold[place]] * 2
            with pytest.raises(UsageError, match="carries polite"):
                await changing.unload(base.name)
            del one
            await changing.unload("polite")

    asyncio.run(main())
    with pytest.raises(CheckpointError):
        changing.adapt(Named("polite", str(tmp_path)), base)
    assert len(changing.registry) == 1


def test_adapters_of_the_start() -> None:
    with pytest.raises(CheckpointError):
        Server(Settings(adapters=(Named("polite", str(Path(__file__).parent)),))).open()


def test_a_name_is_one_model_s(changing: Server) -> None:
    for name in ("stories260K", "../x"):
        with pytest.raises(UsageError):
            changing.load(Named(name, None))
    with pytest.raises(NotFoundError):
        asyncio.run(changing.unload("nobody"))


def test_a_name_is_kept_while_it_is_loaded() -> None:
    registry = Registry()
    first: Any = Served("a", None, None, Path())  # type: ignore[arg-type]
    registry.add(first)
    with registry.coming("b", "a"):
        for name in ("a", "b"):
            with pytest.raises(UsageError, match="already"), registry.coming(name):
                pass
        with pytest.raises(UsageError, match="carries b"):
            registry.remove("a")
    with registry.coming("b"):
        pass
    assert registry.remove("a") is first and len(registry) == 0
    with pytest.raises(NotFoundError, match="no model is loaded"):
        registry.find(None)


def test_a_dead_engine_is_told_at_once_and_started_again_once(changing: Server) -> None:
    client = client_of(changing)
    before = client.post("/v1/chat/completions", json=ask(30)).json()["choices"][0]["message"]["content"]
    old, worker = changing.registry.find(None).engine, changing.worker

    async def kill() -> None:
        running = answering(changing, changing.registry.find(None), 400).deltas()
        await anext(running)
        with pytest.raises(OverloadError):
            await changing.worker.run(die)
        with pytest.raises(OverloadError) as lost:
            async for _ in running:
                pass
        assert lost.value.down

    asyncio.run(kill())
    eventually(lambda: changing.state == "ready" and changing.worker is not worker)
    assert changing.registry.find(None).engine is not old and client.get("/ready").status_code == 200
    after = client.post("/v1/chat/completions", json=ask(30)).json()["choices"][0]["message"]["content"]
    assert after == before
    asyncio.run(kill())
    time.sleep(0.2)
    assert changing.state == "down"
    for path, status in (("/ready", 503), ("/health", 200), ("/v1/models", 503), ("/metrics", 200)):
        assert client.get(path).status_code == status
    assert "retry-after" in client.get("/v1/models").headers


def test_new_engines_get_what_the_old_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.serve.server.free_memory", lambda device: 20 * 2**20)
    with opened(models=(Named("a", None), Named("b", None))) as server:
        worker, before = server.worker, [engine.capacity for engine in server._engines()]
        with pytest.raises(OverloadError):
            asyncio.run(server.worker.run(die))
        eventually(lambda: server.worker is not worker)
        after = [engine.capacity for engine in server._engines()]
        assert len(after) == 2 and after == pytest.approx(before, rel=0.1) and min(after) > 512


def test_a_plan_of_before_the_restart_is_refused(changing: Server) -> None:
    served = changing.registry.find(None)
    worker = changing.worker

    async def main() -> None:
        with pytest.raises(OverloadError):
            await changing.worker.run(die)
        while changing.worker is worker:
            await asyncio.sleep(0.01)
        with pytest.raises(OverloadError):
            answering(changing, served)

    asyncio.run(main())
