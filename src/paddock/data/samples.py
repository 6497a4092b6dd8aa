"""Samples: what one row of a batch is made of, before an objective makes a batch of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paddock.data.batch import Batch


@dataclass(frozen=True, eq=False)
class Sample:
    """The documents (or pieces of documents) that share one row, as token ids, in order.

    place: where in the endless stream of samples this one stands. random: drawn from the stream's seed and `place`
    alone, so that masks and spans do not depend on batch sizes or ranks.
    """

    texts: tuple[np.ndarray, ...]
    place: int
    random: np.random.Generator


class Table(Protocol):
    """Samples that can be asked for by number: token sequences, pairs of texts, mixtures."""

    def __len__(self) -> int:
        """How many make an epoch."""
        ...

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        """The documents of sample `number`. A table of pairs gives (source, target)."""
        ...


class Prepare(Protocol):
    """How an objective makes a batch of samples: what is hidden, and what is asked for."""

    @property
    def takes(self) -> int:
        """The most tokens a sample may have (each of its texts, where those are a pair)."""
        ...

    def __call__(self, samples: Sequence[Sample]) -> Batch: ...
