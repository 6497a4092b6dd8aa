"""Sequence to sequence: an encoder reads one text, and a decoder is taught the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing import rows
from paddock.data.samples import Sample
from paddock.errors import DataError


@dataclass(frozen=True)
class Paired:
    """A sample's two texts (source, target), each with `end` behind it; a decoder's input begins with `start`.

    `length` is the most tokens of either, its end included. `closed`: whether the source has an end too. opening: what
    stands before it. A model is asked by sources that a tokenizer frames: it learns them as they will come.
    """

    length: int
    start: int
    end: int
    pad: int
    closed: bool = True
    marks: tuple[int, ...] = ()
    opening: tuple[int, ...] = ()

    @property
    def takes(self) -> int:
        """The most tokens each of a sample's two texts may have."""
        return self.length - 1 - len(self.opening)

    def fits(self, source: Sequence[int] | np.ndarray, target: Sequence[int] | np.ndarray) -> bool:
        """Whether a pair is one that rows can hold: both have tokens, and not more than `takes`."""
        return 0 < len(source) <= self.takes and 0 < len(target) <= self.takes

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        pairs = [self._pair(sample) for sample in samples]
        sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        wide, high = (rows.width(max(map(len, texts)), self.length) for texts in (sources, targets))
        return shifted(sources, targets, wide, high, self.start, self.pad)

    def _pair(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        if len(sample.texts) != 2:
            raise DataError(
                f"sample {sample.place} has {len(sample.texts)} texts", expected="two: what is read and what is written"
            )
        source, target = (rows.stripped(text, (*self.marks, self.end)) for text in sample.texts)
        if not self.fits(source, target):
            raise DataError(
                f"sample {sample.place} is a pair of {len(source)} and {len(target)} tokens",
                expected=f"from 1 to {self.takes} each",
                fix="raise data.length, or leave such pairs out",
            )
        closing = [self.end] if self.closed else []
        return np.concatenate([self.opening, source, closing]).astype(np.int64), np.append(target, self.end)


def shifted(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], wide: int, high: int, start: int, pad: int
) -> Batch:
    """A batch of an encoder-decoder: what is read (rows, wide), and what is written (rows, high).

    At each place the decoder is given the token that was asked for one place before, and `start` at the first.
    """
    inputs = [np.concatenate(([start], target[:-1])) for target in targets]
    return Batch(
        rows.table(inputs, high, pad),
        rows.table(targets, high, IGNORED),
        source=rows.table(sources, wide, pad),
        source_padding=rows.real(sources, wide),
    )
