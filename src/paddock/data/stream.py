"""The endless stream of batches: batch `step` is a function of the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from paddock.data.batch import Batch
from paddock.data.mixing import Mixture
from paddock.data.order import Order
from paddock.data.samples import Prepare, Sample, Table
from paddock.errors import UsageError


class _Places(Protocol):
    """Samples by their place in the endless stream."""

    def texts(self, place: int) -> tuple[np.ndarray, ...]: ...


class _Ordered:
    """A table, epoch after epoch."""

    def __init__(self, table: Table, seed: int, shuffle: bool) -> None:
        self._table, self._order = table, Order(len(table), seed, shuffle)

    def texts(self, place: int) -> tuple[np.ndarray, ...]:
        return self._table.texts(self._order[place])


@dataclass(frozen=True)
class BatchStream:
    """Batches of `rows` samples of a table or a mixture, in an order drawn from `seed`.

    As nothing depends on what was read before, a run resumes at any step, two models of different sizes read the same
    batches, and a rank of many reads only its own rows.
    """

    table: Table
    prepare: Prepare
    rows: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.rows < 1 or not len(self.table):
            raise UsageError(f"batches of {self.rows} rows from {len(self.table)} samples", expected="some of both")
        mixed = isinstance(self.table, Mixture)
        places = self.table.ordered if mixed else lambda *how: _Ordered(self.table, *how)  # type: ignore[attr-defined]
        object.__setattr__(self, "_places", places(self.seed, self.shuffle))

    @property
    def steps_per_epoch(self) -> float:
        return len(self.table) / self.rows

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Batch `step` (from 0), or the rows of it that are `rank`'s: every `ranks`-th, from the `rank`-th on.

        Raises UsageError where a rank would have no row.
        """
        if not 0 <= rank < ranks <= self.rows:
            fix = f"make the batch at least {ranks} rows, or use fewer processes" if ranks > self.rows else None
            raise UsageError(f"rank {rank} of {ranks} in a batch of {self.rows} rows", expected="a row each", fix=fix)
        return self._batch(
            [self.sample(place) for place in range(step * self.rows + rank, (step + 1) * self.rows, ranks)]
        )

    def sample(self, place: int) -> Sample:
        """The sample at a place of the stream."""
        places: _Places = self._places  # type: ignore[attr-defined]
        return Sample(places.texts(place), place, _random(self.seed, place, 1))

    def once(self) -> Iterator[Batch]:
        """Every sample of the table once, as they lie, in batches; the last may be short. For validation."""
        for start in range(0, len(self.table), self.rows):
            numbers = range(start, min(start + self.rows, len(self.table)))
            yield self._batch([Sample(self.table.texts(n), n, _random(self.seed, n, 2)) for n in numbers])

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        return replace(self.prepare(samples), samples=torch.tensor([sample.place for sample in samples]))


class Ahead:
    """A stream whose next batch is made by a thread while this one is trained on. What `at` gives is the same.

    For machines that compute elsewhere than where batches are made. Works for one rank, step after step; any other
    step is simply made when asked for. For `with`, which ends the thread.
    """

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        self._thread = ThreadPoolExecutor(1, "batches")
        self._coming: dict[tuple[int, int, int], Future[Batch]] = {}

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """`BatchStream.at`."""
        made = self._coming.pop((step, rank, ranks), None)
        self._coming = {(step + 1, rank, ranks): self._thread.submit(self._stream.at, step + 1, rank, ranks)}
        return self._stream.at(step, rank, ranks) if made is None else made.result()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *unused: object) -> None:
        self._thread.shutdown(cancel_futures=True)


def _random(seed: int, place: int, use: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, place, use]))
