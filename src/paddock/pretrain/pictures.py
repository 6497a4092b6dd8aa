"""Plots of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.checkpoint.writing import atomic_write
from paddock.errors import UsageError
from paddock.pretrain.memorization import Dispersion
from paddock.pretrain.studies import Checkpointed
from paddock.pretrain.term_frequency import Bin
from paddock.training.plots import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")


def check(path: Path) -> Path:
    """Raises UsageError for a picture that is neither PNG nor SVG, before the work that it is to show."""
    if path.suffix not in KINDS:
        raise UsageError(f"--plot {path}", expected="a file that ends in .png or .svg")
    return path


def memorised(rows: Sequence[Checkpointed], path: Path) -> None:
    """Sequences known by heart, and how well they foretell the last model's, by step."""
    figure, (left, right) = _figure(2)
    steps = [row.step for row in rows]
    left.plot(steps, [row.agreement.memorised for row in rows], color=BLUE, marker="o")
    left.set_ylabel("sequences memorised")
    for name, colour in (("precision", BLUE), ("recall", ORANGE)):
        told = [(at, getattr(row.agreement, name)) for at, row in zip(steps, rows, strict=True)]
        known = [(at, value) for at, value in told if value is not None]
        right.plot([at for at, _ in known], [value for _, value in known], color=colour, marker="o", label=name)
    right.set_ylabel("foretelling the last model")
    right.set_ylim(-0.05, 1.05)
    right.legend()
    for axis in (left, right):
        axis.set_xscale("symlog", base=2, linthresh=1)  # linear from 0 to 1, as step 0 is one of them
        axis.set_xlim(-0.5, 1.2 * max(steps[-1], 1))
        axis.set_xlabel("step")
    _save(figure, path)


def order(found: Dispersion, path: Path) -> None:
    """Memorised sequences in each window of the training order, and what chance would give on average."""
    figure, (axis,) = _figure(1)
    axis.bar(range(1, len(found.counts) + 1), found.counts, color=BLUE)
    axis.axhline(sum(found.counts) / len(found.counts), color=ORANGE, label="mean")
    said = "" if found.ratio is None else f"variance / mean {found.ratio:.2f}, p {found.p:.2g}"
    axis.set_title(said, fontsize=10)
    axis.set_xlabel("window of the training order")
    axis.set_ylabel("sequences memorised")
    axis.legend()
    _save(figure, path)


def terms(rows: Sequence[Bin], path: Path) -> None:
    """Accuracy by how many documents have a question's terms."""
    figure, (axis,) = _figure(1)
    places = range(len(rows))
    axis.bar(places, [row.right / row.questions for row in rows], color=BLUE)
    axis.set_xticks(places, [str(row.low) if row.low == row.high else f"{row.low}-{row.high}" for row in rows])
    for place, row in zip(places, rows, strict=True):
        axis.annotate(f"n={row.questions}", (place, row.right / row.questions), ha="center", va="bottom", fontsize=8)
    axis.set_ylim(0, 1.1)
    axis.set_xlabel("training documents with all terms of the question")
    axis.set_ylabel("questions answered")
    _save(figure, path)


def _figure(columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 4), layout="constrained")
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=120)
