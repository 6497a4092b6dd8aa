"""Span corruption (T5, arXiv 1910.10683): an encoder reads a text with holes, and a decoder writes what was in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paddock.data.batch import Batch
from paddock.data.preparing import rows
from paddock.data.preparing.paired import shifted
from paddock.data.samples import Sample


@dataclass(frozen=True)
class Spans:
    """Sources of `length` tokens, in which each hole is the next of `sentinels`; targets name the sentinels and what
    they stood for. Both end in `end`.

        Thank you for inviting me to your party last week
        source  Thank you <0> me to your party <1> week </s>      target  <0> for inviting <1> last </s>

    `share` of the tokens are taken out, in holes of `mean` tokens on average. As T5's, their number is fixed by the
    text's length; their lengths and places are drawn, every way as likely as any other (T5's own code begins with a
    token that stays and ends with a hole, which leaves nothing to draw in a short text). Holes do not touch.
    """

    length: int
    sentinels: tuple[int, ...]
    start: int
    end: int
    pad: int
    share: float = 0.15
    mean: float = 3.0
    marks: tuple[int, ...] = ()

    @cached_property
    def takes(self) -> int:
        """The most tokens a sample may have, for its source to fill a row."""
        count = self.length - 1
        while self.sizes(count + 1)[0] <= self.length:
            count += 1
        return count

    @property
    def holes(self) -> int:
        """How many sentinels the longest text needs."""
        return self._holes(self.takes)[1]

    def sizes(self, count: int) -> tuple[int, int]:
        """Tokens of the source and of the target that a text of `count` tokens becomes."""
        taken, holes = self._holes(count)
        return count - taken + holes + 1, taken + holes + 1

    def _holes(self, count: int) -> tuple[int, int]:
        """How many tokens are taken out of `count`, and in how many holes."""
        if count < 2:
            return 0, 0
        taken = min(max(1, round(count * self.share)), count - 1)
        return taken, min(max(1, round(taken / self.mean)), count - taken)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        drawn = [self._row(sample) for sample in samples]
        sources, targets = [row[0] for row in drawn], [row[1] for row in drawn]
        return shifted(sources, targets, self.length, self.sizes(self.takes)[1], self.start, self.pad)

    def _row(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        text = rows.joined(sample, (*self.marks, self.end), self.end, self.takes)
        taken, holes = self._holes(len(text))
        if not holes:
            return np.append(text, self.end), np.zeros(0, np.int64)
        lengths = rows.composition(taken, holes, sample.random)
        source: list[int] = []
        target: list[int] = []
        at = 0
        for number, (start, stop) in enumerate(rows.placed(lengths, len(text), sample.random)):
            source += [*text[at:start], self.sentinels[number]]
            target += [self.sentinels[number], *text[start:stop]]
            at = stop
        return np.array([*source, *text[at:], self.end]), np.array([*target, self.end])
