"""How documents share rows of a fixed length."""

from __future__ import annotations

import numpy as np

from paddock.data.shards import Tokens


class Stream:
    """Documents end to end, cut every `length` tokens (Pythia's way).

    Nothing is lost but the rest after the last whole row; a row may begin in the middle of a document. Rows are one
    token longer than a model reads: input and its shifted target.
    """

    def __init__(self, tokens: Tokens, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens.ids) - 1) // self.length

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        start, stop = number * self.length, (number + 1) * self.length + 1
        ends = self.tokens.ends
        inside = ends[np.searchsorted(ends, start, "right") : np.searchsorted(ends, stop, "left")]
        return tuple(np.split(self.tokens.ids[start:stop], inside - start))
