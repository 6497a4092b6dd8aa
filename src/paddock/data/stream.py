"""The endless stream of batches: batch `step` is a function of the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from paddock.data.batch import Batch
from paddock.data.order import Order
from paddock.data.samples import Prepare, Sample, Table


@dataclass(frozen=True)
class BatchStream:
    """Batches of `rows` samples of a table, in an order drawn from `seed`.

    As nothing depends on what was read before, a run resumes at any step, two models of different sizes read the same
    batches, and a rank of many reads only its own rows.
    """

    table: Table
    prepare: Prepare
    rows: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", Order(len(self.table), self.seed, self.shuffle))

    @property
    def steps_per_epoch(self) -> float:
        return len(self.table) / self.rows

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Batch `step` (from 0), or the rows of it that are `rank`'s: every `ranks`-th, from the `rank`-th on."""
        places = range(step * self.rows + rank, (step + 1) * self.rows, ranks)
        batch = self.prepare([self.sample(place) for place in places])
        return replace(batch, samples=torch.tensor(list(places)))

    def sample(self, place: int) -> Sample:
        """The sample at a place of the stream."""
        order: Order = self._order  # type: ignore[attr-defined]
        random = np.random.Generator(np.random.PCG64([self.seed, place, 1]))
        return Sample(self.table.texts(order[place]), place, random)

    def once(self) -> Iterator[Batch]:
        """Every sample of the table once, as they lie, in batches; the last may be short. For validation."""
        for start in range(0, len(self.table), self.rows):
            places = range(start, min(start + self.rows, len(self.table)))
            random = [np.random.Generator(np.random.PCG64([self.seed, place, 2])) for place in places]
            samples = [Sample(self.table.texts(n), n, r) for n, r in zip(places, random, strict=True)]
            yield replace(self.prepare(samples), samples=torch.tensor(list(places)))
