"""Printing: tables, numbers, and what a terminal must not see."""

from __future__ import annotations

import io
import math
import sys
import time

import pytest
from cli_streams import stream

from paddock.cli import output


def test_tables_line_up_also_with_wide_characters() -> None:
    text = output.table([["ab", "1"], ["开放", "100"]], ("name", "n"), right=(1,))
    assert text.splitlines() == ["name    n", "ab      1", "开放  100"]
    assert output.table([]) == ""


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_044_992, "1.0 MB"), (3e12, "3.0 TB")]
)
def test_sizes(count: float, shown: str) -> None:
    assert output.size(count) == shown


@pytest.mark.parametrize(("count", "shown"), [(260_032, "260,032"), (7_240_000_000, "7.24 B"), (1_500_000, "1.50 M")])
def test_numbers(count: int, shown: str) -> None:
    assert output.number(count) == shown


def test_json_has_no_numbers_it_does_not_know() -> None:
    assert output.plain({"a": (math.nan, -math.inf, 1.5), 2: {True}}) == {"a": [None, None, 1.5], "2": [True]}


def test_escape_sequences_become_visible() -> None:
    assert output.printable("a\x1b]0;x\x07\tb\nc\x9b") == "a\\x1b]0;x\\x07\tb\nc\\x9b"


def written(opened: io.TextIOWrapper) -> str:
    opened.flush()
    return bytes(opened.buffer.getvalue()).decode()  # type: ignore[attr-defined]


def test_waiting_shows_a_live_line_only_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SPINNER_AFTER", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    shown = []
    for terminal in (True, False):
        err = stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", err)
        with output.waiting("loading x"):
            end = time.monotonic() + (30 if terminal else 0.2)
            while "loading x" not in written(err) and time.monotonic() < end:
                time.sleep(0.01)
        shown.append(written(err))
    assert "\rloading x 0." in shown[0] and shown[0].endswith("\r\x1b[K") and shown[1] == ""
