"""A stream of bytes cut at line ends or separators into bounded pieces, and bytes made text."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paddock.data.reading.options import Broken, Options
from paddock.errors import DataError

BOM = "\ufeff".encode()
AS_UTF8 = "paddock data convert FILE --encoding utf-16 --output text.jsonl"
ENCODING_FIX = "make it UTF-8: paddock data convert FILE --encoding gb18030 (say) --output text.jsonl"


class Piece(NamedTuple):
    """Bytes between two ends; `data` is None where there are more than allowed.

    line: of the first byte, from 1. closed: an end follows.
    """

    data: bytes | None
    size: int
    line: int
    offset: int
    closed: bool = True


def cut(chunks: Iterator[bytes], end: bytes, limit: int) -> Iterator[Piece]:
    """Pieces at each `end`, which belongs to none; the last only if it is not empty. Memory: `limit` and a chunk."""
    held: list[bytes] = []
    size = offset = lines = 0
    line, carry = 1, b""
    overlap = len(end) - 1  # an end may lie across two chunks
    for chunk in chunks:
        parts = (carry + chunk).split(end)
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            body = part[: max(0, len(part) - overlap)] if last else part
            size += len(body)
            lines += body.count(b"\n") if overlap else 0
            if size <= limit:
                held.append(body)
            else:
                held.clear()
            if last:
                carry = part[len(body) :]
                break
            yield Piece(b"".join(held) if size <= limit else None, size, line, offset)
            offset += size + len(end)
            line += lines + end.count(b"\n")
            size = lines = 0
            held.clear()
    if size := size + len(carry):
        yield Piece(b"".join([*held, carry]) if size <= limit else None, size, line, offset, False)


def paragraphs(chunks: Iterator[bytes], limit: int) -> Iterator[Piece]:
    """Runs of lines between blank ones."""
    held: list[bytes] = []
    size, first, offset = 0, 1, 0
    whole = True
    for line in cut(chunks, b"\n", limit):
        if line.data is not None and not line.data.strip():
            if size:
                yield Piece(b"\n".join(held) if whole else None, size - 1, first, offset)
            held, size, whole = [], 0, True
            continue
        if not size:
            first, offset = line.line, line.offset
        size += line.size + 1
        whole = whole and line.data is not None and size - 1 <= limit
        if whole and line.data is not None:
            held.append(line.data)
        else:
            held.clear()
    if size:
        yield Piece(b"\n".join(held) if whole else None, size - 1, first, offset)


def as_text(piece: Piece, options: Options) -> str:
    """The text of a piece, with "\\n" for "\\r\\n". Raises Broken for one that is too long or no UTF-8."""
    if piece.data is None:
        raise Broken(
            "too long",
            f"{piece.size} bytes, where {options.limit} are allowed",
            "allow more with --limit, or say how documents are separated",
        )
    try:
        text = piece.data.decode("utf-8", options.errors)
    except UnicodeDecodeError as error:
        at = piece.offset + error.start
        raise Broken("not UTF-8", f"byte {at} (0x{piece.data[error.start]:02X}) is not UTF-8", ENCODING_FIX) from None
    return text.replace("\r\n", "\n") if "\r" in text else text


def in_utf8(chunks: Iterator[bytes], path: Path, options: Options) -> Iterator[bytes]:
    """The stream in UTF-8, without a byte order mark."""
    first = b""
    while len(first) < 4 and (more := next(chunks, b"")):
        first += more
    if codecs.lookup(options.encoding).name not in ("utf-8", "utf-8-sig"):
        yield from _recoded(first, chunks, path, options)
        return
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16", expected="UTF-8", fix=AS_UTF8)
    if first := first.removeprefix(BOM):
        yield first
    yield from chunks


def _recoded(first: bytes, rest: Iterator[bytes], path: Path, options: Options) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(options.encoding)(options.errors)
    seen, begun = 0, False

    def decoded(data: bytes, final: bool = False) -> bytes:
        try:
            return decoder.decode(data, final).encode("utf-8", "replace")
        except UnicodeError as error:
            at = seen + getattr(error, "start", 0)
            raise DataError(
                f"{path}: byte {at} is not {options.encoding}", fix="check the encoding, or --errors replace"
            ) from None

    for data in itertools.chain([first], rest):
        text = decoded(data)
        seen += len(data)
        if text:
            if not begun:
                text = text.removeprefix(BOM)
            begun = True
            if text:
                yield text
    if text := decoded(b"", True):
        yield text
