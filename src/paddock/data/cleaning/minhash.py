"""MinHash: how alike two texts are, from a few numbers each; and which texts of many are nearly the same.

Broder, "On the resemblance and containment of documents" (1997). The share of equal numbers in two signatures estimates
the Jaccard similarity of their sets of shingles, with a standard deviation of sqrt(J (1 - J) / permutations).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paddock.data.cleaning.words import shingles, word_hashes, words

BLOCK = 2048  # shingles at a time: BLOCK x permutations x 4 bytes stay in a cache
EMPTY = np.uint32(0xFFFFFFFF)  # every number of a text without words


@dataclass(frozen=True)
class MinHash:
    """`permutations` orders of 32-bit shingle hashes, drawn from `seed`; a signature is the least hash in each."""

    permutations: int = 128
    shingle: int = 5
    seed: int = 1

    @cached_property
    def _parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Factors (odd: a permutation of 32-bit numbers) and summands, (permutations, 1) uint32 each."""
        random = np.random.Generator(np.random.PCG64(self.seed))
        drawn = random.integers(0, 2**32, (2, self.permutations, 1), dtype=np.uint64).astype(np.uint32)
        return drawn[0] | np.uint32(1), drawn[1]

    @cached_property
    def _scratch(self) -> np.ndarray:
        return np.empty((self.permutations * BLOCK,), np.uint32)

    def signature(self, text: str) -> np.ndarray:
        """(permutations,) uint32."""
        return self.of_hashes(word_hashes(words(text)))

    def of_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """The signature of a text whose words have these hashes."""
        # The upper half of well mixed 64 bits. Products wrap at 32 bits, which the processor does 8 or 16 at a time.
        sets = (shingles(hashes, self.shingle) >> np.uint64(32)).astype(np.uint32)
        factors, summands = self._parameters
        least = np.full(self.permutations, EMPTY)
        for start in range(0, len(sets), BLOCK):
            block = sets[start : start + BLOCK]
            orders = self._scratch[: self.permutations * len(block)].reshape(self.permutations, len(block))
            np.multiply(factors, block, out=orders)
            np.add(orders, summands, out=orders)
            np.minimum(least, orders.min(axis=1), out=least)
        return least


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The estimated Jaccard similarity of signatures, over the last axis."""
    return (one == other).mean(axis=-1)
