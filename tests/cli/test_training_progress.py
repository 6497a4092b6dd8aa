"""A run told as it goes: plain lines, and one live line on a terminal."""

from __future__ import annotations

import os
import pty
import sys
from typing import Any

import pytest

from paddock.cli import training_progress
from paddock.cli.progress import Counting
from paddock.cli.training_progress import TrainingProgress, clock, thousands, told, validated
from paddock.training.policies import Event

RECORD: dict[str, Any] = {
    "step": 120,
    "loss": 2.1141,
    "learning_rate": 3e-4,
    "norm": 0.834,
    "tokens_per_second": 12_400.0,
    "memory": 5.1 * 2**30,
    "mfu": 0.31,
}
SCORE = {"loss": 2.2012, "perplexity": 9.0358, "bits_per_byte": 1.2345}


def test_one_line_says_it_all() -> None:
    said = "step 120/1000 | loss 2.114 | val 2.201 | lr 3.0e-04 | gnorm 0.83 | 12.4k tok/s | mem 5.1 GiB | MFU 31%"
    assert told(RECORD, 1000, SCORE, 860.4) == said + " | 0:14:20 left"
    assert told(RECORD, 1000, None, None) == said.replace(" | val 2.201", "")


def test_numbers_as_people_read_them() -> None:
    assert [thousands(n) for n in (7.4, 999, 1000, 1.25e6, 3e9)] == ["7", "999", "1.0k", "1.2M", "3.0G"]
    assert [clock(s) for s in (0.9, 61, 3600 * 30 + 5)] == ["0:00:00", "0:01:01", "30:00:05"]
    assert validated(SCORE) == "validation loss 2.2012, perplexity 9.036, 1.2345 bits per byte"
    assert validated({**SCORE, "bits_per_byte": None}).endswith("perplexity 9.036")
    told_of_classes = {"loss": 0.5, "accuracy": 0.75, "macro_f1": 0.7, "targets": 4, "labels": ["a"], "seconds": 1.5}
    assert validated(told_of_classes) == "validation loss 0.5000, accuracy 0.75, macro f1 0.7"


def test_plain_lines_now_and_then_and_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(3) as progress:
        for step in (1, 2, 3):
            progress({**RECORD, "step": step})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" |")[0] for line in lines] == ["step 1/3", "step 3/3"]


def test_what_happens_once_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(9) as progress:
        progress({**RECORD, "step": 1, "updated": False, "events": ({"kind": "spike", "what": "loss 9 at step 1"},)})
        progress({**RECORD, "step": 2, "validation": SCORE, "samples": ["once\nupon \x1b[31m"]})
        progress.note("saved")
    text = capsys.readouterr().err
    assert "skipped: loss 9 at step 1\n" in text and "step 2: validation loss 2.2012" in text
    assert "  | once\n  | upon \\x1b[31m\n" in text and "saved\n" in text


def test_events_are_as_the_loop_tells_them() -> None:
    assert set(Event("spike", "loss").__dict__) == {"kind", "what"}


def test_on_a_terminal_one_line_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(training_progress, "columns", lambda: 40)
    monkeypatch.setattr(training_progress, "LIVE", 0.0)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with TrainingProgress(2) as progress:
            progress({**RECORD, "step": 1})
            progress.note("saved")
            progress({**RECORD, "step": 2})
        written = b""
        while not written.endswith(b"left\r\n"):  # a terminal gives what it has by now
            written += os.read(ours, 10_000)
    os.close(ours)
    parts = written.decode().replace("\r\n", "\n").split("\r\x1b[K")
    assert parts[0] == "" and parts[1].startswith("step 1/2 | loss 2.114") and len(parts[1]) == 39
    assert parts[2] == "saved\n" and len(parts[3]) == 39
    assert parts[4].startswith("step 2/2") and parts[4].endswith("left\n")  # the last line stays, whole


def test_a_terminal_without_a_size_shows_a_short_line() -> None:
    assert training_progress.columns() > 0


def test_kinds_of_work_have_lines_of_their_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr("paddock.cli.progress.time.monotonic", lambda: now[0])
    with Counting() as counted:
        counted("examples read", 5, None)
        now[0] = 11.0
        counted("examples read", 70_000, None)
        counted("examples encoded", 0, 70_000)  # its clock begins here
        now[0] = 22.0
        counted("examples encoded", 35_000, 70_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["examples read 70,000, 11 s", "examples encoded 35000/70000, 11 s left"]
