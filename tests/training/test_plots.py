"""Plots of a run: written whole, the same each time, nothing smoothed over."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from paddock.training.plots import POINTS, Curves, draw, smoothed, thinned


def run(steps: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        record = {"step": step, "loss": 1 + 3 / step, "learning_rate": 1e-3, "norm": 0.5, "updated": True}
        if step % 10 == 0:
            record["validation"] = {"loss": 1 + 4 / step, "bits_per_byte": 1.5}
        records.append(record)
    return records


def test_png_and_svg_say_what_they_show_and_are_the_same_each_time(tmp_path: Path) -> None:
    records = run(120)
    records[40] |= {"loss": "nan", "updated": False}
    records += [{"step": 120, "event": "rollback"}]
    png, svg = draw(records, tmp_path / "plots", "a run of $5 & <b>")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 20_000
    text = svg.read_text(encoding="utf-8")
    for said in ("a run of $5 &amp; &lt;b&gt;", "loss, nats per target", "learning rate", "gradient norm", "step"):
        assert said in text
    for said in ("running mean", "validation (last 1.033, 1.5 bits per byte)", "skipped or no number"):
        assert said in text
    before = png.read_bytes(), svg.read_bytes()
    draw(records, tmp_path / "plots", "a run of $5 & <b>")
    assert (png.read_bytes(), svg.read_bytes()) == before
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["training.png", "training.svg"]


def test_shares_that_a_task_measures_have_a_panel_of_their_own(tmp_path: Path) -> None:
    measured = {"loss": 0.5, "accuracy": 0.75, "macro_f1": None, "majority": 0.5, "confusion": [[3, 1], [0, 0]]}
    records = [{**record, "validation": measured} for record in run(2)]
    assert Curves(records).shares == {"accuracy": [(1, 0.75), (2, 0.75)], "majority": [(1, 0.5), (2, 0.5)]}
    text = draw(records, tmp_path, "t")[1].read_text(encoding="utf-8")
    assert "validation, share" in text and "accuracy (last 0.75)" in text and "macro f1" not in text
    assert Curves(run(20)).shares == {}


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert draw([], tmp_path, "t") == [] == draw([{"step": 0, "event": "saved"}], tmp_path, "t")
    assert list(tmp_path.iterdir()) == []


def test_odd_values_do_not_stop_a_plot(tmp_path: Path) -> None:
    records = [
        {**record, "norm": norm, "loss": math.nan} for record, norm in zip(run(3), (0.0, "inf", None), strict=True)
    ]
    assert len(draw(records, tmp_path, "t")) == 2


def test_what_is_no_number_is_marked_and_in_no_curve() -> None:
    curves = Curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": "nan"}, {"step": 3, "loss": math.inf}])
    assert curves.loss == [(1, 2.0)] and curves.bad == [2, 3]


def test_long_runs_are_thinned_by_medians() -> None:
    points = [(step, 1.0 if step % 7 else 100.0) for step in range(5 * POINTS)]
    found = thinned(points)
    assert len(found) <= POINTS and {value for _, value in found} == {1.0}
    assert thinned(points[:10]) == points[:10]


def test_the_running_mean_does_not_lag() -> None:
    line = [(step, float(step)) for step in range(300)]
    assert all(value == pytest.approx(step) for step, value in smoothed(line)[:-3])


def test_the_running_mean_does_not_end_in_the_last_step() -> None:
    line = [(step, 1.0) for step in range(800)] + [(800, 10.0)]
    assert smoothed(line)[-1][1] == pytest.approx(2.0)
