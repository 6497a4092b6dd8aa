"""What is counted, in Prometheus' form and under the names that dashboards of vLLM know.

Numbers that are there at any moment (running, waiting, cache) are read from the engines when somebody asks; what
happens to requests is told by `watching.py`, the one place that hears of all of them. Times are seconds of a monotonic
clock. The only labels are model names and ways to end: never what was said, and nobody's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paddock.engine.engine import Engine
from paddock.serve.feed import Feed, Lane
from paddock.serve.registry import Registry, Served
from paddock.serve.worker import Worker

MODEL = "model_name"
FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
WHOLE = (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)

disable_created_metrics()  # when each number was first counted: as many lines again, and nobody reads them


class Series(NamedTuple):
    """What is counted of one model's requests."""

    prompt: Counter
    generated: Counter
    queried: Counter
    found: Counter
    first: Histogram
    between: Histogram
    whole: Histogram
    queued: Histogram
    prefill: Histogram
    decode: Histogram


class Metrics:
    """The numbers of one server. `worker`: the one that works now."""

    def __init__(self, prefix: str, models: Registry, worker: Callable[[], Worker]) -> None:
        self.collected = CollectorRegistry()
        self._names: WeakKeyDictionary[Engine, dict[int, str]] = WeakKeyDictionary()
        self._series: dict[str, Series] = {}

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(prefix + name, help, (MODEL, *labels), registry=self.collected)

        def histogram(name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(prefix + name, help, (MODEL,), buckets=buckets, registry=self.collected)

        self.prompt = counter("prompt_tokens", "Tokens of prompts that were read or found in the cache.")
        self.generated = counter("generation_tokens", "Tokens that were written.")
        self.queried = counter("prefix_cache_queries", "Tokens of prompts that were looked for in the cache.")
        self.found = counter("prefix_cache_hits", "Tokens of prompts that were found in the cache.")
        self.ended = counter("request_success", "Requests that ended, by how they did.", "finished_reason")
        self.first = histogram("time_to_first_token_seconds", "From a request's arrival to its first token.", FIRST)
        self.between = histogram("inter_token_latency_seconds", "From a token of a request to its next.", BETWEEN)
        self.whole = histogram("e2e_request_latency_seconds", "From a request's arrival to its end.", WHOLE)
        self.queued = histogram("request_queue_time_seconds", "From a request's arrival to its first step.", WHOLE)
        self.prefill = histogram("request_prefill_time_seconds", "From its first step to its first token.", WHOLE)
        self.decode = histogram("request_decode_time_seconds", "From its first token to its last.", WHOLE)
        self.collected.register(_Now(prefix, models, worker))

    def name(self, lane: Lane, name: str) -> None:
        """What the requests of an engine, or of an adapter in it, are counted under."""
        self._names.setdefault(lane[0], {})[lane[1]] = name

    def forget(self, lane: Lane) -> None:
        """An adapter has gone."""
        self._names.get(lane[0], {}).pop(lane[1], None)

    def model_of(self, lane: Lane) -> str:
        return self._names.get(lane[0], {}).get(lane[1], "")

    def of(self, model: str) -> Series:
        """The numbers of one model, found once: they are changed with every token."""
        if model not in self._series:
            self._series[model] = Series(
                self.prompt.labels(model),
                self.generated.labels(model),
                self.queried.labels(model),
                self.found.labels(model),
                self.first.labels(model),
                self.between.labels(model),
                self.whole.labels(model),
                self.queued.labels(model),
                self.prefill.labels(model),
                self.decode.labels(model),
            )
        return self._series[model]

    def page(self) -> bytes:
        """All of it as text."""
        return generate_latest(self.collected)


class _Now(Collector):
    """Gauges, read when they are asked for."""

    def __init__(self, prefix: str, models: Registry, worker: Callable[[], Worker]) -> None:
        self.prefix, self.models, self.worker = prefix, models, worker

    def describe(self) -> Iterator[Metric]:
        yield from self._families()

    def collect(self) -> Iterator[Metric]:
        running, waiting, usage, sources, taken = families = self._families()
        feeds = self.worker().feeds
        for served in self.models:
            engine = served.engine
            if engine is None:
                continue
            own = [feed for feed in feeds if feed.lane == lane_of(served)]
            begun = sum(map(_begun, own))
            running.add_metric([served.name], begun)
            waiting.add_metric([served.name], len(own) - begun)
            if served.adapter is not None:  # its requests have blocks of its parent's cache
                taken.add_metric([served.name], served.adapter.nbytes)
                continue
            plan, blocks = engine.scheduler, engine.scheduler.blocks
            usage.add_metric([served.name], blocks.used / blocks.total)
            if plan.source_blocks:
                sources.add_metric([served.name], plan.source_used / plan.source_blocks)
        yield from families

    def _families(self) -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily(self.prefix + name, help, labels=[MODEL])
            for name, help in (
                ("num_requests_running", "Requests that are being computed."),
                ("num_requests_waiting", "Requests that no step has computed anything for yet."),
                ("kv_cache_usage_perc", "The part of the cache that running requests use; 1 is all of it."),
                (
                    "source_usage_perc",
                    "The part of the room for source texts that running requests use.",
                ),
                ("adapter_bytes", "What the numbers of an adapter take that shares its model's cache."),
            )
        ]


def _begun(feed: Feed) -> bool:
    return feed.times.begun is not None


def lane_of(served: Served) -> Lane:
    """Where the requests of a name are. It has an engine."""
    assert served.engine is not None, "only what writes has requests"
    return served.engine, 0 if served.adapter is None else served.adapter.number
