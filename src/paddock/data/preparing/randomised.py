"""Positions drawn at random in training, so that a model meets every distance (Giraffe, arXiv 2308.10882)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from paddock.data.batch import Batch
from paddock.data.samples import Prepare, Sample


@dataclass(frozen=True)
class Randomised:
    """Batches of `inner` whose positions go on by steps drawn from [0, 2), 1 on average, and never beyond `most`.

    Each document of a row begins at 0. Positions are float32 and for rotary encodings only, which take any number.
    A sample's are drawn from its own random numbers, so that a run comes out the same again.
    """

    inner: Prepare
    most: int

    @property
    def takes(self) -> int:
        """The most tokens a sample may have."""
        return self.inner.takes

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        batch = self.inner(samples)
        tokens = batch.ids.shape[1]
        documents = np.zeros(batch.ids.shape, np.int64) if batch.documents is None else batch.documents.numpy()
        rows = [
            self._positions(sample.random.uniform(0.0, 2.0, tokens), row)
            for sample, row in zip(samples, documents, strict=True)
        ]
        return replace(batch, positions=torch.from_numpy(np.stack(rows).astype(np.float32)))

    def _positions(self, steps: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """(tokens,) the sums of a row's steps, counted from the first token of each document."""
        reached = np.cumsum(steps)
        starts = np.flatnonzero(np.diff(documents, prepend=documents[0] - 1))
        begun = np.repeat(reached[starts], np.diff([*starts, len(documents)]))
        return np.minimum(reached - begun, self.most)
