"""Continued pre-training: texts as they are, every token asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from paddock.data.encoding import encode_texts
from paddock.data.instruct.records import Example, Text, kind_of
from paddock.data.packing import PACKINGS
from paddock.data.samples import Table
from paddock.data.section import Section
from paddock.errors import DataError
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.positions import Positions, positioned
from paddock.training.methods import Base
from paddock.training.objectives import Objective, objective


class TextTask(Section):
    """Learn texts. packing: `paddock pretrain`'s. positions: `counted`, or `randomised` in training (`Randomised`)."""

    name: Literal["text"] = "text"
    packing: Literal["fit", "stream", "single"] = "fit"
    positions: Positions = "counted"

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The model as it is."""
        return base

    def ask(self, given: Material) -> Asked:
        """Raises UsageError for a model that does not predict the next token, DataError for examples of other kinds."""
        prepare, loss = objective(Objective(), given.tokenizer, given.architecture, given.length)
        train = self._table(given.train, given)
        assert train is not None
        trained = positioned(prepare, self.positions, given)
        return Asked(train, self._table(given.validation, given), trained, loss, measured=prepare)

    def _table(self, examples: Sequence[Example], given: Material) -> Table | None:
        texts = [_text(example) for example in examples]
        return (
            PACKINGS[self.packing](encode_texts(texts, given.tokenizer, told=given.count), given.length, 1)
            if texts
            else None
        )


def _text(example: Example) -> str:
    if not isinstance(example, Text):
        kind = kind_of(example)
        raise DataError(
            f"{example.origin.place}: a {kind}", expected="a text", fix="use another task, or data.format: text"
        )
    return example.text
