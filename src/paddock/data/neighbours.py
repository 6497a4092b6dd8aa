"""Samples for "does B follow A": a piece of a document, and a piece of another to put in its place."""

from __future__ import annotations

import numpy as np

from paddock.data.tokens import Tokens
from paddock.errors import UsageError


class Neighbours:
    """Pieces of at most `length` tokens of every document, each with a piece of another document beside it.

    Which other one is drawn from `seed` and the piece's number. Empty documents have no pieces.
    Raises UsageError where fewer than two documents have text.
    """

    def __init__(self, tokens: Tokens, length: int, seed: int) -> None:
        self.tokens, self.length, self.seed = tokens, length, seed
        sizes = np.diff(tokens.ends, prepend=0)
        self.documents = np.flatnonzero(sizes)
        self.sizes = sizes[self.documents]
        self.pieces = np.cumsum(-(-self.sizes // length))
        if len(self.documents) < 2:
            raise UsageError(
                f"the next-sentence objective takes sentences of other documents, and there are {len(self.documents)}",
                fix="split the text into documents (data.sources.separator), or set objective.next_sentence to false",
            )

    def __len__(self) -> int:
        return int(self.pieces[-1])

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        """(piece, piece of another document)."""
        at = int(np.searchsorted(self.pieces, number, "right"))
        begin = (number - int(self.pieces[at - 1] if at else 0)) * self.length
        piece = self._document(at)[begin : begin + self.length]
        random = np.random.Generator(np.random.PCG64([self.seed, number, 3]))
        other = int(random.integers(len(self.documents) - 1))
        other += other >= at
        text = self._document(other)
        begin = int(random.integers(max(1, len(text) - self.length + 1)))
        return piece, text[begin : begin + self.length]

    def _document(self, at: int) -> np.ndarray:
        return self.tokens.document(int(self.documents[at]))
