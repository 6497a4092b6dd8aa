"""The run's conditions, its rows with their ratios, and the table."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from engines import Entry

ROOT = Path(__file__).resolve().parent.parent
SMALLER_IS_BETTER = ("seconds", "MB")


def about(asked: argparse.Namespace) -> dict[str, Any]:
    """Machine, commit, date and what was asked."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "cpu": _cpu("model name"),
        "flags": [flag for flag in _cpu("flags").split() if flag.startswith(("avx", "amx", "fma", "f16c"))],
        "cores": os.cpu_count(),
        "threads": asked.threads,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": os.getloadavg()[0],
        "machine": _limits(asked.threads),
        "python": platform.python_version(),
        "model": asked.subject.name,
        "prompt": asked.prompt,
        "new": asked.new,
        "crowd_tokens": asked.crowd_tokens,
        "rounds": asked.rounds,
    }


def _limits(threads: int) -> dict[str, Any]:
    """What Paddock sees the machine do at most, with as many threads."""
    os.environ["PADDOCK_THREADS"] = str(threads)
    try:
        from paddock.bench.machine import measure

        found = measure()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    return {"read_gb_s": found.read / 1e9, "gmac_s": {k: v / 1e9 for k, v in found.multiply_adds.items()}}


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return done.stdout.strip()


def _cpu(name: str) -> str:
    with open("/proc/cpuinfo") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def rows(samples: dict[Entry, dict[str, list[float]]], failed: dict[Entry, str]) -> list[dict[str, Any]]:
    """A row per entry and test, in the order measured; ratios are to the best of the group in the same test."""
    found: list[dict[str, Any]] = []
    tests = {(entry.group, test): None for entry, by_test in samples.items() for test in by_test}
    for group, test in tests:
        entries = {
            entry: by_test[test] for entry, by_test in samples.items() if entry.group == group and test in by_test
        }
        ours = _best(test, [statistics.median(v) for e, v in entries.items() if e.ours])
        peer = _best(test, [statistics.median(v) for e, v in entries.items() if not e.ours])
        for entry, values in entries.items():
            middle = statistics.median(values)
            found.append(
                {
                    "group": group,
                    "test": test,
                    "engine": entry.engine,
                    "weights": entry.weights,
                    "median": middle,
                    "min": min(values),
                    "max": max(values),
                    "of_paddock": middle / ours if ours else None,
                    "of_best_peer": middle / peer if peer else None,
                    "samples": values,
                }
            )
    for entry, why in failed.items():
        found.append({"group": entry.group, "engine": entry.engine, "weights": entry.weights, "failed": why})
    return found


def _best(test: str, values: list[float]) -> float | None:
    if not values:
        return None
    return min(values) if any(unit in test for unit in SMALLER_IS_BETTER) else max(values)


HEADER = ("group", "test", "engine", "weights", "median", "min", "max", "/ paddock", "/ best peer")


def table(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Markdown: tokens per second, unless the test names another unit."""
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['threads']} threads; "
        f"model {about['model']}; {about['rounds']} rounds; commit {about['commit']}; {about['date']}; "
        f"load before {about['load_before']:.2f}; {_machine(about['machine'])}",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---|---|---|---" + "|--:" * (len(HEADER) - 4) + "|",
    ]
    for row in rows:
        if "failed" not in row:
            numbers = [_number(row["median"]), _number(row["min"]), _number(row["max"])]
            ratios = ["" if row[k] is None else f"{row[k]:.2f}" for k in ("of_paddock", "of_best_peer")]
            cells = [row["group"], row["test"], row["engine"], row["weights"], *numbers, *ratios]
            lines.append("| " + " | ".join(cells) + " |")
    lines += [f"- {r['group']}, {r['engine']} {r['weights']}: **failed**: {r['failed']}" for r in rows if "failed" in r]
    return "\n".join(lines)


def _machine(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"machine not measured: {found['failed']}"
    rates = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in found["gmac_s"].items())
    return f"reads {found['read_gb_s']:.1f} GB/s; billion multiply-adds per second {rates}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
