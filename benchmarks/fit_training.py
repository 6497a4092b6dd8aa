"""What `paddock fit` says of training beside what training takes: predicted and measured peaks of real runs.

    python benchmarks/fit_training.py --work bench-fit
    python benchmarks/fit_training.py --work bench-fit --only lora --again

Each case is a recipe that the command line runs in a fresh process (`python -m paddock pretrain | finetune`) on a
random model of its shape, for three steps (seven with experts): moments are there from the second on. The peak is what
the system says of that process when it has ended (VmHWM); it hangs on shapes and settings alone, not on how busy the
machine is.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "src" / "paddock" / "recipes" / "texts" / "tinyshakespeare.txt.gz"
STEPS, LIMIT = 3, 1800
SHOWN = 100_000  # characters of text that are trained on
PIECES = 400  # of the vocabulary that spells it, whatever size the model's tables have


def llama(width: int, blocks: int, heads: int, kv_heads: int, hidden: int, **rest: Any) -> dict[str, Any]:
    return {
        "model_type": "llama", "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 2048,
        "vocab_size": 32000, "tie_word_embeddings": False, **rest,
    }  # fmt: skip


SHAPES: dict[str, dict[str, Any]] = {
    "llama-10m": llama(256, 6, 4, 4, 688, vocab_size=8192, tie_word_embeddings=True),
    "llama-30m": llama(512, 8, 8, 8, 1408, vocab_size=8192),
    "llama-60m": llama(640, 10, 10, 5, 1728, vocab_size=16000),
    "llama-110m": llama(768, 12, 12, 12, 2048),
    "llama-110m-tied": llama(768, 12, 12, 12, 2048, tie_word_embeddings=True),
    "llama-300m": llama(1024, 20, 16, 4, 2816),
    "llama-1.1b": llama(2048, 22, 32, 4, 5632),
    "neox-70m": {
        "model_type": "gpt_neox", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
        "num_attention_heads": 8, "max_position_embeddings": 2048, "vocab_size": 50304, "rotary_pct": 0.25,
        "use_parallel_residual": True, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "tie_word_embeddings": False,
    },
    "mixtral-80m": {
        "model_type": "mixtral", "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 6, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2,
        "max_position_embeddings": 2048, "sliding_window": None, "vocab_size": 16000, "tie_word_embeddings": False,
    },
    "bert-40m": {
        "model_type": "bert", "architectures": ["BertForPreTraining"], "hidden_size": 512, "intermediate_size": 2048,
        "num_hidden_layers": 8, "num_attention_heads": 8, "max_position_embeddings": 512, "type_vocab_size": 2,
        "vocab_size": 30522,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One run. method: what a recipe says of it, besides the name."""

    shape: str
    task: str
    length: int
    batch: int
    micro_batch: int = 0
    precision: str = "bfloat16"
    optimizer: str = "adamw"
    recompute: bool = False
    method: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = [self.shape, self.task, *(f"{k}={v}" for k, v in self.method.items() if k != "name")]
        words += [f"{self.batch}x{self.length}"] + ([f"by {self.micro_batch}"] if self.micro_batch else [])
        words += [self.optimizer] if self.optimizer != "adamw" else []
        return " ".join([*words, "f32" if self.precision == "float32" else "bf16", *(["recompute"] * self.recompute)])


CASES = (
    Case("llama-10m", "pretrain", 256, 16),
    Case("llama-30m", "pretrain", 512, 8),
    Case("llama-30m", "pretrain", 512, 8, precision="float32"),
    Case("llama-30m", "pretrain", 1024, 8, recompute=True),
    Case("llama-30m", "pretrain", 128, 64, 16, optimizer="lion"),
    Case("llama-110m", "pretrain", 512, 4),
    Case("llama-110m-tied", "pretrain", 1024, 2),
    Case("llama-110m", "pretrain", 512, 8, 2, optimizer="adamw8bit"),
    Case("llama-110m", "pretrain", 256, 4, precision="float32", optimizer="muon"),
    Case("llama-110m", "full", 512, 4, 1, recompute=True, optimizer="adafactor"),
    Case("llama-300m", "full", 512, 2),
    Case("llama-110m", "lora", 512, 4),
    Case("llama-300m", "lora", 1024, 2, method={"rank": 16}),
    Case("llama-300m", "lora", 1024, 2, recompute=True, method={"roles": "q,v"}),
    Case("llama-1.1b", "lora", 512, 1),
    Case("llama-300m", "qlora", 512, 4, method={"rank": 64}),
    Case("llama-1.1b", "qlora", 512, 2),
    Case("llama-300m", "adapter-v1", 512, 2),
    Case("llama-110m", "ia3", 512, 4, precision="float32"),
    Case("neox-70m", "pretrain", 512, 4),
    Case("neox-70m", "lora", 1024, 2),
    Case("mixtral-80m", "pretrain", 512, 4),
    Case("mixtral-80m", "lora", 512, 4),
    Case("bert-40m", "pretrain", 128, 32),
)

# Written down before any of them was run, after the formulas' constants were chosen: these test them.
UNSEEN = (
    Case("llama-60m", "pretrain", 384, 6),
    Case("llama-60m", "pretrain", 640, 8, 4, recompute=True),
    Case("llama-60m", "full", 256, 8, 4, precision="float32"),
    Case("llama-60m", "lora", 768, 3, method={"rank": 32}),
    Case("llama-110m", "qlora", 512, 2),
    Case("llama-300m", "prefix", 512, 2),
    Case("neox-70m", "full", 256, 8, optimizer="lion"),
    Case("bert-40m", "pretrain", 256, 8, precision="float32"),
)


def text(work: Path) -> Path:
    path = work / "text.txt"
    if not path.exists():
        path.write_bytes(gzip.decompress(TEXTS.read_bytes())[:SHOWN])
    return path


def base(case: Case, work: Path) -> Path:
    """A folder with a random model of the shape in bfloat16, made by another process."""
    path = work / "models" / case.shape
    if not path.exists():
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        code = [sys.executable, __file__, "--make", str(part), "--shape", case.shape, "--text", str(text(work))]
        subprocess.run(code, check=True)
        part.rename(path)
    return path


def make(path: Path, shape: str, source: Path) -> None:
    """Writes the folder: what `base` runs in a process of its own."""
    import torch

    from paddock.checkpoint import folder
    from paddock.checkpoint.checkpoint import understand
    from paddock.checkpoint.weights import sketch
    from paddock.model.initialise import blank, initialise

    path.mkdir(parents=True)
    config = {**SHAPES[shape], "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 0}
    model = initialise(blank(sketch(understand(config)).to(torch.bfloat16)), 0, config, deviation=0.02)
    folder.write(path, model, config, {})
    command = [sys.executable, "-m", "paddock", "tokenizer", "train", str(source), "--vocab-size", str(PIECES)]
    subprocess.run([*command, "-o", str(path / "tokenizer")], check=True, stdout=subprocess.DEVNULL)
    for file in (path / "tokenizer").iterdir():
        file.rename(path / file.name)
    (path / "tokenizer").rmdir()


def recipe(case: Case, work: Path) -> dict[str, Any]:
    """What the run is asked for."""
    # Experts' rows differ at every step: the programs that oneDNN keeps for their shapes are all there after some.
    steps = STEPS if SHAPES[case.shape]["model_type"] != "mixtral" else 7
    training = {
        "steps": steps, "batch": case.batch, "micro_batch": case.micro_batch, "precision": case.precision,
        "recompute": case.recompute, "checkpoints": "none",
        "optimizer": {"name": case.optimizer, "learning_rate": 1e-5},
    }  # fmt: skip
    if case.task != "pretrain":
        return {
            "stage": "finetune", "model": str(base(case, work)), "task": {"name": "text", "packing": "stream"},
            "method": {"name": case.task, **case.method}, "training": training,
            "data": {"files": [str(text(work))], "length": case.length, "validation": 0},
        }  # fmt: skip
    bert = SHAPES[case.shape]["model_type"] == "bert"
    made: dict[str, Any] = {
        "stage": "pretrain", "model": SHAPES[case.shape], "training": training,
        "tokenizer": {"train": "wordpiece" if bert else "bpe", "size": PIECES},
        "data": {"sources": [{"files": [str(text(work))]}], "length": case.length, "packing": "stream",
                 "validation": 0},
    }  # fmt: skip
    return made | ({"objective": {"name": "masked"}} if bert else {})


def measure(case: Case, work: Path) -> dict[str, Any]:
    """The peak of the run in a process of its own, in bytes."""
    asked = recipe(case, work)
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    file = work / "recipe.yaml"
    file.write_text(json.dumps(asked))  # JSON is YAML
    verb = "pretrain" if case.task == "pretrain" else "finetune"
    command = [sys.executable, "-m", "paddock", verb, str(file), "--output", str(folder), "--device", "cpu"]
    started = time.perf_counter()
    with (work / "log.txt").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{case.name}: exit {child.returncode}: {(work / 'log.txt').read_text()[-600:]}")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["memory"] for line in lines if "memory" in line]
    shutil.rmtree(folder)
    return {"peak": used.ru_maxrss * 1024, "steps": steps, "seconds": time.perf_counter() - started}


def predicted(case: Case) -> int:
    """What `paddock fit` says of it, in bytes."""
    from paddock.catalog.fit.training import Need, Settings
    from paddock.checkpoint.checkpoint import understand

    settings = Settings(
        task=case.task,
        length=case.length,
        batch=case.batch,
        micro_batch=case.micro_batch,
        precision=case.precision,
        optimizer=case.optimizer,
        recompute=case.recompute,
        **case.method,
    )
    return max(phase.bytes for phase in Need(understand(SHAPES[case.shape]), settings).phases)


def report(found: dict[str, Any], cases: Sequence[Case]) -> None:
    """The table, and how far off the predictions are."""
    print("| run | predicted, MB | measured, MB | error |\n|---|--:|--:|--:|")
    errors = []
    for case in cases:
        if case.name in found:
            said, was = predicted(case), found[case.name]["peak"]
            errors.append(said / was - 1)
            print(f"| {case.name} | {said / 1e6:,.0f} | {was / 1e6:,.0f} | {errors[-1]:+.1%} |")
    if errors:
        sizes = sorted(abs(error) for error in errors)
        print(f"\n{len(sizes)} runs: median error {statistics.median(sizes):.1%}, worst {sizes[-1]:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicted and measured peaks of training.")
    parser.add_argument("--work", type=Path, default=Path("bench-fit"), help="models, and what was measured")
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--unseen", action="store_true", help="the cases that no constant was chosen on")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make(asked.make, asked.shape, asked.text)
        return
    work = asked.work.resolve()
    (work / "models").mkdir(parents=True, exist_ok=True)
    kept = work / "training.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    cases = UNSEEN if asked.unseen else CASES
    for case in cases:
        if asked.only not in case.name or (case.name in found and not asked.again):
            continue
        try:
            found[case.name] = measure(case, work)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        print(f"{case.name}: {found[case.name]['peak'] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
        kept.write_text(json.dumps(found, indent=1))
    report(found, cases)


if __name__ == "__main__":
    main()
