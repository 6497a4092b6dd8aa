"""The tests of `paddock bench`, in llama-bench's shape: a prompt read, tokens written, many at once.

    pp512           512 tokens read by the runner, nothing sampled
    tg128           128 tokens one by one, ids drawn beforehand, nothing sampled; `sampled` is the same through the
                    engine with greedy sampling
    pp512@d4096     the same behind 4096 tokens that are in the cache already
    4x(128+128)     4 requests of 128 random ids in and 128 tokens out at once, through the engine

Ids are drawn at random, so no tokeniser is timed. Each test runs once before it counts.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from paddock.bench.machine import Machine
from paddock.bench.work import Work
from paddock.engine.blocks import BLOCK, blocks_for
from paddock.engine.engine import Engine
from paddock.engine.language_model import LanguageModel
from paddock.engine.memory import PIECE, check_fits, memory_for
from paddock.engine.planning import check_generates
from paddock.engine.request import Request
from paddock.engine.runner import Rows
from paddock.engine.runners import SEQUENCES, engine_for
from paddock.engine.sampling import Sampling
from paddock.errors import ContextLengthError, UnsupportedError, UsageError

KEY = -1  # the one sequence that the runner is given directly


@dataclass(frozen=True)
class Case:
    """One row's question. prompt or new is 0 where the test has no such part; crowd: requests at once."""

    prompt: int
    new: int
    depth: int = 0
    crowd: int = 0

    @property
    def name(self) -> str:
        if self.crowd:
            return f"{self.crowd}x({self.prompt}+{self.new})"
        return (f"pp{self.prompt}" if self.prompt else f"tg{self.new}") + (f"@d{self.depth}" if self.depth else "")

    @property
    def length(self) -> int:
        """Tokens of the longest text."""
        return self.depth + self.prompt + self.new


@dataclass(frozen=True)
class Latency:
    """Of the requests of one test: seconds to the first token and between tokens. p99 is the largest of fewer than a
    hundred."""

    mean_first: float
    median_first: float
    p99_first: float
    mean_between: float
    median_between: float
    p99_between: float


@dataclass(frozen=True)
class Row:
    """What a test gave. seconds: of each repeat. sampled: tokens per second through the engine, sampling included, of
    each repeat (tests that write). bandwidth_used: bytes that must be read over what the machine can read, of the
    median (tests that write). rate_used: multiply-adds over the machine's (tests that read)."""

    test: Case
    seconds: tuple[float, ...]
    sampled: tuple[float, ...] = ()
    bandwidth_used: float | None = None
    rate_used: float | None = None
    latency: Latency | None = None

    @property
    def tokens(self) -> int:
        """Those counted: read ones where the test reads, written ones otherwise."""
        return self.test.crowd * self.test.new or self.test.prompt or self.test.new

    @property
    def rates(self) -> tuple[float, ...]:
        """Tokens per second of each repeat."""
        return tuple(self.tokens / seconds for seconds in self.seconds)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Plan:
    """Which tests: every prompt and every count of new tokens at every depth, then the crowds with the first of each.
    A prompt or new of 0 leaves that kind out."""

    prompts: Sequence[int] = (512,)
    news: Sequence[int] = (128,)
    depths: Sequence[int] = (0,)
    crowds: Sequence[int] = ()
    repeats: int = 5
    seed: int = 0
    tests: tuple[Case, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, values, least in (
            ("prompt", self.prompts, 0),
            ("new", self.news, 0),
            ("depth", self.depths, 0),
            ("concurrency", self.crowds, 1),
            ("repeats", (self.repeats,), 1),
        ):
            for value in values:
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    raise UsageError(f"{name} is {value!r}", expected=f"a whole number from {least} on")
        found = []
        for depth in self.depths or (0,):
            found += [Case(prompt, 0, depth) for prompt in self.prompts if prompt]
            found += [Case(0, new, depth) for new in self.news if new]
        if self.crowds and not (self.prompts and self.prompts[0] and self.news and self.news[0]):
            raise UsageError("concurrency needs a prompt and new tokens", fix="give both, not 0")
        found += [Case(self.prompts[0], self.news[0], 0, crowd) for crowd in self.crowds]
        if not found:
            raise UsageError("there is nothing to measure", fix="give a prompt or new tokens, not 0")
        object.__setattr__(self, "tests", tuple(found))


def bench(model: LanguageModel, plan: Plan, machine: Machine | None = None) -> Iterator[Row]:
    """A row for each test of `plan`, as it is done. With `machine`, rows say how much of it was used.

    Raises what `check` does, and ResourceError where the cache does not fit.
    """
    check(model, plan)
    return Bench(model, plan, machine).rows()


def check(model: LanguageModel, plan: Plan) -> None:
    """Refuses what cannot be measured: UnsupportedError for models that do not write or need a source text or a prompt
    of a certain form, ContextLengthError for tests longer than the model's context."""
    architecture = model.architecture
    check_generates(architecture)
    if architecture.encoder is not None:
        raise UnsupportedError(f"a {architecture.family} encoder-decoder is not measured: it reads a source text")
    if not architecture.can_cut_prompt:
        raise UnsupportedError(f"a {architecture.family} prompt is more than ids drawn at random")
    longest, context = max(test.length for test in plan.tests), architecture.context
    if context is not None and longest > context:
        raise ContextLengthError(
            f"a test has {longest} tokens",
            expected=f"at most {context}, this model's context",
            fix="give a smaller prompt, depth or count of new tokens",
        )


class Bench:
    """One model being measured, on an engine of its own that shares no beginnings of prompts."""

    def __init__(self, model: LanguageModel, plan: Plan, machine: Machine | None) -> None:
        self.plan, self.machine = plan, machine
        self.work = Work.of(model.model)
        self.vocabulary = model.architecture.vocabulary
        sequences = max(SEQUENCES, *plan.crowds, 0)
        self.engine: Engine = engine_for(model.model, sequences=sequences, prefix_cache=False)
        self.runner = self.engine.runner
        for test in plan.tests:
            check_fits(test.length, self.runner.blocks, self.runner.block_bytes)
        self._random = random.Random(plan.seed)  # noqa: S311 - ids to read, no secrets

    def rows(self) -> Iterator[Row]:
        for test in self.plan.tests:
            if test.crowd:
                yield self._crowded(test)
            elif test.prompt:
                yield self._read(test)
            else:
                yield self._written(test)

    @memory_for("for this test")
    def _read(self, test: Case) -> Row:
        self._feed(0, test.depth)
        seconds = self._repeated(lambda: self._feed(test.depth, test.prompt))
        used = None
        if self.machine is not None and (rate := self.machine.rate(self.work.kind)):
            used = self.work.reading(test.prompt, test.depth) / statistics.median(seconds) / rate
        return Row(test, seconds, rate_used=used)

    @memory_for("for this test")
    def _written(self, test: Case) -> Row:
        self._feed(0, test.depth)
        seconds = self._repeated(lambda: self._step(test.depth, test.new))
        sampled = [self._sampled(test) for _ in range(self.plan.repeats)]
        used = None
        if self.machine is not None:
            seen = test.depth + (test.new + 1) / 2
            moved = self.work.read_bytes + seen * self.runner.block_bytes / BLOCK
            used = moved * test.new / statistics.median(seconds) / self.machine.read
        return Row(test, seconds, tuple(sampled), bandwidth_used=used)

    @memory_for("for this test")
    def _crowded(self, test: Case) -> Row:
        self._crowd(test)
        runs = [self._crowd(test) for _ in range(self.plan.repeats)]
        firsts = sorted(first for _, times in runs for first, _ in times)
        gaps = sorted(gap for _, times in runs for _, between in times for gap in between)
        latency = Latency(*_spread(firsts), *_spread(gaps or [0.0]))
        return Row(test, tuple(seconds for seconds, _ in runs), latency=latency)

    def _repeated(self, work: Callable[[], None]) -> tuple[float, ...]:
        work()
        times = []
        for _ in range(self.plan.repeats):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return tuple(times)

    def _feed(self, start: int, count: int) -> None:
        """Reads `count` random ids as a prompt, from slot `start` on, in pieces as the engine would."""
        stop, ids = start + count, self._ids(count)
        for at in range(start, stop, PIECE):
            piece = ids[at - start : at - start + PIECE]
            end = at + len(piece)
            table = range(blocks_for(end))
            self.runner.run([Rows(KEY, piece, at, table, stop, int(end == stop), stop)])

    def _step(self, start: int, count: int) -> None:
        """Reads `count` random ids one by one, as if they were being written."""
        for at, id in enumerate(self._ids(count), start):
            table = range(blocks_for(at + 1))
            self.runner.run([Rows(KEY, [id], at, table, start, 1, start + count)])

    def _sampled(self, test: Case) -> float:
        """Tokens per second of `new` tokens after the first, through the engine, greedy."""
        _, (times,) = self._answered(1, max(test.depth, 1), test.new + 1)
        return test.new / (times[-1] - times[0])

    def _crowd(self, test: Case) -> tuple[float, list[tuple[float, list[float]]]]:
        """Seconds for all, and of each request the seconds to its first token and from each token to the next."""
        started, every = self._answered(test.crowd, test.prompt, test.new)
        gaps = [[later - sooner for sooner, later in pairwise(times)] for times in every]
        firsts = [times[0] - started for times in every]
        return max(times[-1] for times in every) - started, list(zip(firsts, gaps, strict=True))

    def _answered(self, crowd: int, prompt: int, new: int) -> tuple[float, list[list[float]]]:
        """When `crowd` requests were submitted, and when each of their tokens came."""
        greedy = Sampling(temperature=0)
        requests = [Request(tuple(self._ids(prompt)), new, greedy, salt=None) for _ in range(crowd)]
        started = time.perf_counter()
        tasks = [self.engine.task(request) for request in requests]
        every: list[list[float]] = [[] for _ in tasks]
        for task in tasks:
            self.engine.submit(task)
        while self.engine.step():
            now = time.perf_counter()
            for task, times in zip(tasks, every, strict=True):
                times += [now] * len(task.events)
                task.events.clear()
        for task, times in zip(tasks, every, strict=True):
            if task.failure is not None:
                raise task.failure
            assert len(times) == new, "a request without ends writes as many tokens as it was asked for"
        return started, every

    def _ids(self, count: int) -> list[int]:
        return self._random.choices(range(self.vocabulary), k=count)


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Mean, median and 99th percentile of sorted values."""
    return statistics.fmean(values), statistics.median(values), values[min(len(values) - 1, len(values) * 99 // 100)]
