"""A training step of Paddock beside its peers' on this machine, in one run: tokens per second and peak memory.

    python benchmarks/training.py --work bench-training -r 5
    python benchmarks/training.py --work bench-training --peers paddock,transformers --precision float32

Everyone starts from the same random LLaMA, reads the same batches and takes the same AdamW steps, each in a process of
its own that waits while another works; they take turns, round by round, and medians are compared. The first steps,
with what compiling takes, are untimed and told apart. Losses must agree, or a row says so. Beside wall time there is
the processor time of all threads, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import environments
import shapes
from engines import Entry, Failed, Process, interpreter

LIMIT = 3600.0
WARM = 2  # untimed steps
NEAR = 0.05  # nats by which a loss may differ from ours at any step


def _entry(engine: str, way: str, environment: str | None, **options: Any) -> Entry:
    return Entry("training", engine, way, "bf16", environment, f"{engine}_training", options)


ENTRIES = (
    _entry("paddock", "", None),
    _entry("transformers", "eager", "transformers"),
    _entry("transformers", "compiled", "transformers", compiled=True),
    _entry("litgpt", "eager", "litgpt", compiled=False),
    _entry("litgpt", "compiled", "litgpt", compiled=True),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures training steps of Paddock and its peers, taking turns.")
    parser.add_argument("--work", type=Path, default=Path("bench-training"), help="environments, model, results")
    parser.add_argument("--shape", choices=shapes.SHAPES, default="30m")
    parser.add_argument("--peers", help="commas between: " + ", ".join(dict.fromkeys(e.engine for e in ENTRIES)))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-s", "--steps", type=int, default=3, help="of a turn")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    engines = asked.peers.split(",") if asked.peers else [entry.engine for entry in ENTRIES]
    asked.entries = [entry for entry in ENTRIES if entry.engine in engines]
    if unknown := set(engines) - {entry.engine for entry in ENTRIES}:
        parser.error(f"no {', '.join(sorted(unknown))}")
    return asked


class Run:
    """What each entry gave, step by step, and who failed."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.found: dict[Entry, dict[str, Any]] = {}
        self.failed: dict[Entry, str] = {}
        self.alive: dict[Entry, Process] = {}

    def start(self, model: Path) -> None:
        """Everyone loaded and warm, one after another."""
        self.start_some(model, self.asked.entries)

    def start_some(self, model: Path, entries: list[Entry]) -> None:
        logs = self.asked.work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            try:
                self._start(entry, model, logs / f"{entry.name.replace(' ', '-')}.log")
            except (Failed, environments.NotInstalled, OSError) as why:
                self.fail(entry, str(why))

    def _start(self, entry: Entry, model: Path, log: Path) -> None:
        asked, pythons = self.asked, {}
        if entry.environment:
            pythons[entry.environment] = environments.python_of(entry.environment, asked.work)
        process = self.alive[entry] = Process(entry, interpreter(entry, pythons), asked.threads, log)
        sizes = {"rows": asked.rows, "tokens": asked.tokens, "vocabulary": shapes.SHAPES[asked.shape].vocabulary}
        common = {"path": str(model), "threads": asked.threads, "precision": asked.precision}
        loaded = process.ask(LIMIT, do="load", **common, **sizes, **entry.options)
        warm = process.ask(LIMIT, do="train", first=0, count=WARM)
        tell(f"{entry.name}: {loaded['version']}, first step {warm['each'][0]:.1f} s")
        facts = {"version": loaded["version"], "first": warm["each"][0], "losses": warm["losses"]}
        self.found[entry] = {**facts, "each": [], "used": [], "peak": warm["memory"]["peak"]}

    def fail(self, entry: Entry, why: str) -> None:
        self.failed[entry] = why
        tell(f"{entry.name}: {why}")
        if entry in self.alive:
            self.alive.pop(entry).close()

    def measure(self) -> None:
        """Everyone's turn in every round, another first each time."""
        for number in range(self.asked.rounds):
            entries = [entry for entry in self.asked.entries if entry in self.alive]
            turn = number % max(1, len(entries))
            for entry in entries[turn:] + entries[:turn]:
                median = self.take_turn(entry, WARM + number * self.asked.steps)
                if median is not None:
                    tell(f"round {number + 1}/{self.asked.rounds}, {entry.name}: {median:.2f} s")

    def take_turn(self, entry: Entry, first: int) -> float | None:
        """Steps from number `first` on, and the median of their seconds; None for who failed."""
        try:
            answer = self.alive[entry].ask(LIMIT, do="train", first=first, count=self.asked.steps)
        except Failed as why:
            self.fail(entry, str(why))
            return None
        own = self.found[entry]
        own["peak"] = max(own["peak"], answer["memory"]["peak"])
        for name in ("each", "used", "losses"):
            own[name] += answer[name]
        return statistics.median(answer["each"])

    def close(self) -> None:
        for process in self.alive.values():
            process.close()

    def rows(self) -> list[dict[str, Any]]:
        tokens = self.asked.rows * self.asked.tokens
        ours = next((own for entry, own in self.found.items() if entry.ours and own["each"]), None)
        rows = []
        for entry in self.asked.entries:
            own = self.found.get(entry)
            if own is None or not own["each"]:
                rows.append({"name": entry.name, "failed": self.failed.get(entry, "not measured")})
                continue
            row: dict[str, Any] = {
                "name": entry.name,
                "version": own["version"],
                "tokens_per_second": tokens / statistics.median(own["each"]),
                "processor_seconds": statistics.median(own["used"]),
                "first_step_seconds": own["first"],
                "peak_mb": own["peak"] / 1e6,
                "samples": {name: own[name] for name in ("each", "used", "losses")},
            }
            if ours is not None:
                row["ratio"] = statistics.median(own["each"]) / statistics.median(ours["each"])
                row["processor_ratio"] = statistics.median(own["used"]) / statistics.median(ours["used"])
                pairs = zip(own["losses"], ours["losses"], strict=False)
                row["loss_difference"] = max(abs(one - other) for one, other in pairs)
            rows.append(row)
        return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| | tokens/s | ours is x faster | processor s a step | x less | peak MB | first step s | loss differs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['name']} | {row['failed']} | | | | | | |")
            continue
        differs = row.get("loss_difference", float("nan"))
        mark = " (another model?)" if differs > NEAR else ""
        lines.append(
            f"| {row['name']} | {row['tokens_per_second']:.0f} | {row.get('ratio', float('nan')):.2f} "
            f"| {row['processor_seconds']:.2f} | {row.get('processor_ratio', float('nan')):.2f} | {row['peak_mb']:.0f} "
            f"| {row['first_step_seconds']:.1f} | {differs:.4f}{mark} |"
        )
    return "\n".join(lines)


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def report(run: Run, name: str) -> None:
    """Prints the table and writes the record."""
    rows = run.rows()
    print(table(rows))
    path = run.asked.work / "results" / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {key: str(value) for key, value in vars(run.asked).items() if key != "entries"}
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    tell(f"the record is {path}")


def main() -> None:
    asked = parse()
    model = shapes.make(asked.shape, asked.work / "models", ["bf16"])["bf16"].resolve()
    run = Run(asked)
    try:
        run.start(model)
        run.measure()
    finally:
        run.close()
    report(run, "training")


if __name__ == "__main__":
    main()
