"""RWKV's "World" vocabulary: pieces are byte strings, and text takes the longest one that fits, again and again.

A line holds an id, a Python literal (str or bytes) and the piece's length in bytes. Id 0 is not listed and ends a text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import Decoding
from paddock.tokenizer.files import MAX_PIECES, read_bytes, read_lines
from paddock.tokenizer.segmented import Segmented
from paddock.tokenizer.specials import Added, Special
from paddock.tokenizer.tokenizer import Tokenizer

LINE = re.compile(r"([0-9]{1,7}) (b?'[^\n]*'|b?\"[^\n]*\") ([0-9]{1,6})\Z")
MAX_LITERAL = 4096
END = "<|endoftext|>"


class LongestMatch:
    """Greedy longest match over bytes; `lengths` lists, by the first two bytes, how long pieces with that start are."""

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self.ids = ids
        found: dict[bytes, set[int]] = {}
        for piece in ids:
            found.setdefault(piece[:2], set()).add(len(piece))
        self.lengths = {start: sorted(lengths, reverse=True) for start, lengths in found.items()}

    def encode(self, text: str, first: bool) -> list[int]:
        data = text.encode("utf-8")
        ids: list[int] = []
        at = 0
        while at < len(data):
            for length in (*self.lengths.get(data[at : at + 2], ()), 1):
                id = self.ids.get(data[at : at + length])
                if id is not None:
                    break
            else:
                raise TokenizerError(f"the vocabulary has no piece for byte {data[at]}")
            ids.append(id)
            at += length
        return ids


class BytesDecoding:
    """Pieces that stand for bytes by a table; any other piece spells itself."""

    def __init__(self, table: Mapping[str, bytes]) -> None:
        self.table = table

    def push(self, piece: str) -> bytes:
        data = self.table.get(piece)
        return piece.encode("utf-8") if data is None else data

    def finish(self) -> bytes:
        return b""


def load_rwkv(path: Path) -> Tokenizer:
    """Reads `rwkv_vocab_v20230424.txt` and vocabularies like it."""
    data = read_bytes(path)
    by_id = _entries(data, path.name)
    pieces: list[str | None] = [None] * (max(by_id) + 1)
    table: dict[str, bytes] = {}
    for id, piece in by_id.items():
        pieces[id] = spelled = _spell(piece)
        if spelled in table:
            raise TokenizerError(f"{path.name}: two pieces are both spelled {spelled!r}")
        table[spelled] = piece
    pieces[0] = END
    ids = {piece: id for id, piece in by_id.items()}

    def decoding() -> Decoding:
        return BytesDecoding(table)

    backend = Segmented("longest match", pieces, [Added(0, END, control=True)], LongestMatch(ids), decoding)
    special = Special({"eos": 0}, {END: 0}, (0,))
    return Tokenizer(backend, special, f"{path.name} (RWKV)", lambda: {"rwkv_vocab_v20230424.txt": data})


def _entries(data: bytes, name: str) -> dict[int, bytes]:
    """Pieces by id; ids start at 1."""
    found: dict[int, bytes] = {}
    known: set[bytes] = set()
    for number, line in enumerate(read_lines(data, name), 1):
        match = LINE.match(line) if len(line) <= MAX_LITERAL else None
        if match is None:
            raise TokenizerError(f"{name}, line {number}: {line[:60]!r}", expected="an id, a Python literal, a length")
        id, piece = int(match[1]), _literal(match[2], f"{name}, line {number}")
        if not 0 < id < MAX_PIECES or id in found or piece in known or len(piece) != int(match[3]):
            raise TokenizerError(
                f"{name}, line {number}: id {id} with a piece of {len(piece)} bytes",
                expected=f"a new id, a new piece of {match[3]} bytes",
            )
        found[id] = piece
        known.add(piece)
    if not found:
        raise TokenizerError(f"{name} holds no pieces")
    return found


def _literal(text: str, where: str) -> bytes:
    try:
        value = ast.literal_eval(text)
        piece = value.encode("utf-8") if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        piece = b""
    if not isinstance(piece, bytes) or not piece:
        raise TokenizerError(f"{where}: {text[:60]!r} is no piece", expected="a Python str or bytes literal, not empty")
    return piece


def _spell(piece: bytes) -> str:
    """Text where the bytes are text, otherwise the bytes as `<0xE4><0xBD>`."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in piece)
