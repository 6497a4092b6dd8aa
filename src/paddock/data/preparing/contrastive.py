"""Pairs of texts in groups: each query's own answer is to be told from the group's others.

How hard that is depends on which pairs are compared, so a group is one row of a batch: it is made from the seed before
training, and neither micro-batches nor ranks cut it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.order import Permutation
from paddock.data.preparing import rows
from paddock.data.samples import Sample
from paddock.errors import DataError

OPEN = 64  # groups that are filled at a time


def grouped(pairs: Sequence[tuple[Hashable, Hashable]], size: int, seed: int) -> list[list[int]]:
    """Numbers of pairs in groups of just `size`, in an order drawn from the seed; no text is twice in a group.

    A text that came twice would be asked for and against at once. A pair goes into the first of the groups being filled
    that has neither of its texts. What fills no group is left out.
    """
    done: list[list[int]] = []
    filling: list[tuple[list[int], set[Hashable]]] = []
    order = Permutation(max(1, len(pairs)), seed)
    for number in (order[place] for place in range(len(pairs))):
        texts = set(pairs[number])
        free = next((each for each in filling if not each[1] & texts), None)
        if free is None:
            if len(filling) == OPEN:
                continue
            free = ([], set())
            filling.append(free)
        free[0].append(number)
        free[1].update(texts)
        if len(free[0]) == size:
            done.append(free[0])
            filling.remove(free)
    return done


class GroupTable:
    """Groups of pairs as rows: the ids of all queries, then of all answers."""

    def __init__(
        self, queries: Sequence[np.ndarray], answers: Sequence[np.ndarray], groups: Sequence[list[int]]
    ) -> None:
        self._queries, self._answers, self._groups = queries, answers, groups

    def __len__(self) -> int:
        return len(self._groups)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        group = self._groups[number]
        return (*(self._queries[pair] for pair in group), *(self._answers[pair] for pair in group))


@dataclass(frozen=True)
class Contrastive:
    """A row is a group of `size` pairs: their 2 * size texts side by side, each padded to the longest of the batch.

    `ids` and `padding` are (rows, 2 * size * width); `labels` (rows, size) say which answer is each query's.
    Raises DataError for a text of more tokens than it `takes`.
    """

    length: int
    size: int
    pad: int

    @property
    def takes(self) -> int:
        return self.length

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        texts = [text.astype(np.int64) for sample in samples for text in sample.texts]
        longest = max(map(len, texts))
        if longest > self.length:
            raise DataError(
                f"a text has {longest} tokens, and there is room for {self.length}", fix="raise data.length, or cut it"
            )
        width = rows.width(longest, self.length)
        ids = rows.table(texts, width, self.pad).view(len(samples), -1)
        real = torch.arange(width) < torch.tensor([[len(text)] for text in texts])
        return Batch(
            ids,
            torch.full_like(ids, IGNORED),
            padding=real.view(len(samples), -1),
            labels=torch.arange(self.size).expand(len(samples), -1).contiguous(),
        )
