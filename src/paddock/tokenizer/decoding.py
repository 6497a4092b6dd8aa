"""Ids to bytes, one at a time: each kind of vocabulary's way of joining pieces.

Whole-text decoding and streaming run the same objects, so that a stream's parts joined are the whole by construction.
A decoding gives bytes, not text: a character may lie across several pieces. Text is made in one place
(`StreamDecoder`), where each maximal run of bytes that cannot be UTF-8 becomes one U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

SPACE = "\u2581"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class Decoding(Protocol):
    """The state of one text being decoded."""

    def push(self, piece: str) -> bytes:
        """The bytes that are certain once `piece` is known."""
        ...

    def finish(self) -> bytes:
        """The bytes held back until the end of the text was known."""
        ...


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2, Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for U+0100 and up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in alphabet)
    return alphabet | {byte: chr(0x100 + place) for place, byte in enumerate(others)}


BYTES_TO_CHARACTERS = byte_alphabet()
CHARACTERS_TO_BYTES = {character: byte for byte, character in BYTES_TO_CHARACTERS.items()}


def byte_level(piece: str) -> bytes:
    """The bytes a byte-level piece spells; an added token that is not written in the alphabet spells itself."""
    try:
        return bytes([CHARACTERS_TO_BYTES[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8")


class ByteLevelDecoding:
    """Byte-level BPE: pieces are runs of bytes, and nothing depends on its neighbours."""

    def push(self, piece: str) -> bytes:
        return byte_level(piece)

    def finish(self) -> bytes:
        return b""


class SpacedDecoding:
    """SentencePiece and its kin: `space` stands for a blank, `<0xXX>` for a byte.

    `leading` says what becomes of the blank that encoding put before the text: "one" removes one blank at the start,
    "all" removes every blank there (models that squeeze blanks), "none" leaves it.
    """

    def __init__(self, space: str = SPACE, leading: str = "one", byte_pieces: bool = True) -> None:
        self.space = space
        self.leading = leading
        self.byte_pieces = byte_pieces
        self.begun = False

    def push(self, piece: str) -> bytes:
        match = BYTE_PIECE.match(piece) if self.byte_pieces else None
        if match:
            self.begun = True
            return bytes([int(match[1], 16)])
        text = piece.replace(self.space, " ")
        if not self.begun and text:
            text = self._strip(text)
        return text.encode("utf-8")

    def _strip(self, text: str) -> str:
        if self.leading == "all":
            text = text.lstrip(" ")
            self.begun = bool(text)
            return text
        self.begun = True
        return text.removeprefix(" ") if self.leading == "one" else text

    def finish(self) -> bytes:
        return b""


class WordPieceDecoding:
    """WordPiece: a blank before each piece that does not begin with `prefix`; `cleanup` closes up punctuation."""

    CLEANUP = (
        *((" " + mark, mark) for mark in ".?!,"),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        *((" " + ending, ending) for ending in ("'s", "'ve", "'re")),
    )

    def __init__(self, prefix: str = "##", cleanup: bool = True) -> None:
        self.prefix = prefix
        self.cleanup = cleanup
        self.first = True

    def push(self, piece: str) -> bytes:
        if not self.first:
            piece = piece[len(self.prefix) :] if piece.startswith(self.prefix) else " " + piece
        self.first = False
        if self.cleanup:
            for found, instead in self.CLEANUP:
                piece = piece.replace(found, instead)
        return piece.encode("utf-8")

    def finish(self) -> bytes:
        return b""


class SuffixDecoding:
    """BPE with an end-of-word mark (`</w>`): a blank after each word but the last."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.held: str | None = None

    def push(self, piece: str) -> bytes:
        before, self.held = self.held, piece
        return b"" if before is None else before.replace(self.suffix, " ").encode("utf-8")

    def finish(self) -> bytes:
        return b"" if self.held is None else self.held.replace(self.suffix, "").encode("utf-8")


class JoinedDecoding:
    """No rule at all: pieces with a blank between them (`separator`)."""

    def __init__(self, separator: str = " ") -> None:
        self.separator = separator
        self.first = True

    def push(self, piece: str) -> bytes:
        text = piece if self.first else self.separator + piece
        self.first = False
        return text.encode("utf-8")

    def finish(self) -> bytes:
        return b""


class WholeDecoding:
    """A rule that needs all pieces at once: everything is held back to the end."""

    def __init__(self, decode: Callable[[list[str]], str]) -> None:
        self.decode = decode
        self.pieces: list[str] = []

    def push(self, piece: str) -> bytes:
        self.pieces.append(piece)
        return b""

    def finish(self) -> bytes:
        return self.decode(self.pieces).encode("utf-8")


Step = Callable[[str, bool], str | bytes]


class StepsDecoding:
    """A chain of steps on each piece, then `start` blanks or other `content` characters taken off the whole text's
    start and `stop` off its end."""

    def __init__(self, steps: Sequence[Step], content: str = " ", start: int = 0, stop: int = 0) -> None:
        self.steps = steps
        self.content = content.encode("utf-8")
        self.start = start
        self.stop = stop
        self.first = True
        self.held = b""

    def push(self, piece: str) -> bytes:
        chunk: str | bytes = piece
        for step in self.steps:
            if isinstance(chunk, bytes):
                break
            chunk = step(chunk, self.first)
        self.first = False
        data = chunk.encode("utf-8") if isinstance(chunk, str) else chunk
        return self._keep_tail(self._strip_start(data))

    def _strip_start(self, data: bytes) -> bytes:
        while data and self.start:
            if not data.startswith(self.content):
                self.start = 0
                break
            data = data[len(self.content) :]
            self.start -= 1
        return data

    def _keep_tail(self, data: bytes) -> bytes:
        if not self.stop:
            return data
        data = self.held + data
        width, count = len(self.content), 0
        while count < self.stop and data.endswith(self.content * (count + 1)):
            count += 1
        certain = len(data) - count * width
        self.held = data[certain:]
        return data[:certain]

    def finish(self) -> bytes:
        return b""


def is_local(decoding: Decoding) -> bool:
    """Whether a piece adds the same bytes behind any other text. (The first piece of a text may add others.)"""
    if isinstance(decoding, StepsDecoding):
        return not decoding.stop
    if isinstance(decoding, JoinedDecoding):
        return not decoding.separator
    return not isinstance(decoding, WordPieceDecoding | SuffixDecoding | WholeDecoding)
