"""Prefix LM (arXiv 1910.10683, figure 4): the first part of a text sees all of itself, the rest is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing import rows
from paddock.data.preparing.paired import shifted
from paddock.data.samples import Sample


@dataclass(frozen=True)
class Prefixed:
    """Rows of `length` tokens of a decoder; the place where the prefix ends is drawn anew for each, with at least one
    token on either side. Targets begin with the first token behind the prefix.

    Documents that share a row are one text here, with whatever marks they have.
    """

    length: int
    pad: int

    @property
    def takes(self) -> int:
        """The most tokens a sample may have: the last is only asked for."""
        return self.length + 1

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        for sample in samples:
            rows.check_length(sample, self.takes)
        texts = [np.concatenate(sample.texts).astype(np.int64) for sample in samples]
        cuts = [_cut(text, sample.random) for text, sample in zip(texts, samples, strict=True)]
        targets = [np.append(np.full(cut - 1, IGNORED), text[cut:]) for cut, text in zip(cuts, texts, strict=True)]
        return Batch(
            rows.table([text[:-1] for text in texts], self.length, self.pad),
            rows.table(targets, self.length, IGNORED),
            prefix=torch.tensor(cuts),
        )


@dataclass(frozen=True)
class PrefixedPairs:
    """The same for an encoder-decoder: the encoder reads the first part, the decoder writes the rest."""

    length: int
    start: int
    end: int
    pad: int
    marks: tuple[int, ...] = ()

    @property
    def takes(self) -> int:
        """The most tokens a sample may have."""
        return self.length

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        texts = [rows.joined(sample, (*self.marks, self.end), self.end, self.takes) for sample in samples]
        cuts = [_cut(text, sample.random) for text, sample in zip(texts, samples, strict=True)]
        sources = [np.append(text[:cut], self.end) for cut, text in zip(cuts, texts, strict=True)]
        rests = [text[cut:] for cut, text in zip(cuts, texts, strict=True)]
        targets = [np.append(rest, self.end) if len(text) else rest for rest, text in zip(rests, texts, strict=True)]
        return shifted(sources, targets, self.length, self.length, self.start, self.pad)


def _cut(text: np.ndarray, random: np.random.Generator) -> int:
    """How many tokens of a text are its prefix; of a text too short for one, all of it."""
    return int(random.integers(1, len(text))) if len(text) > 1 else max(1, len(text))
