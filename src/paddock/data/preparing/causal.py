"""Next token: every token is asked for the one after it, within its document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.samples import Sample
from paddock.errors import DataError


@dataclass(frozen=True)
class Causal:
    """Rows of `length` tokens; a row shorter than that is padded at its end with `pad`, which nothing asks about.

    `isolated`: a document of a row does not see those before it, and its positions count from 0. Otherwise the row is
    one text to the model, as Pythia's was.
    Raises DataError for a sample of more tokens than it `takes`.
    """

    length: int
    pad: int = 0
    isolated: bool = True

    @property
    def takes(self) -> int:
        """The most tokens a sample may have: the last is only asked for."""
        return self.length + 1

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        shape = (len(samples), self.length)
        ids, targets = np.full(shape, self.pad, np.int64), np.full(shape, IGNORED, np.int64)
        documents, positions = np.zeros(shape, np.int64), np.tile(np.arange(self.length), (len(samples), 1))
        for row, sample in enumerate(samples):
            whole = sample.texts[0] if len(sample.texts) == 1 else np.concatenate(sample.texts)
            self._check(sample.place, len(whole))
            count = min(len(whole), self.length)
            ids[row, :count] = whole[:count]
            targets[row, : max(0, len(whole) - 1)] = whole[1:]
            if self.isolated:
                sizes = [len(text) for text in sample.texts if len(text)]
                starts = np.cumsum([0, *sizes[:-1]])
                starts = starts[starts < self.takes]
                targets[row, starts[1:] - 1] = IGNORED  # the next document's first token follows from nothing here
                self._number(documents[row], positions[row], starts[starts < self.length])
        apart = bool(documents.any())
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(targets),
            positions=torch.from_numpy(positions) if apart else None,
            documents=torch.from_numpy(documents) if apart else None,
        )

    def _number(self, documents: np.ndarray, positions: np.ndarray, starts: np.ndarray) -> None:
        """Writes which document each place of a row is of, and its position in it."""
        documents[starts[1:]] = 1
        np.cumsum(documents, out=documents)
        positions -= starts[documents]

    def _check(self, place: int, found: int) -> None:
        if found > self.takes:
            what = f"sample {place} has {found} tokens, and a row has room for {self.takes}"
            raise DataError(what, fix="pack documents into rows of the same length")
