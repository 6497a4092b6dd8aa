"""A comparison as bars."""

from __future__ import annotations

from pathlib import Path

from paddock.checkpoint.writing import atomic_write
from paddock.errors import UsageError
from paddock.tokenizer.comparing import Comparison


def plot(comparison: Comparison, path: str | Path) -> None:
    """Writes bytes per token and tokens per word, a group of bars for each text, as PNG or SVG by the file's name."""
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"{path.name} does not say what to draw", expected="a name in .png or .svg")
    from matplotlib import rc_context  # takes a second, and is wanted for a plot alone
    from matplotlib.figure import Figure

    labels, names = list(comparison.rows), list(comparison.tokenizers)
    width = 0.8 / len(names)
    with rc_context({"svg.hashsalt": "paddock", "svg.fonttype": "none"}):
        figure = Figure(figsize=(max(6.0, 1.5 + len(labels) * len(names) * 0.5), 7.0), layout="constrained")
        panels = figure.subplots(2, 1)
        what = (("bytes per token (more is better)", "bytes_per_token"), ("tokens per word", "tokens_per_word"))
        for axes, (title, field) in zip(panels, what, strict=True):
            for place, name in enumerate(names):
                values = [getattr(comparison.rows[label][name], field) or 0.0 for label in labels]
                where = [index + (place - (len(names) - 1) / 2) * width for index in range(len(labels))]
                bars = axes.bar(where, values, width, label=name)
                axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
            axes.set_title(title)
            axes.set_xticks(range(len(labels)), labels)
            axes.margins(y=0.12)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].legend(frameon=False, ncols=min(4, len(names)))
        with atomic_write(path) as partial:
            figure.savefig(partial, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
