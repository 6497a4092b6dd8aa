"""The part of SentencePiece's `ModelProto` that Paddock reads and writes: just enough protocol-buffer wire format.

Field numbers are those of sentencepiece_model.proto. Unknown fields are kept, so that a rewritten model loses nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from paddock.errors import TokenizerError
from paddock.tokenizer.charsmap import check_charsmap
from paddock.tokenizer.files import MAX_PIECE, MAX_PIECES

TYPES = NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE, WORD, CHARACTER = 1, 2, 3, 4

# ModelProto
PIECES, TRAINER, NORMALIZER, SELF_TEST, DENORMALIZER = 1, 2, 3, 4, 5
# SentencePiece
TEXT, SCORE, TYPE = 1, 2, 3
# TrainerSpec
MODEL_TYPE, WHITESPACE_SUFFIX, BYTE_FALLBACK = 3, 24, 35
UNK_ID, BOS_ID, EOS_ID, PAD_ID = 40, 41, 42, 43
# NormalizerSpec
CHARSMAP, DUMMY_PREFIX, SQUEEZE_SPACES, ESCAPE_SPACES = 2, 3, 4, 5

Value = int | bytes
Message = Sequence[tuple[int, int, Value]]


@dataclass
class Piece:
    text: str
    score: float
    type: int


@dataclass
class ModelProto:
    """A model: pieces, and the fields of its trainer, normalizer and denormalizer as (number, wire type, value)."""

    pieces: list[Piece]
    trainer: list[tuple[int, int, Value]] = field(default_factory=list)
    normalizer: list[tuple[int, int, Value]] = field(default_factory=list)
    denormalizer: list[tuple[int, int, Value]] = field(default_factory=list)

    def number(self, message: Message, key: int, default: int) -> int:
        """The last value of an integer field; negative numbers come as 64-bit two's complement."""
        values = [value for number, _, value in message if number == key]
        value = values[-1] if values else default
        if not isinstance(value, int):
            raise TokenizerError(f"sentencepiece model: field {key} is not a number")
        return value - 2**64 if value >= 2**63 else value

    @property
    def charsmap(self) -> bytes:
        values = [value for number, _, value in self.normalizer if number == CHARSMAP]
        return values[-1] if values and isinstance(values[-1], bytes) else b""


def parse_model(data: bytes, name: str) -> ModelProto:
    """Reads and checks a model; TokenizerError for anything that the library should not be shown."""
    model = ModelProto([])
    for number, wire, value in fields(data, name):
        if number == PIECES:
            if len(model.pieces) == MAX_PIECES:
                raise TokenizerError(f"{name} has over {MAX_PIECES} pieces")
            piece = _piece(_message(wire, value, name), name, len(model.pieces))
            _check_piece(piece, len(model.pieces), name)
            model.pieces.append(piece)
        elif number in (TRAINER, NORMALIZER, DENORMALIZER):
            target = {TRAINER: model.trainer, NORMALIZER: model.normalizer, DENORMALIZER: model.denormalizer}[number]
            target += fields(_message(wire, value, name), name)
    check_model(model, name)  # pieces were checked one by one, so that a file of bad ones ends at the first
    return model


def check_model(model: ModelProto, name: str) -> None:
    """TokenizerError for a model that the library should not be shown."""
    if not model.pieces:
        raise TokenizerError(f"{name} holds no pieces", expected="a SentencePiece model")
    for id, piece in enumerate(model.pieces):
        _check_piece(piece, id, name)
    for message in (model.normalizer, model.denormalizer):
        for number, wire, value in message:
            if number == CHARSMAP:
                check_charsmap(_message(wire, value, name), name)


def _check_piece(piece: Piece, id: int, name: str) -> None:
    if not piece.text or len(piece.text) > MAX_PIECE or "\0" in piece.text:
        raise TokenizerError(f"{name}: piece {id} is {piece.text[:40]!r}", expected="some text without NUL")
    if not math.isfinite(piece.score) or piece.type not in TYPES:
        raise TokenizerError(f"{name}: piece {id} has score {piece.score} and type {piece.type}")


def fields(data: bytes, name: str) -> Iterator[tuple[int, int, Value]]:
    """(number, wire type, value) of each field of one message."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset, name)
        number, wire = key >> 3, key & 7
        value: Value
        if wire == 0:
            value, offset = _varint(data, offset, name)
        else:
            if wire == 2:
                size, offset = _varint(data, offset, name)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise TokenizerError(f"{name} is no SentencePiece model: wire type {wire} at byte {offset}")
            if size > len(data) - offset:
                raise TokenizerError(f"{name} is cut short or corrupt: a field of {size} bytes at byte {offset}")
            value = data[offset : offset + size]
            offset += size
        yield number, wire, value


def _varint(data: bytes, offset: int, name: str) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if offset + place >= len(data):
            break
        byte = data[offset + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & 2**64 - 1, offset + place + 1
    raise TokenizerError(f"{name} is cut short or corrupt: no whole number at byte {offset}")


def _message(wire: int, value: Value, name: str) -> bytes:
    if wire != 2 or not isinstance(value, bytes):
        raise TokenizerError(f"{name} is no SentencePiece model: a number where a message belongs")
    return value


def _piece_fields(data: bytes, name: str) -> Iterable[tuple[int, int, Value]]:
    """The fields of one piece. Text, score and no type, as nearly all pieces are written, takes no walk."""
    size = len(data) - 7
    if size > 0 and data[0] == TEXT << 3 | 2 and data[1] == size < 0x80 and data[2 + size] == SCORE << 3 | 5:
        return (TEXT, 2, data[2 : 2 + size]), (SCORE, 5, data[3 + size :])
    return fields(data, name)


def _piece(data: bytes, name: str, id: int) -> Piece:
    piece = Piece("", 0.0, NORMAL)
    for number, wire, value in _piece_fields(data, name):
        if number == TEXT:
            try:
                piece.text = _message(wire, value, name).decode("utf-8")
            except UnicodeDecodeError:
                raise TokenizerError(f"{name}: piece {id} is not UTF-8 text") from None
        elif number == SCORE and wire == 5 and isinstance(value, bytes):
            (piece.score,) = struct.unpack("<f", value)
        elif number == TYPE and isinstance(value, int):
            piece.type = value
    return piece


def write_model(model: ModelProto) -> bytes:
    """The model as bytes that the sentencepiece library loads."""
    parts: list[tuple[int, int, Value]] = []
    for piece in model.pieces:
        body: Message = [
            (TEXT, 2, piece.text.encode("utf-8")),
            (SCORE, 5, struct.pack("<f", piece.score)),
            (TYPE, 0, piece.type),
        ]
        parts.append((PIECES, 2, _encode(body)))
    messages = ((TRAINER, model.trainer), (NORMALIZER, model.normalizer), (DENORMALIZER, model.denormalizer))
    parts += [(number, 2, _encode(message)) for number, message in messages if message]
    return _encode(parts)


def _encode(message: Message) -> bytes:
    out = bytearray()
    for number, wire, value in message:
        out += _varint_bytes(number << 3 | wire)
        if isinstance(value, int):
            out += _varint_bytes(value & 2**64 - 1)
        else:
            out += _varint_bytes(len(value)) if wire == 2 else b""
            out += value
    return bytes(out)


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# Put after a model's bytes, this overrides one field of its normalizer: later fields of a message win.
WITHOUT_PREFIX = _encode([(NORMALIZER, 2, _encode([(DUMMY_PREFIX, 0, 0)]))])
