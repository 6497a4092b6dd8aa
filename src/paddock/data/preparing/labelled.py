"""Texts and the class (or number) they have, one a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing import rows
from paddock.data.samples import Sample
from paddock.errors import DataError
from paddock.tokenizer.tokenizer import Tokenizer

APART = "\n"  # between two texts, where a vocabulary has no mark for it


@dataclass(frozen=True)
class Layout:
    """How one text, or two that belong together, are read.

        encoders   [CLS] a [SEP]              [CLS] a [SEP] b [SEP]    segments 0 up to a's [SEP], then 1
        decoders   whatever the tokenizer puts around a text; a line break between two

    before, between, after: the ids that are put there.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    segments: bool

    def join(self, texts: Sequence[Sequence[int]]) -> tuple[list[int], int]:
        """The ids of one text or two, and where the second begins (the end, where there is none)."""
        first = [*self.before, *texts[0]]
        if len(texts) == 1:
            ids = [*first, *self.after]
            return ids, len(ids)
        begin = [*first, *self.between]
        return [*begin, *texts[1], *self.after], len(begin)

    def around(self, texts: int) -> int:
        """How many ids are not of the texts."""
        return len(self.before) + len(self.after) + (len(self.between) if texts == 2 else 0)

    def cut(self, texts: Sequence[Sequence[int]], length: int) -> list[Sequence[int]]:
        """Texts shortened at their ends to fit into `length` ids: the longer of two first, never what is around them.

        Of two that are still too long when they are equal, the second loses the odd token.
        """
        room = max(0, length - self.around(len(texts)))
        if len(texts) == 1:
            return [texts[0][:room]]
        first, second, half = len(texts[0]), len(texts[1]), room // 2
        if first + second > room:
            if first <= half:
                second = room - first
            elif second <= half:
                first = room - second
            else:
                first, second = room - half, half
        return [texts[0][:first], texts[1][:second]]


def layout_of(tokenizer: Tokenizer, segments: int) -> Layout:
    """How a model with this tokenizer reads texts. segments: how many its token-type table tells apart."""
    before, after = tokenizer.before, tokenizer.after
    roles = tokenizer.specials
    marked = bool(after) and after == (roles.get("sep"),)
    between = after if marked else tuple(tokenizer.encode(APART, add_special=False))
    return Layout(before, between, after, segments >= 2)


class LabelledTable:
    """Rows of ids, where each one's second text begins, and its label: an int64 class, a float32 number, or float32 0
    and 1 for each of several classes that may apply together."""

    def __init__(self, ids: Sequence[np.ndarray], seconds: np.ndarray, labels: np.ndarray) -> None:
        self._ids, self._seconds, self._labels = ids, seconds, labels

    def __len__(self) -> int:
        return len(self._ids)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        """(ids, where the second text begins (1,), label (1,) or (1, classes))."""
        place = slice(number, number + 1)
        return self._ids[number], self._seconds[place], self._labels[place]


@dataclass(frozen=True)
class Labelled:
    """Rows of at most `length` tokens, padded at the end to what the longest of the batch needs.

    Batches have `labels` and no targets. segments: whether rows say which text a token is of.
    Raises DataError for a sample of more tokens than it `takes`.
    """

    length: int
    pad: int
    segments: bool = False

    @property
    def takes(self) -> int:
        return self.length

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        texts = [sample.texts[0].astype(np.int64) for sample in samples]
        longest = max(map(len, texts))
        if longest > self.length:
            raise DataError(
                f"a sample has {longest} tokens, and a row room for {self.length}", fix="raise data.length, or cut it"
            )
        width = rows.width(longest, self.length)
        ids = rows.table(texts, width, self.pad)
        seconds = torch.from_numpy(np.concatenate([sample.texts[1] for sample in samples]))
        return Batch(
            ids,
            torch.full_like(ids, IGNORED),
            padding=rows.real(texts, width),
            segments=self._segments(texts, seconds, width) if self.segments else None,
            labels=torch.from_numpy(np.concatenate([sample.texts[2] for sample in samples])),
        )

    def _segments(self, texts: Sequence[np.ndarray], seconds: torch.Tensor, width: int) -> torch.Tensor:
        """(rows, width): 1 from where the second text begins to its end, 0 elsewhere, padding included."""
        places = torch.arange(width)
        ends = torch.tensor([len(text) for text in texts])
        return ((places >= seconds[:, None]) & (places < ends[:, None])).long()
