"""What a task is given, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddock.data.instruct.records import Example
from paddock.data.samples import Prepare, Table
from paddock.finetune.gate import Preview
from paddock.model.spec import Architecture
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training.losses import Loss, token_loss
from paddock.training.metrics import Measure

# Hears how far the work before the first step is: what is counted, how many are done, of how many (None: not known).
Counted = Callable[[str, int, int | None], None]


def silent(what: str, done: int, total: int | None) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Material:
    """What a task works on.

    config: the model's config.json, as far as a task needs it. length: tokens of a row at most. too_long: what becomes
    of an example with more (`refuse`, `drop`, `cut`). path: the folder or file of the model. counted: hears of examples
    as they are encoded.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    tokenizer: Tokenizer
    template: Template | None
    architecture: Architecture
    config: Mapping[str, Any]
    length: int
    too_long: str
    seed: int
    path: Path
    counted: Counted = silent

    def count(self, done: int, total: int) -> None:
        """Tells that so many examples of these are encoded."""
        self.counted("examples encoded", done, total)


@dataclass(frozen=True)
class Asked:
    """What is trained on. validation: None where nothing was kept back. told: what a user should read before it begins.

    measure: what is measured on the validation examples, beside or instead of the plain token loss (None: that alone).
    files: what belongs beside the trained weights, by its path in their folder. adapter_files: what belongs beside an
    adapter, and no whole model. template: the chat template they are to be asked with; None: as it was found. preview:
    of the masks, to be shown before the first step. measured: how validation rows are prepared, where not as `prepare`
    does.
    """

    train: Table
    validation: Table | None
    prepare: Prepare
    loss: Loss = token_loss
    told: Sequence[str] = ()
    measure: Measure | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    adapter_files: Mapping[str, bytes] = field(default_factory=dict)
    template: Template | None = None
    preview: Preview | None = None
    measured: Prepare | None = None
