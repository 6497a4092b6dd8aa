"""From signatures to clusters of near duplicates: banding finds pairs, signatures confirm them, the first one stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paddock.data.cleaning.minhash import EMPTY, similarity
from paddock.data.cleaning.words import mix

PAIRS = 65536  # confirmed at a time: PAIRS x 2 x permutations x 4 bytes


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """One number (bands, texts) uint64 for the `rows` numbers in each band of (texts, permutations) uint32."""
    keys = np.zeros((bands, len(signatures)), np.uint64)
    for band in range(bands):
        for row in range(band * rows, (band + 1) * rows):
            keys[band] ^= signatures[:, row]
            mix(keys[band])
    return keys


def first_of_cluster(
    signatures: np.ndarray, keys: np.ndarray, threshold: float, told: Callable[[int], None] | None = None
) -> np.ndarray:
    """For each text the first text of its cluster, (texts,) int64.

    signatures (texts, permutations) uint32 and keys (bands, texts) uint64 may lie in files. Two texts are a candidate
    pair when their keys are equal in some band (chance 1 - (1 - J^rows)^bands, Leskovec, Rajaraman & Ullman, "Mining of
    Massive Datasets", 3.4), and a pair when their signatures agree in a share of `threshold`. A cluster is connected by
    pairs. In a band, a text is compared with the first and with the one before it of those that share its key, not
    with all: clusters of a million copies cost a million comparisons.
    Memory: 50 bytes a text. `told`: called with the number of bands that are done.
    """
    texts = len(signatures)
    parent = np.arange(texts, dtype=np.int64)
    for band in range(len(keys)):
        order = np.argsort(keys[band], kind="stable")  # equal keys stay in the order of documents
        ordered = keys[band][order]
        new = np.append([True], ordered[1:] != ordered[:-1])[:texts]
        first = np.maximum.accumulate(np.where(new, np.arange(texts), 0))
        same = np.flatnonzero(~new)
        for others in (first[same], same - 1):
            _join(parent, signatures, order[others], order[same], threshold)
        if told:
            told(band + 1)
    return _roots(parent)


def _join(parent: np.ndarray, signatures: np.ndarray, ones: np.ndarray, others: np.ndarray, threshold: float) -> None:
    """Puts pairs that their signatures confirm into one cluster. ones, others: (pairs,)."""
    for start in range(0, len(ones), PAIRS):
        one, other = ones[start : start + PAIRS], others[start : start + PAIRS]
        left = signatures[one]
        alike = (similarity(left, signatures[other]) >= threshold) & (left != EMPTY).any(axis=1)
        for a, b in zip(one[alike].tolist(), other[alike].tolist(), strict=True):
            a, b = _root(parent, a), _root(parent, b)
            parent[max(a, b)] = min(a, b)  # the first document is the root


def _root(parent: np.ndarray, text: int) -> int:
    while (above := int(parent[text])) != text:
        parent[text] = parent[above]  # halves the path for who comes next
        text = above
    return text


def _roots(parent: np.ndarray) -> np.ndarray:
    """Every text's root; parents come before their children, so steps of doubling reach it."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return parent
        parent = above
