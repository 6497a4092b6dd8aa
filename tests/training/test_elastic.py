"""What torchrun is for: a worker that dies, hangs, is told to stop or fails at fourteen places; an agent that dies."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from elastic_child import BEAT, FAULTS, PLACES, Case

REPETITIONS = int(os.environ.get("PADDOCK_ELASTIC_REPETITIONS", "200"))
MINUTES = float(os.environ.get("PADDOCK_ELASTIC_MINUTES", "30"))  # after which no further batch of cases is begun
BATCH = 10
RECIPE = f"""\
stage: pretrain
model:
  model_type: llama
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  max_position_embeddings: 64
tokenizer: {{train: characters}}
data:
  sources: [{{files: [text.txt], separator: "\\n"}}]
  length: 16
  validation: 0.1
training:
  steps: 16
  batch: 8
  optimizer: {{learning_rate: 1e-2}}
  dropout: 0.1
  checkpoints: every:4
  precision: float32
parallel: {{mode: fsdp, timeout: {BEAT}}}
"""


def cases() -> list[Case]:
    """Every place with every fault, in one process or the other by turns; then the same again the other way round."""
    found = []
    for turn, (place, fault) in zip(itertools.count(), itertools.product(PLACES, FAULTS), strict=False):
        attempt = int(place == "restore")
        found.append(Case(f"{place} {fault}", place, fault, rank=turn % 2, attempt=attempt))
    found = [Case(**asdict(each) | {"name": f"{each.name} {side}", "rank": (each.rank + side) % 2})
             for side in range(2) for each in found]  # fmt: skip
    random.Random(0).shuffle(found)  # where time runs out, some of each kind were run
    return [Case(**asdict(each) | {"name": f"{number} {each.name}"})
            for number, each in enumerate(itertools.islice(itertools.cycle(found), REPETITIONS))]  # fmt: skip


def ran(folder: Path, given: list[Case]) -> list[dict[str, Any]]:
    """What became of each case."""
    plan, outcomes = folder / "plan.json", folder / "outcomes.jsonl"
    plan.write_text(json.dumps([asdict(case) for case in given]))
    outcomes.unlink(missing_ok=True)
    child = Path(__file__).with_name("elastic_child.py")
    subprocess.run([sys.executable, str(child), str(plan)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
                   timeout=sum(2 * case.limit + 90 for case in given), capture_output=True)  # fmt: skip
    return [json.loads(line) for line in outcomes.read_text().splitlines()]


def result(run: Path) -> tuple[list[list[Any]], str]:
    """What was read and computed at each step, and the digest of the last weights."""
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [[each[key] for key in ("step", "batch", "digest", "loss", "norm")] for each in every]
    return steps, hashlib.sha256((run / "final/model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    drawn = random.Random(0)
    words = ("the", "cat", "sat", "on", "a", "mat")
    (tmp_path / "text.txt").write_text("\n".join(" ".join(drawn.choices(words, k=12)) for _ in range(300)))
    (tmp_path / "run.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.slow
def test_a_run_ends_as_if_nothing_had_been_whatever_befell_it(folder: Path) -> None:
    (whole,) = ran(folder, [Case("whole")])
    assert whole["codes"] == [0] and whole["attempts"] == 1
    golden = result(folder / "whole/run")
    assert len(golden[0]) == 16
    seen, began = [], time.monotonic()
    every = cases()
    for first in range(0, len(every), BATCH):
        if time.monotonic() - began > MINUTES * 60:
            break
        for outcome in ran(folder, every[first : first + BATCH]):
            seen.append(outcome)
            name = outcome["name"]
            assert outcome["struck"], name
            assert outcome["codes"] == ([-9, 0] if outcome["fault"] == "agent" else [0]), outcome
            assert outcome["left"] == [], outcome
            assert outcome["seconds"] < 120, outcome
            assert result(folder / name / "run") == golden, name
            assert not list((folder / name / "run").glob("*.tmp")), name
    print(f"{len(seen)} of {len(every)} repetitions in {(time.monotonic() - began) / 60:.1f} minutes")
    assert len(seen) == len(every) or len(seen) >= len(PLACES)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "raise"])
def test_restarts_end_where_they_were_said_to(folder: Path, fault: str) -> None:
    (outcome,) = ran(folder, [Case("again", "read", fault, rank=1, attempt=-1, restarts=1)])
    assert outcome["attempts"] == 2 and outcome["left"] == []
    assert outcome["codes"] != [0]
