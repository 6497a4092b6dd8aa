"""A clock that is set while a run goes on, or between two of its parts: no step, save or resume heeds it."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from training_runs import go, recipe, records, weights

from paddock.training.run import RunFolder

YEARS = (0.0, 3e8, -3e8, 7e8)


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path / "whole", recipe())
    jumps = itertools.cycle(YEARS)
    plain, plain_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: plain() + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: plain_ns() + int(next(jumps) * 1e9))

    def stopped(report: Any) -> None:
        if report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", recipe(), each=stopped)
    run = RunFolder(tmp_path / "run")
    assert run.steps() == [3, 6]
    # The newer step, its files and what the folder says of itself are older than the rest by their times.
    for path in run.path.rglob("*"):
        age = 9e8 if "step-000006" in str(path) else -9e8
        os.utime(path, (plain() - age, plain() - age))
    told = go(tmp_path / "run", recipe())
    assert told[-1] == "going on from step 6 of 12"
    assert records(tmp_path / "run") == records(tmp_path / "whole")
    assert weights(tmp_path / "run/final") == weights(tmp_path / "whole/final")
    assert all(0 <= record["seconds"] < 60 for record in _raw(tmp_path / "run"))


def _raw(path: Path) -> list[dict[str, Any]]:

    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
