"""SimHash for long texts such as books: 64 bits each, near copies differ in few of them (Charikar, 2002)."""

from __future__ import annotations

import numpy as np

from paddock.data.cleaning.stage import Item, Outcome, Stage, removed
from paddock.data.cleaning.words import shingles, word_hashes, words

BITS = 64
BLOCK = 8192  # shingles whose bits are counted at a time


def simhash(text: str, shingle: int) -> int:
    """Each bit is what most of the text's different shingles have there; half and half is 0."""
    hashes = np.unique(shingles(word_hashes(words(text)), shingle))
    ones = np.zeros(BITS, np.int64)
    for start in range(0, len(hashes), BLOCK):
        little = hashes[start : start + BLOCK].astype("<u8").view(np.uint8).reshape(-1, 8)
        ones += np.unpackbits(little, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    return int(np.packbits(2 * ones > len(hashes), bitorder="little").view("<u8")[0])


def distances(one: int, others: np.ndarray) -> np.ndarray:
    """In how many bits a number differs from each of (n,) uint64."""
    apart = others ^ np.uint64(one)
    return np.unpackbits(apart.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)


class SimHash(Stage):
    """Removes a text within `distance` bits of one that was kept.

    It is compared with all of them: 16 bytes and some nanoseconds for each, which suits books by the hundred thousand,
    not pages by the billion. A text without words is like no other.
    """

    RECORD = np.dtype([("hash", "<u8"), ("number", "<i8")])

    def __init__(self, shingle: int, distance: int) -> None:
        self.shingle, self.distance = shingle, distance
        self._kept = np.zeros(1024, self.RECORD)
        self._count = self._told = 0

    def apply(self, item: Item) -> Outcome:
        found = simhash(item.document.text, self.shingle)
        if not found:
            return Outcome(item.document)
        kept = self._kept[: self._count]
        apart = distances(found, np.ascontiguousarray(kept["hash"]))
        if len(apart) and int(apart.min()) <= self.distance:
            before = int(kept["number"][int(apart.argmin())])
            return removed("near copy", f"{int(apart.min())} of 64 bits apart from document {before}", before)
        self._add(np.array([(found, item.number)], self.RECORD))
        return Outcome(item.document)

    def _add(self, records: np.ndarray) -> None:
        while self._count + len(records) > len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros_like(self._kept)])
        self._kept[self._count : self._count + len(records)] = records
        self._count += len(records)

    def learned(self) -> bytes:
        data = self._kept[self._told : self._count].tobytes()
        self._told = self._count
        return data

    def restore(self, data: bytes) -> None:
        self._add(np.frombuffer(data, self.RECORD))
        self._told = self._count
