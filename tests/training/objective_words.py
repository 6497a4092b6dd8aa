"""A vocabulary of words with the control tokens that objectives ask for."""

from __future__ import annotations

from paddock.tokenizer.decoding import ByteLevelDecoding, Decoding
from paddock.tokenizer.specials import Spans, Special
from paddock.tokenizer.tokenizer import Tokenizer

ROLES = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": "<sop>", "eos": "<eop>"}
OTHERS = ("[gMASK]", *(f"<extra_id_{number}>" for number in range(12)))
TEXT = [f"{'##' if number % 3 == 2 else ''}w{number}" for number in range(70)]


class Words:
    """Pieces that are written with blanks between them."""

    def __init__(self, pieces: list[str], kind: str = "WordPiece") -> None:
        self.kind = kind
        self.pieces: list[str | None] = list(pieces)

    def encode(self, text: str, parse: bool, foreign: Spans = ()) -> list[int]:
        return [self.pieces.index(word) for word in text.split()]

    def id_of(self, piece: str) -> int | None:
        return self.pieces.index(piece) if piece in self.pieces else None

    def decoding(self) -> Decoding:
        return ByteLevelDecoding()


def words(without: tuple[str, ...] = (), kind: str = "WordPiece") -> Tokenizer:
    """Control tokens first, then words of which every third goes on with the one before; `without` some of them."""
    pieces = [text for text in (*ROLES.values(), *OTHERS, *TEXT) if text not in without]
    ids = {text: id for id, text in enumerate(pieces)}
    roles = {role: ids[text] for role, text in ROLES.items() if text in ids}
    controls = {text: id for text, id in ids.items() if text not in TEXT}
    ends = (roles["eos"],) if "eos" in roles else ()
    return Tokenizer(Words(pieces, kind), Special(roles, controls, ends), "a test's list", dict)
