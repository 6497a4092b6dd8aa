"""parity: two models by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_model_and_what_was_quantised_of_it(paddock: Callable, tmp_path: Path) -> None:
    goal = tmp_path / "small.gguf"
    made = paddock("quantize", "--to", "q8_0", "-o", goal, "--no-card", "--json").json["parity"]
    assert made["bound"] is None and 0 < made["kl_mean"] < 0.01 and made["top1"] > 0.9
    run = paddock("parity", "stories260K", goal, "--json")
    assert run.code == 0, run.err
    assert run.json["parity"] == made | {"kind": "compare"}
    assert paddock("show", goal, "--json").json["parity"] == made
    assert "measured, not bound" in paddock("show", goal).out


def test_a_bound_decides_how_it_ends(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("parity", "stories260K", "stories260K", "--bound", 0).code == 0
    assert paddock("convert", "stories260K", tmp_path / "half", "--dtype", "bfloat16").code == 0
    run = paddock("parity", "stories260K", tmp_path / "half", "--bound", "1e-5")
    assert run.code == 1 and "half does not compute what stories260K does" in run.err
    assert "KL divergence" in run.out, "the figures are told all the same"


def test_encoders_by_their_hidden_states(paddock: Callable, bert: Path, t5: Path) -> None:
    run = paddock("parity", bert, bert, "--bound", 0)
    assert run.code == 0 and "logits" in run.out and "greedy" not in run.out
    assert "48 of 48" in paddock("parity", t5, t5).out
    run = paddock("parity", bert, t5)
    assert run.code == 2 and "cannot be compared" in run.err


@pytest.mark.parametrize("bound", ["-1", "nan", "inf", "much"])
def test_bounds_that_cannot_be_meant(paddock: Callable, bound: str) -> None:
    assert paddock("parity", "stories260K", "stories260K", "--bound", bound).code == 2


def test_a_broken_card_is_a_finding(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("convert", "stories260K", tmp_path / "copy").code == 0
    (tmp_path / "copy/parity.json").write_bytes(b"\xff{")
    run = paddock("show", tmp_path / "copy", "--json")
    assert run.code == 0 and run.json["parity"] is None
    assert any(finding["about"] == "parity card" for finding in run.json["health"])
