"""What serving costs: tokens per second over HTTP beside those of the engine alone, in the same run.

    python benchmarks/serving.py --work bench-serving -r 3

For each model a server (`paddock serve`, a process of its own) and the engine (this process) take turns, `-r` times:
so many requests at once, fresh random prompts each time, greedy, every answer as long as asked. The clients are a third
process. A rate is the new tokens of all requests over the time from the first request to the last answer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapes import SHAPES, write_gguf

import paddock
from paddock.engine.language_model import LanguageModel
from paddock.engine.request import Request
from paddock.engine.sampling import Sampling

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "serve"))

from loadgen import Ask, Crowd, percentile
from operating import Process

COLUMNS = ("model", "way", "median t/s", "of the engine", "first token p50 ms", "p95 ms")


def prompts(model: LanguageModel, count: int, length: int, chance: random.Random) -> list[list[int]]:
    """Ids that nobody has seen: nothing of them is in a cache."""
    top = min(model.architecture.vocabulary, len(model.tokenizer))
    return [[chance.randrange(260, top) for _ in range(length)] for _ in range(count)]


def engine_round(model: LanguageModel, asked: list[list[int]], new: int) -> tuple[float, list[float]]:
    """Tokens per second, and each request's seconds to its first token. Text is made too, as for anybody who reads."""
    engine, greedy = model.engine, Sampling(temperature=0)
    requests = [Request(tuple(ids), new, greedy, salt=None) for ids in asked]
    tasks = [engine.task(request, model.decoder(request)) for request in requests]
    first: dict[int, float] = {}
    started = time.perf_counter()
    for task in tasks:
        engine.submit(task)
    count = 0
    while engine.step():
        for place, task in enumerate(tasks):
            events = engine.take(task)
            if events and place not in first:
                first[place] = time.perf_counter() - started
            count += len(events)
    assert count == new * len(asked), (count, new * len(asked))
    return count / (time.perf_counter() - started), list(first.values())


def server_round(address: str, asked: list[list[int]], new: int, stream: bool) -> tuple[float, list[float]]:
    rest = {"max_tokens": new, "temperature": 0, "ignore_eos": True, "stream": stream}
    asks = [Ask({"prompt": ids, **rest}, "/v1/completions", after=0.2) for ids in asked]
    results = Crowd(address, asks).results(seconds=1200)
    assert all(result.ended for result in results), [result.error or result.broken for result in results]
    seconds = max(result.finished for result in results) - min(result.began for result in results)
    return new * len(asked) / seconds, [result.arrivals[0][0] - result.began for result in results]


def measure(name: str, path: Path | None, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one model."""
    chance, count, new = random.Random(0), chosen.concurrency, chosen.new
    model = paddock.load(path)
    with Process(*([path] if path else []), "--port", "0", "--parallel", str(count), "--no-access-log") as server:
        ways: dict[str, Callable[[list[list[int]]], tuple[float, list[float]]]] = {
            "engine": lambda asked: engine_round(model, asked, new),
            "streamed": lambda asked: server_round(server.url, asked, new, stream=True),
            "whole": lambda asked: server_round(server.url, asked, new, stream=False),
        }
        found: dict[str, list[tuple[float, list[float]]]] = {way: [] for way in ways}
        for round_ in range(chosen.repeat + 1):
            for way, run in ways.items():
                result = run(prompts(model, count, chosen.prompt, chance))
                if round_:  # the first one warms up
                    found[way].append(result)
    engine = statistics.median(rate for rate, _ in found["engine"])
    rows = []
    for way, results in found.items():
        rates, first = [rate for rate, _ in results], [1000 * one for _, firsts in results for one in firsts]
        rows.append({
            "model": name, "way": way, "rates": rates, "median": statistics.median(rates),
            "share": statistics.median(rates) / engine, "first_p50_ms": percentile(first, 0.5),
            "first_p95_ms": percentile(first, 0.95),
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|--:|--:|--:|--:|"]
    lines += [
        f"| {row['model']} | {row['way']} | {row['median']:,.0f} | {row['share']:.0%} | {row['first_p50_ms']:,.0f} | "
        f"{row['first_p95_ms']:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="folder for the random model")
    parser.add_argument("--shape", choices=SHAPES, default="110m")
    parser.add_argument("--format", default="Q8_0", help="F32, F16, BF16, Q8_0, Q4_0 or Q4_K_M")
    parser.add_argument("-r", "--repeat", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens of each answer")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    path = chosen.work / f"{chosen.shape}-{chosen.format}.gguf"
    if not path.exists():
        write_gguf(SHAPES[chosen.shape], path, chosen.format)
    load = os.getloadavg()[0]
    rows = [*measure("bundled, 260 k", None, chosen), *measure(path.stem, path, chosen)]
    print(f"{chosen.concurrency} at once, {chosen.prompt} tokens in, {chosen.new} out, {chosen.repeat} rounds; "
          f"load before: {load:.1f}, after: {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(table(rows))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
