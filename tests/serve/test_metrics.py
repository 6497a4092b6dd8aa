"""What is counted: vLLM's names, and numbers that are what happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from guarded import opened
from operating import ask, eventually
from prometheus_client.parser import text_string_to_metric_families
from test_server import answering, client_of

from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Named

MODEL = "stories260K"
COUNTERS = ("prompt_tokens", "generation_tokens", "prefix_cache_queries", "prefix_cache_hits", "request_success")
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "source_usage_perc", "adapter_bytes")
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
)  # fmt: skip


@pytest.fixture
def fresh() -> Iterator[Server]:
    with opened(template="alpaca") as server:
        yield server


def numbers(server: Server) -> dict[str, float]:
    """Every sample by its name, without the prefix, and its way to end where it has one."""
    found = {}
    for family in text_string_to_metric_families(server.metrics.page().decode()):
        assert family.name.startswith(server.settings.metrics_prefix) and family.documentation
        for sample in family.samples:
            assert sample.labels.keys() <= {"model_name", "finished_reason", "le"}
            name = sample.name.removeprefix(server.settings.metrics_prefix)
            way = sample.labels.get("finished_reason", sample.labels.get("le", ""))
            found[f"{name}[{way}]" if way else name] = sample.value
    return found


def test_every_name_is_there_with_its_kind(fresh: Server) -> None:
    client_of(fresh).post("/v1/chat/completions", json=ask(5))
    kinds = {f.name: f.type for f in text_string_to_metric_families(fresh.metrics.page().decode())}
    expected = {f"paddock:{name}": kind for names, kind in
                ((COUNTERS, "counter"), (GAUGES, "gauge"), (HISTOGRAMS, "histogram")) for name in names}  # fmt: skip
    assert kinds == expected


def test_known_requests_give_known_numbers(fresh: Server) -> None:
    client = client_of(fresh)
    first = client.post("/v1/chat/completions", json=ask(40)).json()["usage"]
    again = client.post("/v1/chat/completions", json=ask(40)).json()["usage"]
    streamed = client.post("/v1/chat/completions", json=ask(25, stream=True))
    assert streamed.status_code == 200
    stopped = client.post("/v1/chat/completions", json=ask(40, stop=["the"])).json()
    assert stopped["choices"][0]["finish_reason"] == "stop"
    several = client.post("/v1/chat/completions", json=ask(10, n=3)).json()["usage"]
    now = numbers(fresh)
    prompt, requests = first["prompt_tokens"], 7
    assert now["prompt_tokens_total"] == now["prefix_cache_queries_total"] == prompt * requests
    assert again["prompt_tokens_details"]["cached_tokens"] > 0 == first["prompt_tokens_details"]["cached_tokens"]
    assert now["prefix_cache_hits_total"] == again["prompt_tokens_details"]["cached_tokens"] * (requests - 1)
    written = 40 + 40 + 25 + stopped["usage"]["completion_tokens"] + several["completion_tokens"]
    assert now["generation_tokens_total"] == written
    assert now["request_success_total[length]"] == 6 and now["request_success_total[stop]"] == 1
    for name in HISTOGRAMS:
        assert now[f"{name}_count"] == (written - requests if name.startswith("inter_token") else requests), name
        assert 0 <= now[f"{name}_sum"] < 60
    parts = ("request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds")
    assert sum(now[f"{name}_sum"] for name in parts) == pytest.approx(now["e2e_request_latency_seconds_sum"], abs=0.5)
    assert [now[name] for name in GAUGES if name not in ("source_usage_perc", "adapter_bytes")] == [0, 0, 0]


def test_refused_requests_are_no_requests(fresh: Server) -> None:
    before = numbers(fresh)
    assert client_of(fresh).post("/v1/chat/completions", json=ask(9999)).status_code == 400
    assert numbers(fresh) == before


def test_what_runs_and_what_waits() -> None:
    before, after = threading.Event(), threading.Event()

    async def main(server: Server) -> None:
        first = asyncio.ensure_future(server.worker.run(before.wait))
        await asyncio.sleep(0)
        answers = [answering(server, server.registry.find(None), 400) for _ in range(5)]
        second = asyncio.ensure_future(server.worker.run(after.wait))  # the worker takes one step between them
        await asyncio.sleep(0)
        before.set()
        await first
        while not (found := numbers(server))["num_requests_running"]:
            await asyncio.sleep(0.005)
        assert (found["num_requests_running"], found["num_requests_waiting"]) == (2, 3)
        assert 0 < found["kv_cache_usage_perc"] <= 1
        after.set()
        await second
        for answer in answers[:4]:
            answer.cancel()
        await answers[4].whole()
        found = numbers(server)
        assert found["request_success_total[abort]"] == 4 and found["request_success_total[stop]"] == 1

    with opened(parallel=2) as server:
        asyncio.run(main(server))
        eventually(lambda: server.worker.active == 0)


def test_a_request_that_fails_is_counted_as_that(fresh: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(fresh.registry.find(None).engine, "step", broken)
    assert client_of(fresh).post("/v1/chat/completions", json=ask(5)).status_code == 500
    assert numbers(fresh)["request_success_total[error]"] == 1


def test_every_model_is_counted_for_itself(fresh: Server) -> None:
    fresh.load(Named("org/two", None))
    client = client_of(fresh)
    client.post("/v1/chat/completions", json=ask(5))
    client.post("/v1/chat/completions", json=ask(7, model="org/two"))
    page = fresh.metrics.page().decode()
    assert f'generation_tokens_total{{model_name="{MODEL}"}} 5.0' in page
    assert 'generation_tokens_total{model_name="org/two"} 7.0' in page


@pytest.mark.parametrize(
    ("settings", "status"), [({}, 200), ({"metrics": False}, 404), ({"metrics_prefix": "vllm:"}, 200)]
)
def test_the_page(settings: dict[str, Any], status: int) -> None:
    with opened(template="alpaca", **settings) as server:
        client = TestClient(make_app(server), base_url="http://127.0.0.1")
        client.post("/v1/chat/completions", json=ask(5))
        answer = client.get("/metrics")
        assert answer.status_code == status
        if status == 200:
            assert answer.headers["content-type"].startswith("text/plain")
            prefix = settings.get("metrics_prefix", "paddock:")
            assert f'{prefix}generation_tokens_total{{model_name="{MODEL}"}} 5.0' in answer.text


def test_two_servers_count_apart(fresh: Server) -> None:
    client_of(fresh).post("/v1/chat/completions", json=ask(5))
    with opened() as other:
        assert "generation_tokens_total" not in numbers(other)
