"""One task, every method of fine-tuning: what is trained, what it costs, what is learned.

    python benchmarks/adapter_methods.py DATA [--steps 80] [--rates R ...] [--out FOLDER] [--only NAME ...]

DATA holds `alpaca_en_demo.json`. Each method teaches the bundled model to answer, with the same rows in the same order,
in a process of its own, at each of the rates; the row is that of the best. Prints a table in Markdown, and writes
`methods.json` beside the runs. Memory is the process's peak, most of which is PyTorch's own for a model this small.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "full, top 2 layers": {"name": "full", "layers": 2},
    "lora, rank 8": {"name": "lora", "rank": 8},
    "qlora, rank 8": {"name": "qlora", "rank": 8},
    "adapter-v1": {"name": "adapter-v1"},
    "adapter-v2": {"name": "adapter-v2"},
    "prefix, 20 tokens": {"name": "prefix", "tokens": 20},
    "prompt, 20 tokens": {"name": "prompt", "tokens": 20},
    "ia3": {"name": "ia3"},
    "bitfit": {"name": "bitfit"},
}
HEAD = ("method", "trained", "share", "held-out loss", "rate", "ms a step", "peak memory", "on disk")


@dataclass(frozen=True)
class Row:
    """What a method came to. loss: nats per token of held-out answers. seconds: of a step, the median. memory: bytes.
    size: of the folder's weights."""

    name: str
    trained: int
    parameters: int
    loss: float
    rate: float
    seconds: float
    memory: int
    size: int


def recipe(method: dict[str, Any], rate: float, steps: int, data: Path) -> str:
    values = {
        "stage": "finetune",
        "task": {"name": "chat"},
        "template": "alpaca",
        "method": method,
        "data": {
            "files": ["alpaca_en_demo.json"],
            "root": str(data),
            "length": 256,
            "too_long": "drop",
            "validation": 0.1,
        },
        "training": {
            "steps": steps,
            "batch": 4,
            "evaluate_every": steps,
            "checkpoints": "none",
            "precision": "float32",
            "optimizer": {"learning_rate": rate},
            "schedule": {"warmup": steps // 20},
        },
    }
    return json.dumps(values)  # which is YAML


def run(name: str, method: dict[str, Any], rate: float, steps: int, data: Path, out: Path) -> Row | str:
    """One run; a refusal's words where the model cannot have the method."""
    folder = out / f"{name.replace(', ', '-').replace(' ', '-')}-{rate:g}"
    file = folder.with_name(folder.name + ".yaml")
    file.write_text(recipe(method, rate, steps, data), encoding="utf-8")
    command = [sys.executable, "-m", "paddock", "finetune", str(file), "-o", str(folder)]
    planned = subprocess.run([*command, "--dry-run", "--json"], capture_output=True, text=True, check=False)
    if planned.returncode:
        return next(line for line in planned.stderr.splitlines() if line.startswith("error: ")).removeprefix("error: ")
    (told,) = json.loads(planned.stdout)
    subprocess.run(command, capture_output=True, check=True)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    weights = folder / "final" / ("model.safetensors" if method["name"] == "full" else "adapter_model.safetensors")
    last = next(record for record in reversed(records) if "validation" in record)
    return Row(
        name,
        told["trainable"],
        told["parameters"],
        last["validation"]["loss"],
        rate,
        statistics.median(record["seconds"] for record in records),
        max(record["memory"] for record in records),
        weights.stat().st_size,
    )


def best(name: str, rates: list[float], steps: int, data: Path, out: Path) -> Row | str:
    """The run of the rate that was best on what was held out."""
    found: list[Row] = []
    for rate in rates:
        row = run(name, METHODS[name], rate, steps, data, out)
        if isinstance(row, str):
            return row
        print(f"{name} at {rate:g}: {row.loss:.4f}", file=sys.stderr, flush=True)
        found.append(row)
    return min(found, key=lambda row: row.loss)


def line(name: str, row: Row | str) -> str:
    """A row of the table."""
    if isinstance(row, str):
        return f"| {name} | {row} |" + " |" * (len(HEAD) - 2)
    return (
        f"| {name} | {row.trained:,} | {row.trained / row.parameters:.2%} | {row.loss:.4f} | {row.rate:g} "
        f"| {row.seconds * 1e3:.0f} | {row.memory / 1e6:.0f} MB | {row.size / 1e3:.0f} kB |"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("--steps", type=int, default=80)
    asked.add_argument("--rates", nargs="+", type=float, default=[3e-3, 1e-2, 3e-2])
    asked.add_argument("--out", type=Path)
    asked.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS))
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out: Path = given.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        begun = run("as it was", {"name": "ia3"}, 1e-12, 1, given.data, out)
        assert isinstance(begun, Row), begun
        rows = {name: best(name, given.rates, given.steps, given.data, out) for name in given.only}
        print(f"held-out loss before: {begun.loss:.4f}; {given.steps} steps of 4 rows of 256 tokens\n")
        print("| " + " | ".join(HEAD) + " |\n|---|" + "--:|" * (len(HEAD) - 1))
        for name, row in rows.items():
            print(line(name, row))
        kept = {name: row if isinstance(row, str) else asdict(row) for name, row in rows.items()}
        (out / "methods.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
