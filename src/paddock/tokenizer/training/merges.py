"""Byte pair encoding learnt exactly: the pair that is most frequent, and of equals the lexicographically greater one.

The tokenizers library breaks ties by the ids of the pieces instead, and numbers the alphabet of WordPiece by the order
of a hash table, so that two runs differ. This learner has one answer, whatever the order of the words. Counts are kept
up to date merge by merge (Sennrich et al. 2016), and the best pair comes from a heap that is corrected when popped.
All words lie in one array, and all places of a pair are joined at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

BARRIER = -1  # a place in a word that nothing is joined across
GONE = -2  # a place whose token has become part of the one before it

Pair = tuple[int, int]


class Merge(NamedTuple):
    left: int
    right: int
    piece: int
    times: int


class Found(NamedTuple):
    """A pair with how often it occurs now, and where."""

    pair: Pair
    times: int
    places: np.ndarray


def learn(
    words: Sequence[Sequence[int]],
    counts: Sequence[int],
    keys: list[bytes],
    join: Callable[[int, int], int],
    least: int = 1,
) -> Iterator[Merge]:
    """Merges, best first, until no pair is left that occurs `least` times; the caller stops when it has enough.

    words: as ids; counts: of each word. keys: what each id stands for, by which ties are broken.
    join: the id of the piece that two make; where that is new, it adds to `keys`.
    """
    line = _Line(words, counts)
    pairs: dict[Pair, int] = {}  # those that occur `least` times: the others count only once they are found anew
    where: dict[Pair, np.ndarray] = {}
    heap: list[tuple[int, str, str, int, int]] = []
    orders = [_descending(key) for key in keys]
    for pair, count, places in line.all_pairs(least):
        pairs[pair], where[pair] = count, places
        heap.append((-count, orders[pair[0]], orders[pair[1]], *pair))
    heapq.heapify(heap)
    seen = line.ids()
    while heap:
        negative, first, second, left, right = heapq.heappop(heap)
        count = pairs.get((left, right), 0)
        if count != -negative:  # it has fallen since; what is found anew is put in anew
            if 0 < count < -negative:
                heapq.heappush(heap, (-count, first, second, left, right))
            continue
        piece = join(left, right)
        orders += [_descending(key) for key in keys[len(orders) :]]
        yield Merge(left, right, piece, count)
        del pairs[left, right]
        joined = line.join((left, right), where.pop((left, right)), piece)
        for pair, lost in joined:
            if pair in pairs:
                pairs[pair] -= lost
                if pairs[pair] < least:
                    del pairs[pair], where[pair]
        for pair, count, places in line.pairs_of(piece, line.joined if piece not in seen else None, least):
            pairs[pair], where[pair] = count, places
            heapq.heappush(heap, (-count, orders[pair[0]], orders[pair[1]], *pair))
        seen.add(piece)


class _Line:
    """All words one behind the other, barriers between them: tokens (places,), a list that is linked both ways."""

    def __init__(self, words: Sequence[Sequence[int]], counts: Sequence[int]) -> None:
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        total = int(lengths.sum()) + len(words) + 1
        inside = np.ones(total, bool)
        inside[0] = False
        inside[np.cumsum(lengths + 1)] = False
        self.tokens = np.full(total, BARRIER, np.int64)
        self.tokens[inside] = np.fromiter(chain.from_iterable(words), np.int64, int(lengths.sum()))
        self.weights = np.zeros(total, np.int64)
        self.weights[inside] = np.repeat(np.asarray(counts, np.int64), lengths)
        self.before, self.after = np.arange(-1, total - 1), np.arange(1, total + 1)
        self.joined = np.zeros(0, np.int64)  # where the newest piece was made

    def ids(self) -> set[int]:
        return set(np.unique(self.tokens).tolist())

    def all_pairs(self, least: int) -> Iterator[Found]:
        """Every pair that occurs `least` times, before anything was joined."""
        places = np.flatnonzero((self.tokens[:-1] >= 0) & (self.tokens[1:] >= 0))
        size = int(self.tokens.max()) + 1
        for value, count, found in _grouped(
            self.tokens[places] * size + self.tokens[places + 1], places, self.weights[places], least
        ):
            yield Found(divmod(value, size), count, found)

    def join(self, pair: Pair, places: np.ndarray, piece: int) -> list[tuple[Pair, int]]:
        """Joins `pair` wherever it still stands of `places`; the pairs beside it that there are fewer of now."""
        left, right = pair
        tokens, before, after = self.tokens, self.before, self.after
        places = np.sort(places)
        places = places[tokens[places] == left]
        places = places[tokens[after[places]] == right]
        if left == right:
            places = _every_other(places, after)
        second = after[places]
        behind, ahead, weights = after[second], before[places], self.weights[places]
        # Where one joint pair follows another, the two share a neighbourhood, which is told of once.
        alone = np.ones(len(places), bool)
        alone[1:] = ahead[1:] != second[:-1]
        alone &= tokens[ahead] >= 0
        lost = [((x, left), count) for x, count, _ in _grouped(tokens[ahead[alone]], ahead[alone], weights[alone], 0)]
        real = tokens[behind] >= 0
        lost += [((right, y), count) for y, count, _ in _grouped(tokens[behind[real]], behind[real], weights[real], 0)]
        tokens[places], tokens[second] = piece, GONE
        after[places], before[behind] = behind, places
        self.joined = places
        return lost

    def pairs_of(self, piece: int, places: np.ndarray | None, least: int) -> Iterator[Found]:
        """The pairs with `piece` that occur `least` times. places: where it stands, None where that is to be found."""
        if places is None:
            places = np.flatnonzero(self.tokens == piece)
        ahead, behind, weights = self.before[places], self.after[places], self.weights[places]
        some = self.tokens[ahead] >= 0
        for x, count, found in _grouped(self.tokens[ahead[some]], ahead[some], weights[some], least):
            yield Found((x, piece), count, found)
        some = (self.tokens[behind] >= 0) & (self.tokens[behind] != piece)  # that one was among those ahead
        for y, count, found in _grouped(self.tokens[behind[some]], places[some], weights[some], least):
            yield Found((piece, y), count, found)


def _grouped(
    values: np.ndarray, places: np.ndarray, weights: np.ndarray, least: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Each value with the sum of its weights, if that is `least` or more, and its places."""
    if not len(values):
        return
    order = np.argsort(values, kind="stable")
    values = values[order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    sums = np.add.reduceat(weights[order], starts)
    enough = np.flatnonzero(sums >= least)
    stops = np.append(starts[1:], len(values))
    sides = zip(starts[enough].tolist(), stops[enough].tolist(), strict=True)
    for value, total, (start, stop) in zip(values[starts[enough]].tolist(), sums[enough].tolist(), sides, strict=True):
        yield value, total, places[order[start:stop]]


def _every_other(places: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of places that follow one another, in order, the first, the third and so on: aaa is aa and a."""
    numbers = np.arange(len(places))
    begins = np.ones(len(places), bool)
    begins[1:] = places[1:] != after[places[:-1]]
    return places[(numbers - np.maximum.accumulate(np.where(begins, numbers, 0))) % 2 == 0]


def _descending(key: bytes) -> str:
    """A string that sorts in the opposite order of `key`: of two that begin alike, the longer goes first."""
    return "".join(chr(255 - byte) for byte in key) + "\u0100"
