"""`paddock parity`: two models on the same prompts."""

from __future__ import annotations

import math
from dataclasses import replace

from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.parityprint import parity_text
from paddock.cli.progress import Progress
from paddock.engine import parity as gate
from paddock.errors import UsageError


def parity(asked: Loading, after: str, bound: float | None, json: bool) -> None:
    if bound is not None and not (math.isfinite(bound) and bound >= 0):
        raise UsageError(f"--bound {bound}", expected="a number from 0")
    one, _ = load(asked)
    two, _ = load(replace(asked, model=after))
    with Progress("comparing, prompts") as progress:
        card = gate.compare(one, two, "compare", bound, progress.at)
    if json:
        output.as_json({"before": str(one.checkpoint.path), "after": str(two.checkpoint.path), "parity": card})
    else:
        output.result(parity_text(card))
    card.check(two.checkpoint.path.name)
