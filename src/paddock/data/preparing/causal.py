"""Next token: every token is asked for the one after it, within its document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.samples import Sample


@dataclass(frozen=True)
class Causal:
    """Rows of `length` tokens; a row shorter than that is padded at its end with `pad`, which nothing asks about.

    `isolated`: a document of a row does not see those before it, and its positions count from 0. Otherwise the row is
    one text to the model, as Pythia's was.
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
        documents, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, sample in enumerate(samples):
            whole = np.concatenate(sample.texts)[: self.length + 1].astype(np.int64)
            count = min(len(whole), self.length)
            ids[row, :count] = whole[:count]
            targets[row, : len(whole) - 1] = whole[1:]
            starts = np.cumsum([0, *(len(text) for text in sample.texts[:-1])])
            for number, start in enumerate(starts[starts < self.length]):
                documents[row, start:] = number
                positions[row, start:] = np.arange(self.length - start)
                if self.isolated and start:
                    targets[row, start - 1] = IGNORED  # the next document's first token follows from nothing here
        apart = self.isolated and bool((documents != 0).any())
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(targets),
            positions=torch.from_numpy(positions) if apart else None,
            documents=torch.from_numpy(documents) if apart else None,
        )
