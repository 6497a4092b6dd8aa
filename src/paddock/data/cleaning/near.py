"""Near duplicates in two passes: every document leaves a signature; when all are known, those that are copies go."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from paddock.checkpoint.writing import write_bytes
from paddock.data.cleaning.clusters import band_keys, first_of_cluster
from paddock.data.cleaning.minhash import MinHash
from paddock.data.cleaning.recipe import Near
from paddock.data.cleaning.stage import Item, Outcome, Stage, removed


class Collect(Stage):
    """Takes a signature of every document, and lets it pass.

    On disk, for each document: its number (8 bytes), its signature (4 a permutation) and its keys (8 a band).
    """

    def __init__(self, asked: Near) -> None:
        self.asked = asked
        self._minhash = MinHash(asked.permutations, asked.shingle, asked.seed)
        self._numbers: list[int] = []
        self._signatures: list[np.ndarray] = []

    def apply(self, item: Item) -> Outcome:
        self._numbers.append(item.number)
        self._signatures.append(self._minhash.signature(item.document.text))
        return Outcome(item.document)

    def learned(self) -> bytes:
        signatures = np.array(self._signatures, "<u4").reshape(-1, self.asked.permutations)
        keys = band_keys(signatures, self.asked.bands, self.asked.rows).astype("<u8")
        data = np.array(self._numbers, "<i8").tobytes() + signatures.tobytes() + keys.tobytes()
        self._numbers.clear()
        self._signatures.clear()
        return data

    def restore(self, data: bytes) -> None:
        """Nothing: what was collected is looked at when all is."""


def row_bytes(asked: Near) -> int:
    """What `Collect` learns of one document."""
    return 8 + 4 * asked.permutations + 8 * asked.bands


def decide(
    asked: Near, documents: int, parts: Iterable[bytes], folder: Path, told: Callable[[int], None] | None = None
) -> None:
    """Writes `folder`/near.npy: the numbers of the documents that go and of those they are copies of, (2, gone) int64.

    parts: what `Collect.learned` gave, in order. Signatures and keys are put together in files beside, which memory
    maps; in memory there are 50 bytes a document.
    """
    numbers = np.zeros(documents, np.int64)
    signatures = _file(folder / "signatures.npy", np.uint32, (documents, asked.permutations))
    keys = _file(folder / "keys.npy", np.uint64, (asked.bands, documents))
    at, row = 0, row_bytes(asked)
    for data in parts:
        count = len(data) // row
        inside = slice(at, at + count)
        numbers[inside] = np.frombuffer(data, "<i8", count)
        flat = np.frombuffer(data, "<u4", count * asked.permutations, 8 * count)
        signatures[inside] = flat.reshape(count, asked.permutations)
        start = count * (8 + 4 * asked.permutations)
        keys[:, inside] = np.frombuffer(data, "<u8", offset=start).reshape(asked.bands, count)
        at += count
    assert at == documents, "a signature for every document"
    first = first_of_cluster(signatures, keys, asked.threshold, told)
    gone = np.flatnonzero(first != np.arange(documents))
    out = io.BytesIO()
    np.save(out, np.stack([numbers[gone], numbers[first[gone]]]), allow_pickle=False)
    write_bytes(folder / "near.npy", out.getvalue())
    for name in ("signatures.npy", "keys.npy"):
        (folder / name).unlink()


def _file(path: Path, dtype: type, shape: tuple[int, int]) -> np.ndarray:
    if not shape[0] * shape[1]:
        path.touch()
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


class NearDuplicates(Stage):
    """Removes the documents that `decide` found; the first of each cluster, in document order, stays."""

    def __init__(self, folder: Path) -> None:
        # Mapped: 16 bytes for each document that goes.
        self._gone, self._like = np.load(folder / "near.npy", mmap_mode="r", allow_pickle=False)

    def apply(self, item: Item) -> Outcome:
        at = int(np.searchsorted(self._gone, item.number))
        if at < len(self._gone) and self._gone[at] == item.number:
            first = int(self._like[at])
            return removed("near duplicate", f"nearly the same text as document {first}", first)
        return Outcome(item.document)
