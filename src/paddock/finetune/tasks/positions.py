"""Where training puts tokens, for tasks that leave it to the recipe."""

from __future__ import annotations

from typing import Literal

from paddock.data.preparing.randomised import Randomised
from paddock.data.samples import Prepare
from paddock.errors import UsageError
from paddock.finetune.tasks.asked import Material
from paddock.model.spec import Rope

Positions = Literal["counted", "randomised"]


def positioned(prepare: Prepare, asked: Positions, given: Material) -> Prepare:
    """`prepare`, with positions as asked: never beyond the model's context. Raises UsageError for other encodings."""
    if asked == "counted":
        return prepare
    part = given.architecture
    if not all(isinstance(layer.attention.position, Rope) for layer in part.layers):
        raise UsageError(
            f"task.positions: randomised is for rotary positions, and this {part.family} has others",
            fix="use task.positions: counted",
        )
    return Randomised(prepare, (part.context or given.length) - 1)
