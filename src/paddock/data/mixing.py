"""Several tables as one stream, in exact proportions, each with epochs and an order of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paddock.data.order import Order, Permutation
from paddock.data.samples import Table
from paddock.errors import UsageError

BLOCK, LARGEST_BLOCK = 1000, 10**6  # samples in which proportions are exact
OFF = 0.01  # how far a source's share may be from its weight, as a part of the weight


@dataclass(frozen=True)
class Use:
    """What a run reads of one source. epochs: how often, on average, each of its samples comes. tokens: read."""

    name: str
    weight: float
    share: float
    samples: int
    epochs: float
    tokens: int | None


class Phase(NamedTuple):
    """Weights, and how many samples of the stream they hold for; None for all that are left."""

    weights: Sequence[float]
    samples: int | None = None


class Joined:
    """Tables one after another: every sample of every one, once."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tuple(tables)
        self._after = np.cumsum([len(table) for table in self.tables])

    def __len__(self) -> int:
        return int(self._after[-1])

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        source = int(np.searchsorted(self._after, number, "right"))
        return self.tables[source].texts(number - (int(self._after[source - 1]) if source else 0))


class Mixture(Joined):
    """Tables drawn from in proportion to weights, of whatever sum.

    Every block of `block` samples holds exactly the same number of each source, spread by a permutation of its own, so
    the sample at place k (its source, and the how-manieth of it) is found without walking there. Each source then has
    an order and epochs of its own: a small one with a large weight begins anew sooner. `phases` change the weights
    after so many samples, whole blocks (a curriculum); a source goes on where it was.

    As a table it is its sources joined: what is validated on.
    Raises UsageError for weights that are not positive, or so unequal that a million samples would not show them.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        weights: Sequence[float] = (),
        names: Sequence[str] = (),
        phases: Sequence[Phase] = (),
    ) -> None:
        if not tables:
            raise UsageError("a mixture of nothing", fix="name at least one source")
        super().__init__(tables)
        self.names = tuple(names) or tuple(f"source {number + 1}" for number in range(len(tables)))
        self.phases = tuple(phases) or (Phase(weights),)
        assert len(self.names) == len(tables), "a name for each table"
        _check(self.phases, len(tables))
        self._parts = [_Proportions(phase.weights) for phase in self.phases]
        for phase, part in zip(self.phases[:-1], self._parts, strict=False):
            if (phase.samples or 0) % part.block:
                what = f"a phase of {phase.samples} samples breaks off a block in which proportions are exact"
                raise UsageError(what, expected=f"a multiple of {part.block}")
        self._begins = np.cumsum([0, *(phase.samples or 0 for phase in self.phases[:-1])]).tolist()

    @property
    def block(self) -> int:
        return self._parts[0].block

    def ordered(self, seed: int, shuffle: bool = True) -> Mixed:
        """The endless stream of its samples."""
        return Mixed(self, seed, shuffle)

    def use(self, samples: int) -> list[Use]:
        """What the first `samples` of the stream take of each source (exact at the end of each block)."""
        taken = [0.0] * len(self.tables)
        for at, (begin, part) in enumerate(zip(self._begins, self._parts, strict=True)):
            stop = self._begins[at + 1] if at + 1 < len(self._begins) else samples
            inside = max(0, min(samples, stop) - begin)
            taken = [t + inside * count / part.block for t, count in zip(taken, part.counts, strict=True)]
        weights = self.phases[0].weights
        return [_use(*each, samples) for each in zip(self.names, self.tables, weights, taken, strict=True)]


def _use(name: str, table: Table, weight: float, taken: float, samples: int) -> Use:
    row = getattr(table, "row_tokens", None)
    share = taken / samples if samples else 0.0
    tokens = None if row is None else round(taken * row)
    return Use(name, weight, share, round(taken), taken / len(table), tokens)


class Mixed:
    """The stream of a mixture: `texts(k)` is the sample at place k, for any k."""

    def __init__(self, mixture: Mixture, seed: int, shuffle: bool) -> None:
        self._mixture = mixture
        self._orders = [Order(len(table), _seed_of(seed, at), shuffle) for at, table in enumerate(mixture.tables)]
        self._blocks = [
            functools.lru_cache(maxsize=2)(functools.partial(_spread, part.block, seed, at))
            for at, part in enumerate(mixture._parts)
        ]
        self._before = self._counts_before()

    def texts(self, place: int) -> tuple[np.ndarray, ...]:
        source, count = self.where(place)
        return self._mixture.tables[source].texts(self._orders[source][count])

    def where(self, place: int) -> tuple[int, int]:
        """(source, how many samples of it came before) of a place."""
        begins = self._mixture._begins
        at = int(np.searchsorted(begins, place, "right")) - 1
        source, count = self._in_phase(at, place - begins[at])
        return source, self._before[at][source] + count

    def _in_phase(self, at: int, place: int) -> tuple[int, int]:
        part = self._mixture._parts[at]
        block, offset = divmod(place, part.block)
        slot = self._blocks[at](block)[offset]
        source = int(np.searchsorted(part.after, slot, "right"))
        first = int(part.after[source]) - part.counts[source]
        return source, block * part.counts[source] + slot - first

    def _counts_before(self) -> list[list[int]]:
        """How many samples of each source come before each phase."""
        mixture = self._mixture
        before = [[0] * len(mixture.tables)]
        for phase, part in zip(mixture.phases[:-1], mixture._parts[:-1], strict=True):
            blocks = (phase.samples or 0) // part.block
            before.append([b + blocks * count for b, count in zip(before[-1], part.counts, strict=True)])
        return before


class _Proportions:
    """How many of each block of samples are each source's: the largest remainders get what rounding leaves."""

    def __init__(self, weights: Sequence[float]) -> None:
        total = math.fsum(weights)
        shares = [weight / total for weight in weights]
        block = BLOCK
        while True:
            counts = [int(share * block) for share in shares]
            remainders = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i] * block, i))
            for i in remainders[: block - sum(counts)]:
                counts[i] += 1
            if all(abs(count / block - share) <= OFF * share for count, share in zip(counts, shares, strict=True)):
                break
            if block == LARGEST_BLOCK:
                least = min(shares)
                what = f"a weight of {min(weights)} among {len(weights)}, which is {least:.2g} of all"
                raise UsageError(what, expected=f"at least about {50 / LARGEST_BLOCK:.0e} for each source")
            block *= 10
        self.block, self.counts, self.after = block, counts, np.cumsum(counts)


def _spread(block_size: int, seed: int, phase: int, block: int) -> Permutation:
    return Permutation(block_size, seed, phase, block, 1)


def _seed_of(seed: int, source: int) -> int:
    """Equal tables are not read in equal orders."""
    return seed if source == 0 else (seed + source * 0x9E3779B97F4A7C15) % 2**63


def _check(phases: Sequence[Phase], sources: int) -> None:
    for number, phase in enumerate(phases):
        if len(phase.weights) != sources:
            raise UsageError(f"{len(phase.weights)} weights for {sources} sources", expected="one for each")
        for weight in phase.weights:
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                fix = "leave the source out" if weight == 0 else None
                raise UsageError(f"a weight of {weight!r}", expected="a number above 0", fix=fix)
        last = number == len(phases) - 1
        if not last and (phase.samples is None or phase.samples < 1):
            raise UsageError(f"phase {number + 1} of a mixture has no end", expected="a number of samples")
