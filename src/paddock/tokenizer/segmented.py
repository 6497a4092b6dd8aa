"""A backend for vocabularies that Paddock runs itself: added tokens are cut out first, a model spells the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import Decoding
from paddock.tokenizer.files import MAX_PIECE, MAX_PIECES
from paddock.tokenizer.specials import Added, Spans, Splitter


class Speller(Protocol):
    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of a stretch of ordinary text; `first` says that a blank may be put before it."""
        ...


class Segmented:
    """Pieces by id, added tokens, and a speller for what lies between them.

    `restart`: the text after an added token counts as a text of its own (SentencePiece's blank is put before it), as
    the first LLaMA tokenizers do; otherwise only the start of the whole text does.
    """

    def __init__(
        self,
        kind: str,
        pieces: Sequence[str | None],
        added: Iterable[Added],
        speller: Speller,
        decoding: Callable[[], Decoding],
        restart: bool = True,
    ) -> None:
        self.kind = kind
        self.pieces = list(pieces)
        self.added = tuple(added)
        self.speller = speller
        self.restart = restart
        self._splitter = Splitter(self.added)
        self._decoding = decoding
        self._ids = {piece: id for id, piece in reversed(list(enumerate(self.pieces))) if piece is not None}

    def encode(self, text: str, parse: bool, foreign: Spans = ()) -> list[int]:
        ids: list[int] = []
        first = True
        for part in self._splitter.split(text, parse, foreign):
            if isinstance(part, int):
                ids.append(part)
                first = self.restart
            else:
                ids += self.speller.encode(part, first)
                first = False
        return ids

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)

    def decoding(self) -> Decoding:
        return self._decoding()


def check_pieces(pieces: Sequence[str], name: str, unique: bool = True) -> None:
    """Refuses a vocabulary that is empty, too large, or (where `unique`) spells two ids alike."""
    if not 0 < len(pieces) <= MAX_PIECES:
        raise TokenizerError(f"{name} has {len(pieces)} pieces", expected=f"1 to {MAX_PIECES}")
    longest = max(len(piece) for piece in pieces)
    if longest > MAX_PIECE:
        raise TokenizerError(f"{name} has a piece of {longest} characters", expected=f"at most {MAX_PIECE}")
    if unique and len(set(pieces)) < len(pieces):
        seen: dict[str, int] = {}
        for id, piece in enumerate(pieces):
            if piece in seen:
                raise TokenizerError(f"{name}: ids {seen[piece]} and {id} are both spelled {piece!r}")
            seen[piece] = id


def place(pieces: list[str | None], id: int, piece: str, name: str) -> None:
    """Puts an added token at its id, lengthening the list; the id must be free or already spelled so."""
    if not 0 <= id < MAX_PIECES:
        raise TokenizerError(f"{name}: {piece!r} has id {id}", expected=f"0 to {MAX_PIECES - 1}")
    if id >= len(pieces):
        pieces.extend([None] * (id + 1 - len(pieces)))
    if pieces[id] not in (None, piece):
        raise TokenizerError(f"{name}: id {id} is {piece!r}, but the vocabulary has {pieces[id]!r} there")
    pieces[id] = piece
