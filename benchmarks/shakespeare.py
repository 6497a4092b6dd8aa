"""Time to a validation loss on Tiny Shakespeare: nanoGPT's CPU setting, and Paddock by a recipe of its own.

    python benchmarks/shakespeare.py --text tinyshakespeare.txt --nanogpt PATH_OF_A_CHECKOUT -r 3

nanoGPT trains its 2000 steps; Paddock trains by the recipe in workers/paddock_shakespeare_worker.py and must come at
least as low on the same held-out tenth, all of it, measured the same way. They take turns; only training is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from engines import Entry, Failed, Process

LIMIT = 7200.0
OURS = Entry("shakespeare", "paddock", "", "", None, "paddock_shakespeare")
THEIRS = Entry("shakespeare", "nanogpt", "", "", None, "nanogpt")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to nanoGPT's validation loss on Tiny Shakespeare.")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT; without it only Paddock trains")
    parser.add_argument("--work", type=Path, default=Path("bench-training"))
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", type=json.loads, default={}, help="changes of Paddock's recipe, as JSON")
    asked = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"paddock": [], "nanogpt": []}
    for number in range(asked.rounds):
        entries = [OURS, THEIRS] if asked.nanogpt else [OURS]
        for entry in entries[:: 1 if number % 2 == 0 else -1]:
            try:
                found[entry.engine].append(once(entry, asked))
            except Failed as why:
                print(f"{entry.engine}: {why}", file=sys.stderr)
    print(json.dumps({"rounds": found, **compared(found)}, indent=1))


def once(entry: Entry, asked: argparse.Namespace) -> dict[str, Any]:
    (asked.work / "logs").mkdir(parents=True, exist_ok=True)
    process = Process(
        entry, Path(sys.executable), asked.threads, asked.work / "logs" / f"shakespeare-{entry.engine}.log"
    )
    try:
        checkout = {"checkout": str(asked.nanogpt.resolve())} if entry is THEIRS else {}
        loaded = process.ask(LIMIT, do="load", path=str(asked.text.resolve()), threads=asked.threads, **checkout)
        answer = process.ask(LIMIT, do="reach", **(asked.ours if entry is OURS else {}))
    finally:
        process.close()
    print(f"{loaded['version']}: loss {answer['loss']:.4f} in {answer['took']:.1f} s", file=sys.stderr, flush=True)
    return {name: answer[name] for name in ("took", "used", "steps", "loss")} | {"version": loaded["version"]}


def compared(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and the share of nanoGPT's time that Paddock took; `reached` says whether it came as low."""
    medians = {
        engine: {name: statistics.median(each[name] for each in rounds) for name in ("took", "used", "loss")}
        for engine, rounds in found.items()
        if rounds
    }
    if len(medians) < 2:
        return {"medians": medians}
    ours, theirs = medians["paddock"], medians["nanogpt"]
    shares = {"share_of_time": ours["took"] / theirs["took"], "share_of_processor_time": ours["used"] / theirs["used"]}
    return {"medians": medians, "reached": ours["loss"] <= theirs["loss"], **shares}


if __name__ == "__main__":
    main()
