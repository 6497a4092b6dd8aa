"""SentencePiece's BPE: join the neighbours whose joint piece has the best score, until none is left.

The same rule serves LLaMA vocabularies in GGUF, llama2.c's `tokenizer.bin`, and, with nothing to join, vocabularies
of single characters. Source of the rule: Kudo and Richardson 2018 (SentencePiece); Karpathy, llama2.c.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import BYTE_PIECE, SPACE

CACHED_WORDS = 50_000
CACHED_LENGTH = 64


class Joining:
    """A vocabulary with scores.

    `ids` holds the pieces that text can become, and no control tokens. `scores` goes by id. `space` is the character
    that the pieces write for a blank; `prefix` puts one before each text. A character that is no piece becomes its
    UTF-8 bytes through `byte_ids` (256 ids by byte), or `unknown`.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        scores: Sequence[float],
        byte_ids: Sequence[int] | None = None,
        unknown: int | None = None,
        space: str = SPACE,
        prefix: bool = True,
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.byte_ids = byte_ids
        self.unknown = unknown
        self.space = space
        self.prefix = prefix
        self._word = self._words_pattern()
        self._words: dict[str, list[int]] = {}

    def _words_pattern(self) -> re.Pattern[str]:
        """A text may be cut before each run of blanks, unless some piece has a blank after other text."""
        blank = re.escape(self.space)
        crossing = re.compile(f"[^{blank}]{blank}")
        if any(crossing.search(piece) for piece in self.ids if len(piece) > 1):
            return re.compile(r"(?s:.+)")
        return re.compile(f"{blank}+[^{blank}]*|[^{blank}]+")

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of a stretch of text; `first` says that it starts the text or follows an added token."""
        text = text.replace(" ", self.space)
        if self.prefix and first:
            text = self.space + text
        ids: list[int] = []
        for word in self._word.findall(text):
            ids += self._cached(word)
        return ids

    def _cached(self, word: str) -> list[int]:
        if len(word) > CACHED_LENGTH:
            return self._spell(word)
        ids = self._words.get(word)
        if ids is None:
            if len(self._words) >= CACHED_WORDS:
                self._words.clear()
            ids = self._words[word] = self._spell(word)
        return ids

    def _spell(self, word: str) -> list[int]:
        ids: list[int] = []
        for piece in join(word, self.ids, self.scores):
            id = self.ids.get(piece)
            if id is not None:
                ids.append(id)
            else:
                ids += self._unspelled(piece)
        return ids

    def _unspelled(self, character: str) -> list[int]:
        if self.byte_ids is not None:
            return [self.byte_ids[byte] for byte in character.encode("utf-8")]
        if self.unknown is None:
            raise TokenizerError(f"the vocabulary cannot spell {character!r}: it has no bytes and no unknown token")
        return [self.unknown]


def join(word: str, ids: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """Splits `word` into pieces, best score first, the leftmost of equals; O(n log n) by a heap of candidates.

    A candidate is (-score, start, middle, end); it is stale once either half has been joined to something else,
    that is, once `ends[start] != middle` or `ends[middle] != end`.
    """
    ends = list(range(1, len(word) + 1))  # where the piece that starts here ends; 0 once it was swallowed
    starts = list(range(-1, len(word)))  # where the piece before the one that starts here starts
    heap: list[tuple[float, int, int, int]] = []

    def propose(start: int, middle: int, end: int) -> None:
        id = ids.get(word[start:end])
        if id is not None:
            heapq.heappush(heap, (-scores[id], start, middle, end))

    for start in range(len(word) - 1):
        propose(start, start + 1, start + 2)
    while heap:
        _, start, middle, end = heapq.heappop(heap)
        if ends[start] != middle or ends[middle] != end:
            continue
        ends[start], ends[middle] = end, 0
        if end < len(word):
            starts[end] = start
            propose(start, end, ends[end])
        if start > 0:
            propose(starts[start], start, end)
    pieces, start = [], 0
    while start < len(word):
        pieces.append(word[start : ends[start]])
        start = ends[start]
    return pieces


def find_byte_ids(pieces: Sequence[str | None]) -> list[int] | None:
    """The ids of `<0x00>` to `<0xFF>` by byte, or None unless the vocabulary has all 256."""
    found: dict[int, int] = {}
    for id, piece in enumerate(pieces):
        match = BYTE_PIECE.match(piece) if piece is not None and len(piece) == 6 else None
        if match:
            found.setdefault(int(match[1], 16), id)
    return [found[byte] for byte in range(256)] if len(found) == 256 else None
