"""A LoRA step of Paddock beside its peers' on this machine, in one run: seconds, processor time and peak memory.

    python benchmarks/finetuning.py --work bench-training --shape 110m -r 3
    python benchmarks/finetuning.py --work bench-training --shape 1.1b -r 3 --alone
    python benchmarks/finetuning.py --work bench-training --shape 1.1b --peers paddock --ways lora,qlora

Rank 8 on all linears of the same random LLaMA; everyone begins with the same A, B zero, and reads the same batches. As
`training.py`, whose table this is: processes of their own take turns, round by round, losses must agree. With --alone
no two models are in memory at once: each entry goes through a round in a new process, warmed up anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import shapes
from engines import Entry

from training import WARM, Run, report, tell


def _entry(engine: str, way: str, environment: str | None, **options: Any) -> Entry:
    return Entry("finetuning", engine, way, "bf16", environment, f"{engine}_finetuning", options)


ENTRIES = (
    _entry("paddock", "lora", None),
    _entry("paddock", "qlora", None, method="qlora"),
    _entry("paddock", "recompute", None, recompute=True),
    _entry("peft", "autocast", "transformers"),
    _entry("peft", "plain", "transformers", autocast=False),
    _entry("peft", "recompute", "transformers", recompute=True),
    _entry("litgpt", "eager", "litgpt"),
    _entry("litgpt", "compiled", "litgpt", compiled=True),
)
USUAL = ("lora", "autocast", "plain", "eager")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures LoRA steps of Paddock and its peers, taking turns.")
    parser.add_argument("--work", type=Path, default=Path("bench-training"), help="environments, models, results")
    parser.add_argument("--shape", choices=shapes.SHAPES, default="110m")
    parser.add_argument("--peers", help="commas between: " + ", ".join(dict.fromkeys(e.engine for e in ENTRIES)))
    parser.add_argument("--ways", help="commas between: " + ", ".join(dict.fromkeys(e.weights for e in ENTRIES)))
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-s", "--steps", type=int, default=3, help="of a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="one model in memory at a time")
    asked = parser.parse_args()
    engines = _among(parser, asked.peers, [entry.engine for entry in ENTRIES], [entry.engine for entry in ENTRIES])
    ways = _among(parser, asked.ways, [entry.weights for entry in ENTRIES], list(USUAL))
    asked.entries = [entry for entry in ENTRIES if entry.engine in engines and entry.weights in ways]
    return asked


def _among(parser: argparse.ArgumentParser, given: str | None, known: list[str], usual: list[str]) -> list[str]:
    chosen = given.split(",") if given else usual
    if unknown := set(chosen) - set(known):
        parser.error(f"no {', '.join(sorted(unknown))}")
    return chosen


class Alone(Run):
    """As Run, but that an entry's process lives for its turn only. The same steps are taken in every round."""

    def start(self, model: Path) -> None:
        self.model = model

    def measure(self) -> None:
        for number in range(self.asked.rounds):
            entries = [entry for entry in self.asked.entries if entry not in self.failed]
            turn = number % max(1, len(entries))
            for entry in entries[turn:] + entries[:turn]:
                before = self.found.get(entry)
                self.start_some(self.model, [entry])
                if entry in self.alive:
                    self.take_turn(entry, WARM)
                    self.alive.pop(entry).close()
                if before is not None:
                    own = self.found[entry]
                    for name in ("each", "used"):
                        own[name] = before[name] + own[name]
                    own["peak"] = max(own["peak"], before["peak"])
                tell(f"round {number + 1}/{self.asked.rounds} of {entry.name} is over")


def main() -> None:
    asked = parse()
    model = shapes.make(asked.shape, asked.work / "models", ["bf16"])["bf16"].resolve()
    run = (Alone if asked.alone else Run)(asked)
    try:
        run.start(model)
        run.measure()
    finally:
        run.close()
    report(run, "finetuning")


if __name__ == "__main__":
    main()
