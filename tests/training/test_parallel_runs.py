"""`torchrun -m paddock pretrain`: a worker that is killed, and a run that is asked to stop."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
stage: pretrain
model:
  model_type: llama
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  max_position_embeddings: 64
tokenizer: {train: characters}
data:
  sources: [{files: [text.txt], separator: "\\n"}]
  length: 16
  validation: 0.1
training:
  steps: 60
  batch: 8
  optimizer: {learning_rate: 1e-2}
  dropout: 0.1
  checkpoints: every:5
  precision: float32
parallel: {mode: fsdp, timeout: 30}
"""
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "the", "dog", "run", "to", "it"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    drawn = random.Random(0)
    lines = (" ".join(drawn.choice(WORDS) for _ in range(12)) for _ in range(300))
    (tmp_path / "text.txt").write_text("\n".join(lines))
    (tmp_path / "run.yaml").write_text(RECIPE)
    return tmp_path


def started(folder: Path, out: str, *options: str, verb: str = "pretrain") -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "127.0.0.1:0", *options, "-m", "paddock", verb, "run.yaml", "-o", out,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> str:
    """What it said; it is ended if it takes too long."""
    try:
        return process.communicate(timeout=240)[1]
    finally:
        process.kill()
        process.wait()


def steps(path: Path) -> dict[int, str]:
    """The loss of each step, as it stands in the log."""
    records = (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    )
    return {record["step"]: float(record["loss"]).hex() for record in records if "loss" in record}


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not true() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert true(), "" if process.poll() is None else ended(process)[-3000:]


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, in order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(pid) for pid in children)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_restarted_with_the_rest(folder: Path) -> None:
    ended(started(folder, "whole"))
    process = started(folder, "broken", "--max-restarts", "1")
    until(lambda: len(steps(folder / "broken/metrics.jsonl")) >= 12, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    said = ended(process)
    assert process.returncode == 0, said[-3000:]
    assert "going on from step" in said
    assert steps(folder / "broken/metrics.jsonl") == steps(folder / "whole/metrics.jsonl")
    assert len(steps(folder / "whole/metrics.jsonl")) == 60


@pytest.mark.slow
def test_processes_that_are_asked_to_stop_save_once_and_go_on_at_another_number(folder: Path) -> None:
    process = started(folder, "run")
    until(lambda: len(steps(folder / "run/metrics.jsonl")) >= 7, process)
    process.send_signal(signal.SIGTERM)
    said = ended(process)
    saved = sorted(path.name for path in (folder / "run").glob("step-*"))
    done = max(steps(folder / "run/metrics.jsonl"))
    assert f"step {done} is saved" in said and f"step-{done:06d}" in saved and done < 60
    assert not list((folder / "run").glob("*.tmp"))
    alone = subprocess.run(
        [sys.executable, "-m", "paddock", "pretrain", "run.yaml", "-o", "run"],
        cwd=folder, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr[-2000:]
    assert "2 processes shared the rows, now 1" in alone.stderr
    assert len(steps(folder / "run/metrics.jsonl")) == 60
