"""Adapters behind one server: one engine for all that add low ranks, told apart in every answer."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from guarded import ADMIN, USER, bearer, opened
from operating import Process, write_adapter
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import load_file, save_file

import paddock
from paddock.errors import NotFoundError, OverloadError, ResourceError
from paddock.serve.answering import Answering, Plan
from paddock.serve.registry import Served
from paddock.serve.server import Server
from paddock.serve.settings import Named

PROMPT, TOKENS = "Once upon a time", 60
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(folder / name, seed) for seed, name in enumerate(NAMES, 1)}


@pytest.fixture(scope="module")
def cold(paths: dict[str, Path]) -> dict[str | None, str]:
    """What each writes in an engine that nobody else is in."""
    found = {name: paddock.load().with_adapter(path) for name, path in paths.items()}
    models = {None: paddock.load(), **found}
    return {name: model.generate(PROMPT, TOKENS, temperature=0).text for name, model in models.items()}


@pytest.fixture
def four(paths: dict[str, Path]) -> Iterator[Server]:
    with opened(adapters=tuple(Named(name, str(path)) for name, path in paths.items()), drain_seconds=20) as server:
        yield server


def answering(server: Server, served: Served, tokens: int = TOKENS) -> Answering:
    request = served.model.plan(PROMPT, tokens, settings={"temperature": 0})
    return Answering(server.worker, Plan(served, (request,), (served.model.decoder(request),)))


async def text(server: Server, name: str | None) -> str:
    (whole,) = await answering(server, server.registry.find(name)).whole()
    return whole.text


def numbers(server: Server, name: str) -> dict[str, float]:
    """A metric by model."""
    found = {}
    for family in text_string_to_metric_families(server.metrics.page().decode()):
        for sample in family.samples:
            if sample.name == f"paddock:{name}":
                found[sample.labels["model_name"]] = sample.value
    return found


def test_all_in_one_batch(four: Server, cold: dict[str | None, str]) -> None:
    base = four.registry.find(None)
    assert {served.engine for served in four.registry} == {base.engine} and len(set(cold.values())) == 4
    assert base.engine is not None and base.engine.stats.adapters == 3

    async def main() -> None:
        asked = [None, *NAMES] * 4
        before = base.engine.stats.steps
        assert await asyncio.gather(*(text(four, name) for name in asked)) == [cold[name] for name in asked]
        assert base.engine.stats.steps - before < 4 * TOKENS  # not one after another

    asyncio.run(main())
    said = numbers(four, "generation_tokens_total")
    assert {name: said[name] for name in NAMES} == dict.fromkeys(NAMES, 4 * TOKENS) and said[base.name] == 4 * TOKENS
    taken = numbers(four, "adapter_bytes")
    assert taken.keys() == set(NAMES) and sum(taken.values()) == base.engine.stats.adapter_bytes > 0
    assert numbers(four, "kv_cache_usage_perc").keys() == {base.name}


def test_one_leaves_while_its_requests_run(four: Server, cold: dict[str | None, str], paths: dict[str, Path]) -> None:
    """They end as they would have; it takes no new ones; the others do not notice."""
    engine = four.registry.find(None).engine
    assert engine is not None

    async def main() -> None:
        running = [asyncio.create_task(text(four, name)) for name in (None, "a", "b", "a")]
        while not engine.stats.running:
            await asyncio.sleep(0.001)
        stale = four.registry.find("a")
        leaving = asyncio.create_task(four.unload("a"))
        await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            four.registry.find("a")
        with pytest.raises(OverloadError, match="left"):
            answering(four, stale)
        del stale
        assert await asyncio.gather(*running) == [cold[name] for name in (None, "a", "b", "a")]
        await leaving
        gc.collect()
        engine.adapters.sweep()
        assert engine.stats.adapters == 2 and "a" not in numbers(four, "adapter_bytes")
        four.adapt(Named("a", str(paths["c"])), four.registry.find(None))  # the name with other numbers
        assert await text(four, "a") == cold["c"] and await text(four, "c") == cold["c"]

    asyncio.run(main())


def test_what_does_not_end_in_time_is_broken_off(paths: dict[str, Path], cold: dict[str | None, str]) -> None:
    with opened(adapters=(Named("a", str(paths["a"])),), drain_seconds=0) as server:

        async def main() -> None:
            mine = answering(server, server.registry.find("a"), 400)
            other = asyncio.create_task(text(server, None))
            deltas = mine.deltas()
            await anext(deltas)
            await server.unload("a")
            with pytest.raises(OverloadError, match="'a' was unloaded"):
                async for _ in deltas:
                    pass
            assert await other == cold[None]

        asyncio.run(main())


def test_what_is_no_low_rank_has_its_own_engine(four: Server, paths: dict[str, Path], tmp_path: Path) -> None:
    dora = tmp_path / "dora"
    dora.mkdir()
    tensors = load_file(paths["a"] / "adapter_model.safetensors")
    for name in list(tensors):
        if name.endswith("lora_A.weight"):
            tensors[name.replace("lora_A.weight", "lora_magnitude_vector")] = tensors[name].new_ones(64)
    save_file(tensors, dora / "adapter_model.safetensors")
    about = json.loads((paths["a"] / "adapter_config.json").read_text()) | {"use_dora": True}
    (dora / "adapter_config.json").write_text(json.dumps(about))
    base = four.registry.find(None)
    served = four.adapt(Named("dora", str(dora)), base)
    assert served.adapter is None and served.engine is not base.engine
    assert asyncio.run(text(four, "dora")) == paddock.load().with_adapter(dora).generate(PROMPT, 60, temperature=0).text
    asyncio.run(four.unload("dora"))


def test_too_many_are_refused_and_nothing_is_kept(four: Server, paths: dict[str, Path], monkeypatch: Any) -> None:
    monkeypatch.setattr("paddock.engine.carrying.MOST", 3)
    base = four.registry.find(None)
    with pytest.raises(ResourceError, match="3 adapters"):
        four.adapt(Named("d", str(paths["a"])), base)
    assert [served.name for served in four.registry] == [base.name, *NAMES]
    assert base.engine is not None and base.engine.stats.adapters == 3


def test_over_http(paths: dict[str, Path], cold: dict[str | None, str]) -> None:
    """`paddock serve --lora a=... --lora b=...`: clients of every name at once, one comes and one goes meanwhile."""
    flags = [part for name in ("a", "b") for part in ("--lora", f"{name}={paths[name]}")]
    with Process("--port", "0", "--admin-key", ADMIN, "--api-key", USER, *flags) as server:
        assert re_told(server.said, "a") and re_told(server.said, "b")

        def complete(name: str) -> str:
            body = {"model": name, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
            answer = httpx.post(f"{server.url}/v1/completions", json=body, headers=bearer(USER), timeout=60)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["text"])

        def lora(verb: str, **body: str) -> None:
            answer = httpx.post(f"{server.url}/v1/{verb}_lora_adapter", json=body, headers=bearer(ADMIN), timeout=60)
            assert answer.status_code == 200, answer.text

        names = {"stories260K": None, "a": "a", "b": "b"}
        with ThreadPoolExecutor(12) as pool:
            asked = [*names] * 4
            answers = [pool.submit(complete, name) for name in asked]
            lora("load", lora_name="c", lora_path=str(paths["c"]))
            more = [pool.submit(complete, "c") for _ in range(3)]
            lora("unload", lora_name="c") if all(one.result() == cold["c"] for one in more) else pytest.fail(
                "c differs"
            )
            assert [one.result() for one in answers] == [cold[names[name]] for name in asked]
        gone = httpx.post(f"{server.url}/v1/completions", json={"model": "c", "prompt": "x"}, headers=bearer(USER))
        assert gone.status_code == 404
        listed = httpx.get(f"{server.url}/v1/models", headers=bearer(USER)).json()["data"]
        assert {model["id"]: model["parent"] for model in listed} == {
            "stories260K": None, "a": "stories260K", "b": "stories260K",
        }  # fmt: skip


def re_told(said: str, name: str) -> bool:
    """Whether the server's start says of an adapter what its numbers take, and whose cache it has."""
    (line,) = [line for line in said.splitlines() if line.strip().startswith(f"{name} ")]
    return "adapter on stories260K" in line and "kB" in line.replace("KB", "kB") and line.endswith("stories260K's")
