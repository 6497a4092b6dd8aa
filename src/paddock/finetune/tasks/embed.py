"""Texts that belong together get vectors that are near: contrastive learning, with the other answers of a group as what
is not meant (arXiv 1705.00652, 1908.10084)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from paddock.data.instruct.records import Example, Pair, kind_of
from paddock.data.preparing.contrastive import Contrastive, GroupTable, grouped
from paddock.data.section import Section
from paddock.data.stream import BatchStream
from paddock.engine import encoders
from paddock.engine.pooling import Pooling, pooling_files, read_pooling
from paddock.errors import DataError
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.heads import padding_of, without_heads
from paddock.finetune.tasks.labels import check_reads
from paddock.training import objectives
from paddock.training.losses_classes import ContrastiveLoss
from paddock.training.methods import Base
from paddock.training.validation_pairs import on_pairs

MEASURED = 1  # groups of a batch that is measured


class Embed(Section):
    """Learn vectors from pairs: a query and a text that answers it.

    group: how many pairs are compared with each other; a row of training.batch is a group. temperature: what cosines
    are divided by. pooling: how token vectors become one; auto: as the model's files say, else the mean. normalise:
    whether the model gives vectors of length 1; as its files say unless told.
    """

    name: Literal["embed"] = "embed"
    group: Annotated[int, Field(ge=2, le=4096)] = 32
    temperature: Annotated[float, Field(ge=1e-3, le=10)] = 0.05
    pooling: Literal["auto", "mean", "cls", "max", "last"] = "auto"
    normalise: bool | None = None

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The base without an encoder's heads, which vectors do not pass through."""
        check_reads(base.model.architecture)
        return without_heads(base)

    def ask(self, given: Material) -> Asked:
        """Raises DataError for examples that are no pairs, for too few of them and for texts that are too long."""
        pooling = self._pooling(given.path)
        objectives.check_length(given.architecture, given.length)
        objectives.check_vocabulary(given.tokenizer, given.architecture)
        texts = _Texts(given, pooling)
        train, left = self._table(texts, _pairs(given.train), self.group, given.seed)
        told = [
            f"groups of {self.group} pairs: {len(train)}"
            + (f"; {left} pairs that filled none are left out" if left else ""),
            f"pooling: {pooling.mode}, {'normalised' if pooling.normalise else 'not normalised'} ({pooling.origin})",
        ]
        prepare = Contrastive(given.length, self.group, padding_of(given.tokenizer))
        loss = ContrastiveLoss(self.group, self.temperature, pooling)
        held, measure = None, None
        if given.validation:
            kept = _pairs(given.validation)
            size = min(self.group, len(kept))
            held, lost = self._table(texts, kept, size, given.seed)
            told += [f"{lost} pairs that are kept back fill no group and are not measured"] if lost else []
            compared = Contrastive(given.length, size, prepare.pad)
            batches = BatchStream(held, compared, MEASURED, given.seed, shuffle=False)
            measure = on_pairs(batches, replace(loss, size=size), size)
        told += [f"{texts.cut} pairs with a text cut to {texts.most} tokens"] if texts.cut else []
        told += [f"{texts.dropped} pairs with a text over {texts.most} tokens are left out"] if texts.dropped else []
        files = pooling_files(pooling, given.architecture.width)
        return Asked(train, held, prepare, loss, told, measure, files=files)

    def _pooling(self, path: Path) -> Pooling:
        """How vectors are made, now and by whoever reads the folder."""
        own = read_pooling(path) if path.is_dir() else Pooling()
        mode = own.mode if self.pooling == "auto" else self.pooling
        normalise = own.normalise if self.normalise is None else self.normalise
        if (mode, normalise) == (own.mode, own.normalise):
            return own
        return replace(own, mode=mode, normalise=normalise, origin="the recipe", stored={})

    def _table(self, texts: _Texts, pairs: Sequence[Pair], size: int, seed: int) -> tuple[GroupTable, int]:
        """Groups, and how many pairs are in none. Raises DataError where there is not one group."""
        sides = texts.ids(pairs)
        there = [
            number for number, (query, answer) in enumerate(zip(*sides, strict=True)) if len(query) and len(answer)
        ]
        groups = grouped([(pairs[number].source, pairs[number].target) for number in there], size, seed)
        if not groups:
            raise DataError(
                f"{len(there)} pairs make no group of {size} without a text that comes twice",
                fix="give more pairs, or make task.group smaller",
            )
        return GroupTable(*sides, [[there[place] for place in group] for group in groups]), len(there) - size * len(
            groups
        )


@dataclass
class _Texts:
    """How texts become ids, as `paddock embed` makes them."""

    given: Material
    pooling: Pooling
    cut: int = 0
    dropped: int = 0

    @property
    def most(self) -> int:
        return min(self.given.length, self.pooling.limit or self.given.length)

    def ids(self, pairs: Sequence[Pair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Queries and answers; of a pair that is dropped, nothing."""
        queries, answers = [], []
        for number, pair in enumerate(pairs):
            self.given.count(number, len(pairs))
            sides = [encoders.text_ids(self.given.tokenizer, text, self.pooling) for text in (pair.source, pair.target)]
            longest = max(map(len, sides))
            if longest > self.most:
                if self.given.too_long == "refuse":
                    raise DataError(
                        f"{pair.origin.place}: a text of {longest} tokens",
                        expected=f"at most {self.most}",
                        fix="raise data.length, or say data.too_long=cut (or drop)",
                    )
                if self.given.too_long == "cut":
                    self.cut += 1
                    sides = [self._cut(side) for side in sides]
                else:
                    self.dropped += 1
                    sides = [[], []]
            queries.append(np.array(sides[0], np.int32))
            answers.append(np.array(sides[1], np.int32))
        return queries, answers

    def _cut(self, side: list[int]) -> list[int]:
        after = list(self.given.tokenizer.after)
        return side if len(side) <= self.most else [*side[: self.most - len(after)], *after]


def _pairs(examples: Sequence[Example]) -> list[Pair]:
    found = []
    for example in examples:
        if not isinstance(example, Pair):
            raise DataError(
                f"{example.origin.place}: a {kind_of(example)}",
                expected="a pair: a query and a text that answers it",
                fix="see data.format (`paddock data inspect` says what a file holds), or use another task",
            )
        if not (example.source.strip() and example.target.strip()):
            raise DataError(f"{example.origin.place}: an empty text", expected="two texts")
        found.append(example)
    return found
