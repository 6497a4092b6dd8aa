"""Token shards: documents as token ids in memory-mapped files, with an index."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Tokens:
    """Documents as token ids one after another, and where each ends.

    ids (tokens,) of an unsigned type; ends (documents,) int64: document i is ids[ends[i - 1] : ends[i]].
    """

    def __init__(self, ids: np.ndarray, ends: np.ndarray) -> None:
        self.ids, self.ends = ids, ends

    @classmethod
    def of(cls, documents: Iterable[Iterable[int]]) -> Tokens:
        """In memory, for small data and tests."""
        arrays = [np.asarray(list(document), dtype=np.uint32) for document in documents]
        ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint32)
        return cls(ids, np.cumsum([len(array) for array in arrays], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def document(self, number: int) -> np.ndarray:
        return self.ids[self.ends[number - 1] if number else 0 : self.ends[number]]
