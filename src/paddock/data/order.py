"""Which sample comes when: shuffled anew each epoch, and known for any place in the stream without walking to it."""

from __future__ import annotations

import functools

import numpy as np


class Order:
    """A permutation of `count` samples for each epoch, drawn from `seed` and the epoch alone.

    `order[k]` is the sample at place k of the endless stream (epoch k // count). Without `shuffle` samples come as they
    lie. Memory: 8 bytes a sample, for the epoch last asked for.
    """

    def __init__(self, count: int, seed: int, shuffle: bool = True) -> None:
        assert count > 0, "an order of nothing"
        self.count, self.seed, self.shuffle = count, seed, shuffle
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def __getitem__(self, place: int) -> int:
        epoch, offset = divmod(place, self.count)
        return int(self._epoch(epoch)[offset]) if self.shuffle else offset

    def _permutation(self, epoch: int) -> np.ndarray:
        # PCG64 and its permutation are the same on every platform and NumPy release (NEP 19 keeps the bit generator;
        # the shuffle below is our own argsort of its raw output).
        raw = np.random.Generator(np.random.PCG64([self.seed, epoch])).integers(0, 2**63, self.count, dtype=np.int64)
        return np.argsort(raw, kind="stable")
