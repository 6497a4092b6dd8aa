"""A picture of what each stage left."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import atomic_write

KEPT, GONE = "#2f6f8f", "#d9a441"
LABEL = 46  # characters beside a bar


def draw(manifest: dict[str, Any], path: Path) -> None:
    """A bar for each stage: documents kept and removed, and the commonest reasons. PNG, the same bytes every time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = manifest["stages"]
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(stages)), dpi=110, layout="tight")
    axes = figure.add_subplot()
    total = max(1, manifest["documents_in"])
    for row, stage in enumerate(stages):
        kept, gone = stage["documents_out"], stage["documents_in"] - stage["documents_out"]
        axes.barh(row, kept, color=KEPT, label="kept" if not row else None)
        axes.barh(row, gone, left=kept, color=GONE, label="removed" if not row else None)
        axes.text(kept + gone + 0.01 * total, row, _label(stage), va="center", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(stages)), [f"{stage['number']} {stage['stage']}" for stage in stages])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.55 * total)
    axes.set_xlabel("documents")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    with atomic_write(path) as part, part.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a language's name may have characters that the font lacks
        figure.savefig(file, format="png", metadata={"Software": None})


def _label(stage: dict[str, Any]) -> str:
    gone = sorted(stage["reasons"].items(), key=lambda each: (-each[1], each[0]))
    said = ", ".join(f"{reason} {count:,}" for reason, count in gone) or (
        f"{stage['documents_changed']:,} changed" if stage["documents_changed"] else ""
    )
    return said if len(said) <= LABEL else said[: LABEL - 1] + "…"
