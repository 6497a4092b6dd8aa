"""Mixed traffic on one server for a long time: every text right, and nothing that grows.

    python tests/serve/soak.py --minutes 10

A round is 400 requests of all kinds by 24 clients at once: streamed, whole, several choices, vectors, tokens, refused
ones, clients that leave at any moment and clients that do not read. After each the server comes to rest, and is looked
at: memory, open files, threads, requests and cache. A line of JSON is printed last; the exit code says whether all of
it held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from loadgen import Ask, Client, Result
from operating import Process

from paddock.serve.run import THREADS

ROUND, CLIENTS, KNOWN = 400, 24, 48
WARM = 0.1  # of the time: caches fill, allocators settle
GROWTH = 1.0  # MiB of memory for 1,000 requests, the upper bound of the slope at 95 %
SPREAD = 2  # files that may be open more or less at rest
OTHERS = 16  # threads besides those beside the loop: the worker's, the kernels', libraries'
STUDENT = 1.645  # one-sided 95 % for many degrees of freedom
STORY = "Once upon a time there was a little girl named Lily She had a big red ball and her dog ran very fast"


@dataclass(frozen=True)
class Rest:
    """The server between two rounds. memory: MiB resident."""

    requests: int
    memory: float
    files: int
    threads: int


def chat(number: int) -> dict[str, object]:
    chance = random.Random(number)
    text = " ".join(chance.choices(STORY.split(), k=chance.randrange(3, 30)))
    drawn = {"temperature": 1.0, "top_k": 40, "seed": number} if number % 2 else {"temperature": 0}
    length = chance.randrange(4, 120)
    return {"messages": [{"role": "user", "content": text}], "max_tokens": length, "min_tokens": length, **drawn}


def next_ask(chance: random.Random) -> tuple[Ask, int | None]:
    """A request, and whose text it must get (None: nobody's)."""
    number = chance.randrange(KNOWN)
    body = chat(number)
    kind = chance.random()
    if kind < 0.35:
        return Ask({**body, "stream": True}), number
    if kind < 0.55:
        return Ask(body), number
    if kind < 0.65:
        return Ask({**body, "n": 4, "stream": chance.random() < 0.5}), number
    if kind < 0.73:
        texts = chance.choices(STORY.split(), k=chance.randrange(1, 60))
        return Ask({"input": texts, "encoding_format": "base64"}, "/v1/embeddings"), None
    if kind < 0.78:
        return Ask({"prompt": STORY, "return_token_strs": True}, "/tokenize"), None
    if kind < 0.83:
        wrong = chance.choice(({"messages": []}, {**body, "max_tokens": 9999}, {**body, "model": "gpt-9"}))
        return Ask(wrong), None
    if kind < 0.99:
        wide = {"stream": chance.random() < 0.6, "n": chance.choice((1, 4))}
        return Ask({**body, **wide}, leave=chance.uniform(0, 0.6)), None
    return Ask({**body, "stream": True, "n": 4, "logprobs": True, "top_logprobs": 20}, stalled=True, leave=3.0), None


class Soak:
    """One run on one server."""

    def __init__(self, server: Process, seed: int) -> None:
        self.server, self.chance = server, random.Random(seed)
        self.known: list[str] = []
        self.rests: list[Rest] = []
        self.requests = 0
        self.wrong: list[str] = []

    async def run(self, seconds: float) -> None:
        for number in range(KNOWN):  # alone
            result = await Client(self.server.url, Ask(chat(number)), time.monotonic()).run()
            self.known.append(result.text)
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self.wrong) < 20:
            asks = [next_ask(self.chance) for _ in range(ROUND)]
            await asyncio.gather(*(self._client(asks) for _ in range(CLIENTS)))
            self.rests.append(await self._rest())
            print(self.rests[-1], flush=True)

    async def _client(self, asks: list[tuple[Ask, int | None]]) -> None:
        while asks:
            asked, number = asks.pop()
            result = await Client(self.server.url, asked, time.monotonic()).run()
            self.requests += 1
            if complaint := self._complaint(asked, number, result):
                self.wrong.append(complaint)
                print("WRONG", complaint, flush=True)

    def _complaint(self, asked: Ask, number: int | None, result: Result) -> str | None:
        if number is not None and (not result.ended or result.text != self.known[number]):
            return f"{asked}: {result}"
        if result.status >= 500 or (result.broken and asked.leave is None):
            return f"{asked}: {result}"
        return None

    async def _rest(self) -> Rest:
        """Waits until nothing runs; what is not at rest after a while is wrong."""
        for _ in range(400):
            if not any(self._gauges().values()):
                break
            await asyncio.sleep(0.05)
        else:
            self.wrong.append(f"not at rest: {self._gauges()}")
        await asyncio.sleep(0.2)
        place = Path(f"/proc/{self.server.process.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        memory = int(status["VmRSS"].split()[0]) / 1024
        return Rest(self.requests, memory, len(list((place / "fd").iterdir())), int(status["Threads"]))

    def _gauges(self) -> dict[str, float]:
        """Requests that run or wait, and the part of the cache that they hold."""
        names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        lines = httpx.get(f"{self.server.url}/metrics", timeout=30).text.splitlines()
        found = [line for line in lines if not line.startswith("#") and any(name + "{" in line for name in names)]
        assert len(found) >= len(names), lines[:20]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in found}


def slope(rests: list[Rest]) -> tuple[float, float]:
    """MiB for 1,000 requests by least squares, and the upper bound of that at 95 %."""
    xs, ys = [rest.requests / 1000 for rest in rests], [rest.memory for rest in rests]
    count, mean_x, mean_y = len(xs), sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if count < 3 or not spread:
        return math.nan, math.nan
    rate = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - mean_y - rate * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return rate, rate + STUDENT * math.sqrt(rest / (count - 2) / spread)


def judged(soak: Soak, code: int) -> dict[str, object]:
    """The figures, and what of them does not hold."""
    rests = soak.rests[max(1, int(WARM * len(soak.rests))) :]
    rate, most = slope(rests)
    found: dict[str, object] = {"requests": soak.requests, "rounds": len(soak.rests), "mib_per_1000": rate}
    found |= {"mib_per_1000_at_most": most, "wrong": len(soak.wrong), "exit": code}
    failed = [
        name for name, holds in (("texts", not soak.wrong), ("memory", most <= GROWTH), ("end", code == 0)) if not holds
    ]
    for name in ("files", "threads"):
        counts = [getattr(rest, name) for rest in rests]
        found[name] = [min(counts), max(counts)]
        # Threads beside the loop come as they are needed, up to their number; files go when a request does.
        if (max(counts) > THREADS + OTHERS) if name == "threads" else abs(counts[-1] - counts[0]) > SPREAD:
            failed.append(name)
    return {**found, "first": asdict(soak.rests[0]), "last": asdict(soak.rests[-1]), "failed": failed}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with Process("--port", "0", "--template", "alpaca", "--parallel", "32") as server:
        soak = Soak(server, chosen.seed)
        asyncio.run(soak.run(60 * chosen.minutes))
        server.signal()
        code = server.end()
    figures = judged(soak, code)
    print(json.dumps(figures))
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
