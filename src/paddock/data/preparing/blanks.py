"""GLM's blank infilling (arXiv 2103.10360), as ChatGLM-6B reads it: spans are cut out and written at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing import rows
from paddock.data.preparing.sentences import sentences
from paddock.data.samples import Sample

SLACK = 1.5  # room in a row for this many times the spans that are expected

Row = tuple[np.ndarray, np.ndarray, np.ndarray, int]  # ids, targets, positions (tokens, 2), prefix


@dataclass(frozen=True)
class Blanks:
    """Rows of `length` tokens: the text with blanks, which sees all of itself, and then what stood in them.

        x1 x2 [M] x4 [M]   <sop> x5 x6   <sop> x3        ids
         0  1  2   3  4      4    4  4     2    2        position one: of a blank's text, where the blank is
         0  0  0   0  0      1    2  3     1    2        position two: counts a blank's text
         -  -  -   -  -     x5   x6 <eop> x3  <eop>      targets

    `long` of the rows end in one `long_mask` ([gMASK]) for the last part of the text, from `shortest` of it to all.
    `whole` of them have whole sentences for blanks, in a drawn order, as near to `share` of the text as these can come
    and at least one, each a `sentence_mask` ([sMASK]); a text of one sentence is read as the others are. `signs`: what
    each id says of where sentences end (sentences.py). The others have blanks of Poisson(`mean`) tokens, at least 1,
    until `share` of the text is cut out, each a `mask`; these do not touch. Blanks are written in any order. Both
    numbers of a position count from 0 as `blank_positions` does for a prompt, so that a model is asked as it was
    trained.
    """

    length: int
    mask: int
    long_mask: int
    start: int
    end: int
    pad: int
    share: float = 0.15
    mean: float = 3.0
    long: float = 0.5
    shortest: float = 0.5
    marks: tuple[int, ...] = ()
    whole: float = 0.0
    sentence_mask: int = -1
    signs: np.ndarray | None = None

    @property
    def takes(self) -> int:
        """The most tokens a sample may have: each blank makes a row longer by its mask and its start token."""
        return min(self.length - 2, int(self.length / (1 + 2 * SLACK * self.share / self.mean)))

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        drawn = [self._row(sample) for sample in samples]
        positions = np.zeros((len(drawn), self.length, 2), np.int64)
        for number, row in enumerate(drawn):
            positions[number, : len(row[2])] = row[2]
        return Batch(
            rows.table([row[0] for row in drawn], self.length, self.pad),
            rows.table([row[1] for row in drawn], self.length, IGNORED),
            positions=torch.from_numpy(positions),
            prefix=torch.tensor([row[3] for row in drawn]),
        )

    def _row(self, sample: Sample) -> Row:
        text, random = rows.joined(sample, (*self.marks, self.end), self.end, self.takes), sample.random
        if len(text) == 0:
            return text, text, np.zeros((0, 2), np.int64), 0
        kind = random.random()
        if kind < self.long:
            least = max(1, int(np.ceil(self.shortest * len(text))))
            begin = len(text) - int(random.integers(least, len(text) + 1))
            return self._written(text, np.array([begin]), np.array([len(text)]), self.long_mask, random)
        if kind < self.long + self.whole and (found := self._sentences(text, random)) is not None:
            return self._written(text, found[:, 0], found[:, 1], self.sentence_mask, random)
        starts, stops = self._spans(len(text), random)
        return self._written(text, starts, stops, self.mask, random)

    def _sentences(self, text: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
        """(blanks, 2): where the sentences that are cut out start and stop, in order; None for a text of one."""
        assert self.signs is not None, "an objective with sentences knows where they end"
        every = sentences(text, self.signs)
        if len(every) < 2:
            return None
        drawn = random.permutation(len(every))[: (self.length - len(text)) // 2]
        budget = self.share * len(text)
        # Each is taken unless that leads further away from the share than to do without it.
        total, taken = 0, list[int]()
        for number in drawn.tolist():
            size = int(every[number, 1] - every[number, 0])
            if total + size / 2 <= budget or not taken:
                taken.append(number)
                total += size
        return every[sorted(taken)]

    def _spans(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where blanks start and stop, in order, with at least one token between two."""
        budget = max(1, round(self.share * count))
        lengths: list[int] = []
        while (left := budget - sum(lengths)) > 0:
            lengths.append(min(left, max(1, int(random.poisson(self.mean)))))
        room = (self.length - count) // 2
        while len(lengths) > min(room, count - sum(lengths) + 1):
            lengths.pop()
        spans = rows.placed(np.array(lengths), count, random)
        return spans[:, 0], spans[:, 1]

    def _written(
        self, text: np.ndarray, starts: np.ndarray, stops: np.ndarray, mask: int, random: np.random.Generator
    ) -> Row:
        """The row of a text whose blanks are text[starts[i] : stops[i]], which are written in a drawn order."""
        kept = np.ones(len(text), bool)
        for start, stop in zip(starts, stops, strict=True):
            kept[start + 1 : stop] = False  # a blank's first token gives its place to the mask
        shown = text.copy()
        shown[starts] = mask
        places = np.cumsum(kept)[starts] - 1
        prefix = int(kept.sum())
        ids, asked = [shown[kept]], [np.full(prefix, IGNORED)]
        positions = [np.stack((np.arange(prefix), np.zeros(prefix, np.int64)), 1)]
        for number in random.permutation(len(starts)):
            span = text[starts[number] : stops[number]]
            ids.append(np.concatenate(([self.start], span)))
            asked.append(np.concatenate((span, [self.end])))
            counted = np.arange(1, len(span) + 2)
            positions.append(np.stack((np.full(len(counted), places[number]), counted), 1))
        return np.concatenate(ids), np.concatenate(asked), np.concatenate(positions), prefix
