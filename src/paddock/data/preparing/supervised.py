"""Next token where only some are asked for: answers, not the questions before them.

A supervised sequence is one array of int64 in which a token that nobody asks for is stored as its complement `~id`,
which is negative. So what is asked for travels with the tokens through tables, packing and mixing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing.causal import Causal
from paddock.data.samples import Sample
from paddock.data.tokens import Tokens
from paddock.model.spec import Prefix
from paddock.model.step import blank_positions


def coded(ids: Sequence[int], asked: Iterable[tuple[int, int]]) -> np.ndarray:
    """(tokens,) int64: `ids`, of which those in the spans `asked` are asked for."""
    given = np.asarray(ids, np.int64)
    found = ~given
    for start, stop in asked:
        found[start:stop] = given[start:stop]
    return found


def ids_of(sequence: np.ndarray) -> np.ndarray:
    """(tokens,) the ids, asked for or not."""
    return np.where(sequence < 0, ~sequence, sequence)


def sequences(coded: Sequence[np.ndarray], name: str) -> Tokens:
    """Supervised sequences as documents for `data.packing`. `name` is for messages."""
    ids = np.concatenate(coded) if coded else np.zeros(0, np.int64)
    return Tokens(ids, np.cumsum([len(each) for each in coded], dtype=np.int64), name=name)


@dataclass(frozen=True)
class Supervised:
    """`Causal` rows of supervised sequences: place i is asked for token i + 1 of its sequence, if anybody asks for it.

    Sequences that share a row never see each other. A sequence's first token follows from nothing and is never asked
    for. Raises DataError for a sample of more tokens than it `takes`.
    """

    length: int
    pad: int = 0

    @property
    def takes(self) -> int:
        """The most tokens a sample may have: the last is only asked for."""
        return self.length + 1

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        plain = [replace(sample, texts=tuple(map(ids_of, sample.texts))) for sample in samples]
        batch = Causal(self.length, self.pad)(plain)
        asked = np.zeros((len(samples), self.length), bool)
        for row, sample in enumerate(samples):
            whole = np.concatenate(sample.texts)
            asked[row, : max(0, len(whole) - 1)] = whole[1:] >= 0
        return replace(batch, targets=batch.targets.masked_fill(~torch.from_numpy(asked), IGNORED))


@dataclass(frozen=True)
class SupervisedBlanks(Supervised):
    """The same for a GLM: a row is one sequence, which sees all of itself up to the start token, and is written from
    there on. Raises UsageError for a sequence without GLM's mask and start tokens."""

    mask: Prefix = field(kw_only=True)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        assert all(len(sample.texts) == 1 for sample in samples), "a row of a GLM is one text"
        batch = super().__call__(samples)
        positions, prefix = blank_positions(self.mask, batch.ids)
        return replace(batch, positions=positions, prefix=prefix)
