"""Masked tokens (BERT, arXiv 1810.04805): some tokens are hidden, and asked for where they stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing import rows
from paddock.data.samples import Sample

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


@dataclass(frozen=True, eq=False)
class Masked:
    """Rows of `length` tokens, `first` text `last`; `share` of the text's tokens are chosen, anew each epoch.

    Of those 8 in 10 become `mask`, 1 in 10 an ordinary token, and 1 in 10 stay. ordinary (vocabulary,): the tokens that
    may be chosen and put in, all but the control tokens. continues (vocabulary,): the tokens that go on with the word
    before; with `whole_words` a word is chosen as a whole.

    Documents that share a row each get `first` and `last` of their own and do not see each other (`isolated`), or are
    one text with `last` between; what the marks push past the row's end is not read. `marks` at the ends of a document
    are taken away first. With `next_sentence` a sample is two texts, a piece of a document and one of another: half the
    rows are the first alone, cut in two at a word, and half have the other in the place of the second part.
    """

    length: int
    mask: int
    first: int
    last: int
    pad: int
    ordinary: np.ndarray
    continues: np.ndarray
    share: float = 0.15
    whole_words: bool = False
    next_sentence: bool = False
    isolated: bool = True
    marks: tuple[int, ...] = ()
    _drawn: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_drawn", np.flatnonzero(self.ordinary))
        object.__setattr__(self, "marks", (*self.marks, self.first, self.last))

    @property
    def takes(self) -> int:
        """The most tokens a sample may have; for next sentences each of its two texts."""
        return self.length - (3 if self.next_sentence else 2)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        drawn = [self._pair(sample) if self.next_sentence else self._row(sample) for sample in samples]
        texts, documents = [row[0] for row in drawn], [row[1] for row in drawn]
        hidden = [self._hide(text, sample.random) for text, sample in zip(texts, samples, strict=True)]
        apart = not self.next_sentence and any(number[-1] > 0 for number in documents)
        numbers = rows.table(documents, self.length, self.length - 1 if apart else 0)  # padding is of no document
        return Batch(
            rows.table([ids for ids, _ in hidden], self.length, self.pad),
            rows.table([targets for _, targets in hidden], self.length, IGNORED),
            positions=_positions(numbers) if apart else None,
            documents=numbers if apart else None,
            padding=rows.real(texts, self.length),
            segments=numbers if self.next_sentence else None,
            follows=torch.tensor([row[2] for row in drawn]) if self.next_sentence else None,
        )

    def _row(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, bool]:
        """The row's tokens, the document each is of, and nothing that follows."""
        rows.check_length(sample, self.takes)
        texts = [text for text in (rows.stripped(text, self.marks) for text in sample.texts) if len(text)]
        ids: list[int] = [] if self.isolated else [self.first]
        numbers: list[int] = [0] * len(ids)
        for number, text in enumerate(texts or [np.zeros(0, np.int64)]):
            ids += [self.first, *text, self.last] if self.isolated else [*text, self.last]
            numbers += [number if self.isolated else 0] * (len(ids) - len(numbers))
        return np.array(ids[: self.length]), np.array(numbers[: self.length]), False

    def _pair(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, bool]:
        """The row's tokens, the segment each is of, and whether the second followed the first in the text."""
        piece, other = (rows.stripped(text, self.marks) for text in sample.texts)
        for text in (piece, other):
            rows.check_length(Sample((text,), sample.place, sample.random), self.takes)
        starts = np.flatnonzero(~self.continues[piece[1:]]) + 1  # a part that began inside a word would tell
        cut = int(starts[sample.random.integers(len(starts))]) if len(starts) else len(piece)
        follows = bool(sample.random.random() < 0.5) and cut < len(piece)
        if follows:
            second = piece[cut:]
        else:
            second = other[int(np.argmin(self.continues[other])) if len(other) else 0 :]
            second = second[: len(piece) - cut if cut < len(piece) else self.takes - cut]
        ids = np.concatenate(([self.first], piece[:cut], [self.last], second, [self.last]))
        return ids, (np.arange(len(ids)) > cut + 1).astype(np.int64), follows

    def _hide(self, text: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(ids, targets) of a row."""
        chosen = self._chosen(text, random)
        targets = np.full(len(text), IGNORED, np.int64)
        targets[chosen] = text[chosen]
        fate, puts = random.random(len(chosen)), random.integers(len(self._drawn), size=len(chosen))
        kept = np.where(fate < MASKED + REPLACED, self._drawn[puts], text[chosen])
        ids = text.astype(np.int64)
        ids[chosen] = np.where(fate < MASKED, self.mask, kept)
        return ids, targets

    def _chosen(self, text: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The places that are asked for: `share` of the ordinary ones, and at least one."""
        places = np.flatnonzero(self.ordinary[text])
        if len(places) == 0:
            return places
        budget = max(1, round(self.share * len(places)))
        if not self.whole_words:
            return np.sort(random.permutation(places)[:budget])
        begins = ~self.continues[text[places]] | (np.diff(places, prepend=-2) != 1)
        words = np.split(places, np.flatnonzero(begins)[1:])
        chosen: list[int] = []
        for number in random.permutation(len(words)):
            # A word too long for what is left is passed by.
            if not chosen or len(chosen) + len(words[number]) <= budget:
                chosen += words[number].tolist()
        return np.sort(np.array(chosen))


def _positions(documents: torch.Tensor) -> torch.Tensor:
    """Each token's place in its document, which are numbered in order. (rows, tokens)"""
    slots = torch.arange(documents.shape[1]).expand_as(documents)
    new = torch.ones_like(documents, dtype=torch.bool)
    new[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return slots - torch.where(new, slots, 0).cummax(1).values
