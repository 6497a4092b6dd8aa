"""Accuracy by length as a picture: a curve for each model, and one for each place of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.checkpoint.writing import atomic_write
from paddock.errors import UsageError
from paddock.evaluate.lengths import PLACES, Cell, by_length

KINDS = (".png", ".svg")
# Okabe and Ito's colours, which all kinds of colour vision tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
STYLES = dict(zip(PLACES, ("-", "--", ":"), strict=True))


def check(path: Path) -> Path:
    """Raises UsageError for a picture that is neither PNG nor SVG, before the work that it is to show."""
    if path.suffix not in KINDS:
        raise UsageError(f"--plot {path}", expected="a file that ends in .png or .svg")
    return path


def draw(results: Mapping[str, Sequence[Cell]], path: Path, title: str, trained: int | None = None) -> None:
    """`results` by what each curve is called; `trained`: a length to be marked.

    One model is drawn by place as well; of several only the mean over places.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "paddock", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title.replace("$", r"\$"))
        lengths = sorted({cell.length for cells in results.values() for cell in cells})
        for (name, cells), colour in zip(results.items(), COLOURS * len(results), strict=False):
            groups = list(by_length(cells))
            at = [length for length, _ in groups]
            mean = [100 * sum(c.right for c in row) / sum(c.asked for c in row) for _, row in groups]
            axes.plot(at, mean, color=colour, marker="o", linewidth=2, label=name)
            if len(results) == 1:
                for place in PLACES:
                    rows = [(c.length, 100 * c.accuracy) for c in cells if c.place == place]
                    axes.plot(*zip(*rows, strict=True), color=COLOURS[1], linestyle=STYLES[place], label=place)
        if trained is not None:
            axes.axvline(trained, color="#9A9A9A", linewidth=1, label="trained context")
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel("tokens")
        axes.set_ylabel("right, %")
        axes.set_ylim(-3, 103)
        axes.legend()
        with atomic_write(path) as part:
            date = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(part, format=path.suffix[1:], dpi=120, metadata=date)
