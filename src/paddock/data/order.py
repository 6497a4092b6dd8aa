"""Which sample comes when: shuffled anew each epoch, and known for any place in the stream without walking to it."""

from __future__ import annotations

import functools
import hashlib
import math

ROUNDS = 8
NARROWEST = 8  # below this a side leaves the rounds too little room: of six samples some orders would never come
MASK = 2**64 - 1


class Permutation:
    """A keyed shuffle of 0 .. count - 1 that is computed, not stored: no memory, whatever the count.

    A Feistel network over Z_side x Z_side with side = ceil(sqrt(count)) permutes a little more than `count` numbers;
    what falls beyond is permuted again until it falls inside (cycle walking; Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002), which from 64 on takes fewer than two turns on average. Integer arithmetic alone,
    so the same on every platform and in every release of Python and NumPy.
    """

    def __init__(self, count: int, *key: int) -> None:
        assert count > 0, "a permutation of nothing"
        self.count = count
        self._side = max(NARROWEST, math.isqrt(count - 1) + 1)
        digest = hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=8 * ROUNDS).digest()
        self._keys = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, len(digest), 8)]

    def __getitem__(self, place: int) -> int:
        assert 0 <= place < self.count, "a place outside the permutation"
        side = self._side
        while True:
            left, right = divmod(place, side)
            for key in self._keys:
                left, right = right, (left + _mixed(right ^ key)) % side
            place = left * side + right
            if place < self.count:
                return place


class Order:
    """A permutation of `count` samples for each epoch, drawn from `seed` and the epoch alone.

    `order[k]` is the sample at place k of the endless stream (epoch k // count). Without `shuffle` samples come as they
    lie.
    """

    def __init__(self, count: int, seed: int, shuffle: bool = True) -> None:
        assert count > 0, "an order of nothing"
        self.count, self.seed, self.shuffle = count, seed, shuffle
        self._epoch = functools.lru_cache(maxsize=2)(lambda epoch: Permutation(count, seed, epoch))

    def __getitem__(self, place: int) -> int:
        epoch, offset = divmod(place, self.count)
        return self._epoch(epoch)[offset] if self.shuffle else offset


def _mixed(x: int) -> int:
    """64 bits, each of which depends on all of x (the finaliser of SplitMix64)."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)
