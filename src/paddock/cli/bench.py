"""`paddock bench`: a line per test as it is done, or JSON in llama-bench's names and some of our own."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from paddock import kernels
from paddock.bench import machine
from paddock.bench.machine import Machine
from paddock.bench.run import Plan, Row, check
from paddock.bench.run import bench as measure
from paddock.bench.work import Work
from paddock.catalog.weighing import files_of, stored_as
from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.engine.language_model import LanguageModel
from paddock.errors import UsageError
from paddock.kernels.native import THREADS

DEFAULTS = {"prompt": (512,), "new": (128,), "depth": (0,), "concurrency": ()}
HEADER = ("model", "size", "params", "threads", "test", "t/s", "median", "sampled", "used")
RIGHT = (1, 2, 3, 5, 6, 7, 8)
RATE_WIDTH, USED_WIDTH = 18, 14


@dataclass(frozen=True)
class Asked:
    """What a user asked `bench` for. counts: as typed, by name; form: "", "json" or "jsonl"."""

    loading: Loading
    counts: Mapping[str, str | None]
    repeat: int
    threads: int | None
    form: str


def bench(asked: Asked) -> None:
    counts = {name: _numbers(name, text) for name, text in asked.counts.items()}
    plan = Plan(counts["prompt"], counts["new"], counts["depth"], counts["concurrency"], asked.repeat)
    if asked.threads is not None:
        if asked.threads < 1:
            raise UsageError(f"--threads {asked.threads}", expected="at least 1")
        os.environ[THREADS] = str(asked.threads)
        torch.set_num_threads(asked.threads)
    model, _ = load(asked.loading)
    check(model, plan)
    found = _machine(model)
    Report(model, plan, found, asked.form).show(measure(model, plan, found))


def _numbers(name: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return DEFAULTS[name]
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--{name} {text}", expected="whole numbers, commas between")
    return tuple(map(int, words))


def _machine(model: LanguageModel) -> Machine:
    with output.waiting("measuring this machine"):
        return machine.measure(model.device)


class Report:
    """Prints rows as they come; what was measured before Ctrl-C stays."""

    def __init__(self, model: LanguageModel, plan: Plan, machine: Machine, form: str) -> None:
        self.model, self.plan, self.machine, self.form = model, plan, machine, form
        self.work = Work.of(model.model)
        path = model.checkpoint.path
        types = stored_as(model.checkpoint)
        self.about = {
            "model_filename": str(path),
            "model_type": f"{model.architecture.family} {next(iter(types), '')}".strip(),
            "model_size": sum(files_of(model.checkpoint).values()),
            "model_n_params": self.work.parameters,
            "memory_size": self.work.weight_bytes,
            "kernels": kernels.chosen(),
            "device": str(model.device),
            "n_threads": machine.threads,
        }

    def show(self, rows: Iterator[Row]) -> None:
        done: list[Row] = []
        if not self.form:
            output.result(self._head())
        try:
            tests = iter(self.plan.tests)
            while (test := next(tests, None)) is not None:
                with output.waiting(f"measuring {test.name}"):
                    row = next(rows)
                done.append(row)
                if self.form == "jsonl":
                    output.as_json(self._record(row))
                elif not self.form:
                    output.piece(self._line(row) + "\n")
        finally:
            if self.form == "json":
                record = {**self.about, "machine": self.machine, "tests": [self._record(row, {}) for row in done]}
                output.as_json(record)

    def _head(self) -> str:
        machine = self.machine
        rates = ", ".join(f"{kind} {rate / 1e9:,.0f}" for kind, rate in machine.multiply_adds.items())
        lines = [
            f"kernels: {self.about['kernels']}",
            f"machine: reads {machine.read / 1e9:.1f} GB/s; billion multiply-adds per second: {rates} "
            f"({machine.source}, {machine.threads} threads)",
            "",
            self._row(HEADER),
        ]
        return "\n".join(lines)

    def _line(self, row: Row) -> str:
        used = ""
        if row.bandwidth_used is not None:
            in_memory = row.bandwidth_used <= 1  # else the model stays in the processor's caches
            used = f"{row.bandwidth_used:.0%} of reading" if in_memory else "from caches"
        elif row.rate_used is not None:
            used = f"{row.rate_used:.0%} of {self.work.kind}"
        about = self.about
        return self._row(
            (
                self.model.checkpoint.path.name,
                output.size(float(str(about["model_size"]))),
                output.number(self.work.parameters),
                str(self.machine.threads),
                row.test.name,
                f"{row.mean:,.2f} ± {row.deviation:,.2f}",
                f"{row.median:,.2f}",
                f"{statistics.median(row.sampled):,.2f}" if row.sampled else "",
                used,
            )
        )

    def _row(self, cells: tuple[str, ...]) -> str:
        """Columns as wide as the widest that can come: rows are printed before the last is known."""
        tests = max(len("test"), *(len(test.name) for test in self.plan.tests))
        name = max(len("model"), output.cells(self.model.checkpoint.path.name))
        widths = (name, 9, 9, 7, tests, RATE_WIDTH, 10, 10, USED_WIDTH)
        padded = []
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            space = " " * max(width - output.cells(cell), 0)
            padded.append(space + cell if column in RIGHT else cell + space)
        return "  ".join(padded).rstrip()

    def _record(self, row: Row, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        test, nanoseconds = row.test, [round(seconds * 1e9) for seconds in row.seconds]
        record = {
            **(self.about if about is None else about),
            "test": test.name,
            "n_prompt": test.prompt,
            "n_gen": test.new,
            "n_depth": test.depth,
            "concurrency": test.crowd or 1,
            "avg_ns": round(statistics.fmean(nanoseconds)),
            "stddev_ns": round(statistics.stdev(nanoseconds)) if len(nanoseconds) > 1 else 0,
            "avg_ts": row.mean,
            "stddev_ts": row.deviation,
            "median_ts": row.median,
            "min_ts": min(row.rates),
            "samples_ns": nanoseconds,
            "samples_ts": row.rates,
            "sampled_ts": row.sampled or None,
            "bandwidth_used": row.bandwidth_used,
            "rate_used": row.rate_used,
        }
        return record if row.latency is None else record | _latency(row)


def _latency(row: Row) -> dict[str, float]:
    """vLLM's names: time to first token, time between tokens, throughputs."""
    found, test = row.latency, row.test
    assert found is not None
    return {
        "request_throughput": row.median / test.new,
        "output_throughput": row.median,
        "total_token_throughput": row.median * (test.prompt + test.new) / test.new,
        "mean_ttft_ms": found.mean_first * 1e3,
        "median_ttft_ms": found.median_first * 1e3,
        "p99_ttft_ms": found.p99_first * 1e3,
        "mean_itl_ms": found.mean_between * 1e3,
        "median_itl_ms": found.median_between * 1e3,
        "p99_itl_ms": found.p99_between * 1e3,
    }
