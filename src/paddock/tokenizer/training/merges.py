"""Byte pair encoding learnt exactly: the pair that is most frequent, and of equals the lexicographically greater one.

The tokenizers library breaks ties by the ids of the pieces instead, and numbers the alphabet of WordPiece by the order
of a hash table, so that two runs differ. This learner has one answer, whatever the order of the words. Counts are kept
up to date merge by merge (Sennrich et al. 2016), and the best pair comes from a heap that is corrected when popped.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

BARRIER = -1  # a place in a word that nothing is joined across


class Merge(NamedTuple):
    left: int
    right: int
    piece: int
    times: int


def learn(
    words: list[list[int]],
    counts: Sequence[int],
    keys: list[bytes],
    join: Callable[[int, int], int],
    least: int = 1,
) -> Iterator[Merge]:
    """Merges, best first, until no pair is left that occurs `least` times; the caller stops when it has enough.

    words: as ids, changed in place; counts: of each word. keys: what each id stands for, by which ties are broken.
    join: the id of the piece that two make; where that is new, it adds to `keys`.
    """
    pairs: defaultdict[tuple[int, int], int] = defaultdict(int)
    where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            if BARRIER not in pair:
                pairs[pair] += counts[index]
                where[pair].add(index)
    orders = [_descending(key) for key in keys]
    heap = [(-count, orders[a], orders[b], a, b) for (a, b), count in pairs.items()]
    heapq.heapify(heap)
    while heap:
        negative, first, second, left, right = heapq.heappop(heap)
        count = pairs.get((left, right), 0)
        if count != -negative:  # it has fallen since; what grows is put in anew
            if 0 < count < -negative:
                heapq.heappush(heap, (-count, first, second, left, right))
            elif not count:
                pairs.pop((left, right), None)
            continue
        if count < least:
            return
        piece = join(left, right)
        orders += [_descending(key) for key in keys[len(orders) :]]
        yield Merge(left, right, piece, count)
        for a, b in _apply(words, counts, pairs, where, (left, right), piece):
            if pairs[a, b] > 0:
                heapq.heappush(heap, (-pairs[a, b], orders[a], orders[b], a, b))
        del pairs[left, right]


def _apply(
    words: list[list[int]],
    counts: Sequence[int],
    pairs: defaultdict[tuple[int, int], int],
    where: defaultdict[tuple[int, int], set[int]],
    pair: tuple[int, int],
    piece: int,
) -> set[tuple[int, int]]:
    """Joins `pair` in every word that may have it; the pairs that there are more of now."""
    left, right = pair
    grown: set[tuple[int, int]] = set()
    for index in where.pop(pair):
        word, count = words[index], counts[index]
        new: list[int] = []
        start, at = 0, _find(word, pair, 0)
        while at >= 0:  # one after another, so that a neighbour may be a piece that was just made
            new += word[start:at]
            start = at + 2
            if new and (before := new[-1]) != BARRIER:
                pairs[before, left] -= count
                pairs[before, piece] += count
                where[before, piece].add(index)
                grown.add((before, piece))
            if start < len(word) and (after := word[start]) != BARRIER:
                pairs[right, after] -= count
                pairs[piece, after] += count
                where[piece, after].add(index)
                grown.add((piece, after))
            new.append(piece)
            at = _find(word, pair, start)
        if start:
            words[index] = new + word[start:]
    return grown


def _find(word: list[int], pair: tuple[int, int], start: int) -> int:
    """Where `pair` stands in `word` from `start` on, or -1."""
    left, right = pair
    last = len(word) - 1
    try:
        while True:
            start = word.index(left, start, last)
            if word[start + 1] == right:
                return start
            start += 1
    except ValueError:
        return -1


def _descending(key: bytes) -> str:
    """A string that sorts in the opposite order of `key`: of two that begin alike, the longer goes first."""
    return "".join(chr(255 - byte) for byte in key) + "\u0100"
