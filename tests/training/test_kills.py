"""What takes minutes: twenty-five kills with SIGKILL, and twenty thousand steps."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import go, recipe, records, weights

from paddock.training.conduct import Origin
from paddock.training.run import RunFolder

CHILD = Path(__file__).with_name("killed_child.py")
RUNS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "micro-batches": {"micro_batch": 3, "dropout": 0.1},
    "over an epoch": {"batch": 8},
    "log2 and muon": {"checkpoints": "log2+every:5", "optimizer": {"name": "muon"}},
}


def child(folder: Path, asked: dict[str, Any], where: str, number: int) -> int:
    words = [sys.executable, str(CHILD), str(folder), json.dumps(asked), where, str(number)]
    return subprocess.run(words, check=False, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_five_times_and_still_the_same(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    asked = {"steps": 40, **RUNS[name]}
    kills = [("save", chance.randrange(1, 60)), ("step", chance.randrange(1, 7))] * 2
    kills += [chance.choice([("save", chance.randrange(1, 60)), ("step", chance.randrange(1, 7))])]
    assert child(tmp_path / "whole", asked, "save", -1) == 0
    for where, number in kills:
        assert child(tmp_path / "run", asked, where, number) == -9, (where, number)
    assert child(tmp_path / "run", asked, "save", -1) == 0
    assert records(tmp_path / "run") == records(tmp_path / "whole")
    assert weights(tmp_path / "run/final") == weights(tmp_path / "whole/final")
    one, other = (RunFolder(tmp_path / name) for name in ("run", "whole"))
    assert one.steps() == other.steps() and one.check(40) == other.check(40)
    assert list(one.path.glob("*.tmp")) == [] and list(one.path.glob("*broken*")) == []


def pair(folder: Path, step: int) -> str:
    """Two processes train in a folder; one of them is told to stop after a step."""
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable]
    words = [sys.executable, *words, str(CHILD.with_name("two_ranks_child.py")), str(folder), str(step)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, check=True, timeout=300, env=environment, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_and_saves_both_and_one_alone_goes_on(tmp_path: Path) -> None:
    pair(tmp_path / "whole", 99)
    assert "step 5 is saved" in pair(tmp_path / "run", 5)
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    pair(tmp_path / "run", 99)
    assert records(tmp_path / "run") == records(tmp_path / "whole")
    assert weights(tmp_path / "run/final") == weights(tmp_path / "whole/final")
    told = go(tmp_path / "alone", recipe(steps=8), origin=Origin("x", "data"))
    assert told[0].startswith("2 processes shared the rows, now 1")
    both = [[record["loss"] for record in records(tmp_path / name)] for name in ("alone", "whole")]
    assert both[0] == pytest.approx(both[1], rel=1e-6)


@pytest.mark.slow
def test_twenty_thousand_steps_take_no_more_memory_than_the_first_few(tmp_path: Path) -> None:
    steps, seen = 20_000, list[tuple[int, int]]()

    def each(report: Any) -> None:
        if report.step % 500 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append((report.step, pages * os.sysconf("SC_PAGE_SIZE")))

    go(tmp_path / "run", recipe(steps=steps, checkpoints="every:1000", batch=2), each=each)
    settled = np.array([pair for pair in seen if pair[0] > steps // 10], dtype=float)
    slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 1000
    assert slope <= 2**20, f"{slope / 2**20:.2f} MiB more every thousand steps"
    log = (tmp_path / "run/metrics.jsonl").read_bytes()
    lines = log.splitlines()
    assert len(lines) == steps
    assert len(log) == pytest.approx(steps * len(lines[100]), rel=0.05)
    run = RunFolder(tmp_path / "run")
    assert run.steps() == [19_000, 20_000]
    sizes = [sum(path.stat().st_size for path in run.step(step).rglob("*")) for step in run.steps()]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
