"""How documents share rows of a fixed length. Three tables of samples; none loses or doubles a token.

Rows are `length` tokens and `overlap` more. With an overlap of 1, which is next-token prediction's, the last token of a
row is only a target and, where the text goes on, the first input of the next row: every token but the first of a
document (in `Stream`, of all) is asked for exactly once. Objectives that ask about the tokens themselves take 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError


class Stream:
    """Documents end to end, cut every `length` tokens (Pythia's way).

    A row may begin in the middle of a document. The rest after the last whole row is left out, `left_out` tokens of it.
    Raises DataError where there are too few tokens for one row.
    """

    def __init__(self, tokens: Tokens, length: int, overlap: int = 1) -> None:
        _check(length, overlap)
        self.tokens, self.length, self.overlap = tokens, length, overlap
        self._rows = max(0, len(tokens.ids) - overlap) // length
        if not self._rows:
            needed = length + overlap
            raise DataError(f"{tokens.name}: {len(tokens.ids)} tokens", expected=f"at least {needed}, for one row")

    def __len__(self) -> int:
        return self._rows

    @property
    def row_tokens(self) -> float:
        """How many tokens a row reads on average."""
        return self.length

    @property
    def left_out(self) -> int:
        return len(self.tokens.ids) - self.overlap - self._rows * self.length

    @property
    def efficiency(self) -> float:
        """The share of the rows' places that hold a token to learn from."""
        return 1.0

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        start, stop = number * self.length, (number + 1) * self.length + self.overlap
        ends = self.tokens.ends
        first, last = np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop, "left")
        ids = self.tokens.ids[start:stop]
        cuts = [0, *(ends[first:last] - start).tolist(), stop - start]
        return tuple(ids[a:b] for a, b in pairwise(cuts) if a < b)  # documents may be empty


class _Windowed:
    """Rows that begin where a document or a window of one begins: not all their places need hold a token.

    _rows: how many there are; _asked: how many targets they hold together.
    """

    length: int
    _rows: int
    _asked: int

    def __len__(self) -> int:
        return self._rows

    @property
    def row_tokens(self) -> float:
        """How many tokens a row reads on average."""
        return self._asked / self._rows

    @property
    def efficiency(self) -> float:
        """The share of the rows' places that hold a token to learn from."""
        return self.row_tokens / self.length


class Single(_Windowed):
    """One document a row; a longer one is cut into windows, a row each. In the order of the documents."""

    def __init__(self, tokens: Tokens, length: int, overlap: int = 1) -> None:
        _check(length, overlap)
        self.tokens, self.length, self.overlap = tokens, length, overlap
        full, rest = _windows(tokens, length, overlap)
        self._after = np.cumsum(full + (rest > 0))  # (documents,) rows up to and with each document
        self._rows = int(self._after[-1]) if len(self._after) else 0
        self._asked = _asked(full, rest, length, overlap)
        _check_rows(self._rows, tokens, overlap)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        document = int(np.searchsorted(self._after, number, "right"))
        window = number - (int(self._after[document - 1]) if document else 0)
        return (_window(self.tokens, document, window, self.length, self.overlap),)


@dataclass(frozen=True)
class _Kind:
    """Rows that hold as many documents of the same lengths as each other.

    parts: (length, how many in each row, place of the first among all documents of that length).
    """

    room: int
    rows: int
    parts: tuple[tuple[int, int, int], ...] = ()


class Fit(_Windowed):
    """Documents whole where they fit, several to a row: best fit, the longest first.

    A document longer than a row is cut into windows that fill one each, and its rest is placed like a document.
    Placing looks at how many documents there are of each length, not at each of them: documents of one length are
    interchangeable, so the work is O(length^2) and the memory 16 bytes a document, however many there are (histogram
    packing as in arXiv 2107.02027, with best fit's choice of row).
    """

    def __init__(self, tokens: Tokens, length: int, overlap: int = 1) -> None:
        _check(length, overlap)
        self.tokens, self.length, self.overlap = tokens, length, overlap
        full, rest = _windows(tokens, length, overlap)
        self._long = np.flatnonzero(full)
        self._full_after = np.cumsum(full[self._long])  # rows of one full window each come first
        self._by_rest = np.argsort(rest, kind="stable")
        counts = np.bincount(rest, minlength=1)
        self._first = np.concatenate(([0], np.cumsum(counts)))  # in `_by_rest`, where each length begins
        self._kinds = _best_fit(counts, length + overlap)
        self._fulls = int(self._full_after[-1]) if len(self._long) else 0
        self._after = self._fulls + np.cumsum([kind.rows for kind in self._kinds], dtype=np.int64)
        self._rows = int(self._after[-1]) if len(self._after) else self._fulls
        self._full, self._asked = full, _asked(full, rest, length, overlap)
        _check_rows(self._rows, tokens, overlap)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        if number < self._fulls:
            at = int(np.searchsorted(self._full_after, number, "right"))
            window = number - (int(self._full_after[at - 1]) if at else 0)
            return (_window(self.tokens, int(self._long[at]), window, self.length, self.overlap),)
        which = int(np.searchsorted(self._after, number, "right"))
        kind = self._kinds[which]
        row = number - (int(self._after[which]) - kind.rows)
        places = [
            int(self._first[length]) + first + row * each + i for length, each, first in kind.parts for i in range(each)
        ]
        documents = self._by_rest[places].tolist()
        return tuple(_window(self.tokens, d, int(self._full[d]), self.length, self.overlap) for d in documents)


PACKINGS: Mapping[str, type[Fit | Single | Stream]] = {"fit": Fit, "stream": Stream, "single": Single}


def _best_fit(counts: np.ndarray, room: int) -> list[_Kind]:
    """Rows of `room` tokens for counts[n] documents of n tokens, each in the row with the least room that suffices.

    Rows that are alike are one `_Kind`. A row that has taken a document has less room than before, so it is the best
    fit for the next of that length too, until it has no room for one.
    """
    kinds: list[list[_Kind]] = [[] for _ in range(room + 1)]  # by room left
    for length in range(len(counts) - 1, 0, -1):
        left, placed = int(counts[length]), 0
        for space in range(length, room + 1):
            if not left:
                break
            fresh = [_Kind(room, -(-left // (room // length)))] if space == room else []
            waiting, kinds[space] = kinds[space] + fresh, []
            for kind in waiting:
                for share, part in _shared(kind, left, space // length):
                    taken = (*part.parts, (length, share, placed)) if share else part.parts
                    kinds[space - share * length].append(_Kind(space - share * length, part.rows, taken))
                    left, placed = left - part.rows * share, placed + part.rows * share
    return [kind for some in kinds for kind in some]


def _shared(kind: _Kind, left: int, each: int) -> Iterator[tuple[int, _Kind]]:
    """The rows of a kind by how many of `left` documents they take: `each`, what is then left, and none."""
    full = min(kind.rows, left // each)
    some = min(kind.rows - full, 1 if left > full * each else 0)
    at = 0
    for rows, share in ((full, each), (some, left - full * each), (kind.rows - full - some, 0)):
        if rows:
            yield share, _Kind(kind.room, rows, tuple((n, k, first + at * k) for n, k, first in kind.parts))
        at += rows


def _check(length: int, overlap: int) -> None:
    if length < 1 or overlap < 0:
        raise UsageError(f"rows of {length} tokens and {overlap} more", expected="at least 1, and none or some")


def _check_rows(rows: int, tokens: Tokens, overlap: int) -> None:
    if not rows:
        raise DataError(
            f"{tokens.name}: no document has more than {overlap} tokens", expected="something to learn from"
        )


def _windows(tokens: Tokens, length: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """(documents,) twice: how many full windows each makes, and how many tokens its last, short window has.

    What has nothing to ask about (no more than `overlap` tokens) makes no window.
    """
    sizes = np.diff(tokens.ends, prepend=0)
    full = np.maximum(sizes - overlap, 0) // length
    rest = sizes - full * length
    return full, np.where(rest > overlap, rest, 0)


def _asked(full: np.ndarray, rest: np.ndarray, length: int, overlap: int) -> int:
    """Targets of all windows that `_windows` counted."""
    return int(full.sum()) * length + int(np.maximum(rest - overlap, 0).sum())


def _window(tokens: Tokens, document: int, window: int, length: int, overlap: int) -> np.ndarray:
    ends = tokens.ends
    start = (int(ends[document - 1]) if document else 0) + window * length
    return tokens.ids[start : min(int(ends[document]), start + length + overlap)]
