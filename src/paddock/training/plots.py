"""A run as a picture: loss and validation, learning rate, gradient norm."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.checkpoint.writing import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 2000  # of a curve: more than a screen has columns
# Okabe and Ito's colours, which all kinds of colour vision tell apart.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#9A9A9A"
SHARES = ("accuracy", "macro_f1", "micro_f1", "majority", "pearson", "spearman")  # of a validation with classes
PERCENT = ("bleu", "chrf", "rouge1", "rouge2", "rouge_l")  # of texts; `baseline` has what needs no model
Point = tuple[int, float]


def draw(records: Iterable[Mapping[str, Any]], folder: Path, title: str) -> list[Path]:
    """Writes `training.png` and `training.svg` into `folder`, from the records of a metrics.jsonl; gives their paths,
    none where there is no step to draw.

    A long run is drawn by the median of neighbouring steps. A loss that is no number is never smoothed over: it is a
    red line at its step, as is a step that was skipped.
    """
    curves = Curves(records)
    if not curves.steps:
        return []
    # Not pyplot, which would keep the figure and choose a window system.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    paths = [folder / "training.png", folder / "training.svg"]
    with rc_context({"svg.hashsalt": "paddock", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(9, 8), layout="constrained")
        figure.suptitle(title.replace("$", r"\$"))  # else matplotlib would read formulas
        heights = (3, 1, 1.4) if not curves.shares else (3, 1, 1.4, 2)
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _losses(axes[0], curves)
        _curve(axes[1], curves.rate, "learning rate", BLUE)
        axes[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        _curve(axes[2], curves.norm, "gradient norm", BLUE)
        if any(value > 0 for _, value in curves.norm):
            axes[2].set_yscale("log")
        if curves.shares:
            _shares(axes[3], curves)
        axes[-1].set_xlabel("step")
        for path in paths:
            with atomic_write(path) as part:
                date = {"Date": None} if path.suffix == ".svg" else None
                figure.savefig(part, format=path.suffix[1:], dpi=120, metadata=date)
    return paths


class Curves:
    """What is drawn, out of the records. Points whose value is no finite number are in `bad` alone."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.loss: list[Point] = []
        self.rate: list[Point] = []
        self.norm: list[Point] = []
        self.validation: list[Point] = []
        self.bits: list[Point] = []
        self.shares: dict[str, list[Point]] = {}
        self.baseline: dict[str, float] = {}
        self.bad: list[int] = []
        self.steps = 0
        for record in records:
            if "loss" in record:
                self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        self.steps += 1
        step = record["step"]
        if not record.get("updated", True) or not _finite(record["loss"]):
            self.bad.append(step)
        score = record.get("validation") or {}
        for points, value in (
            (self.loss, record["loss"]),
            (self.rate, record.get("learning_rate")),
            (self.norm, record.get("norm")),
            (self.validation, score.get("loss")),
            (self.bits, score.get("bits_per_byte")),
        ):
            if value is not None and _finite(value):
                points.append((step, value))
        for name in (*SHARES, *PERCENT):
            if _finite(score.get(name)):
                self.shares.setdefault(name, []).append((step, score[name]))
            if _finite(baseline := score.get("baseline", {}).get(name)):
                self.baseline[name] = baseline


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """At most `most` points: each the median of some neighbours, at the step in their middle."""
    size = math.ceil(len(points) / most) or 1
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(group[len(group) // 2][0], statistics.median(value for _, value in group)) for group in groups]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean of each point and its neighbours, a fiftieth of all: centred, so that it does not lag behind.

    The first points have fewer neighbours, as losses fall fast there; the last keep those before them, so that the line
    does not end in whatever the last step was.
    """
    half = len(points) // 100
    sums = [0.0, *itertools.accumulate(value for _, value in points)]
    found = []
    for index, (step, _) in enumerate(points):
        reach = min(half, index)
        first, end = index - reach, min(index + reach + 1, len(points))
        found.append((step, (sums[end] - sums[first]) / (end - first)))
    return found


def _losses(axis: Axes, curves: Curves) -> None:
    points = thinned(curves.loss)
    dense = len(points) >= 100
    _line(axis, points, color=GREY if dense else BLUE, linewidth=0.8 if dense else 1.4, label="loss of each step")
    if dense:
        _line(axis, smoothed(points), color=BLUE, linewidth=1.8, label="running mean")
    if curves.validation:
        label = f"validation (last {curves.validation[-1][1]:.4g}"
        label += f", {curves.bits[-1][1]:.4g} bits per byte)" if curves.bits else ")"
        _line(axis, curves.validation, color=ORANGE, marker="o", markersize=4, linewidth=1.4, label=label)
    for number, step in enumerate(curves.bad[:100]):
        axis.axvline(step, color=RED, linestyle=":", linewidth=1, label="skipped or no number" if not number else None)
    axis.set_ylabel("loss, nats per target")
    axis.grid(alpha=0.3)
    axis.legend()


def _curve(axis: Axes, points: Sequence[Point], label: str, color: str) -> None:
    _line(axis, thinned(points), color=color, linewidth=1.2)
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)


def _shares(axis: Axes, curves: Curves) -> None:
    """What is right of what was kept back, beside what the commonest answer, or none of a model's, would reach."""
    for (name, points), color in zip(curves.shares.items(), (BLUE, ORANGE, RED, GREY), strict=False):
        plain = {"color": GREY, "linestyle": ":"} if name == "majority" else {"color": color, "marker": "o"}
        label = f"{name.replace('_', ' ')} (last {points[-1][1]:.4g})"
        if name in curves.baseline:
            axis.axhline(curves.baseline[name], color=color, linestyle=":", linewidth=1.2)
            label += f", without a model {curves.baseline[name]:.4g}"
        _line(axis, points, markersize=4, linewidth=1.4, label=label, **plain)
    axis.set_ylabel("validation, share" if curves.shares.keys() <= set(SHARES) else "validation, percent")
    axis.grid(alpha=0.3)
    axis.legend()


def _line(axis: Axes, points: Sequence[Point], **style: Any) -> None:
    axis.plot([step for step, _ in points], [value for _, value in points], **style)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
