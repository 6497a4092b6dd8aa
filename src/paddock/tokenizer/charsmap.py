"""SentencePiece's compiled normalisation table, checked before a library walks it.

Layout: uint32 size of the trie in bytes, a darts-clone double array of uint32 units, then NUL-ended replacement
strings (Kudo, SentencePiece; Yata, darts-clone). The libraries index by what the units say, without looking.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy

from paddock.errors import TokenizerError

MAX_CHARSMAP = 8 * 2**20


def check_charsmap_text(value: Any, name: str) -> None:
    """Checks the table as tokenizer.json holds it: base64, or null."""
    if value is None:
        return
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise TokenizerError(f"{name}: precompiled_charsmap is not base64") from None
    check_charsmap(data, name)


def check_charsmap(data: bytes, name: str) -> None:
    """TokenizerError unless every step from every unit stays in the trie, and every value in the strings."""
    if not data:
        return
    if len(data) > MAX_CHARSMAP or len(data) < 4:
        raise TokenizerError(f"{name}: the normalisation table has {len(data)} bytes", expected=f"4 to {MAX_CHARSMAP}")
    size = int.from_bytes(data[:4], "little")
    strings = data[4 + size :]
    if size % 4 or size < 4 or 4 + size > len(data) or not strings.endswith(b"\0"):
        raise TokenizerError(f"{name}: the normalisation table is cut short or corrupt")
    units = numpy.frombuffer(data, "<u4", size // 4, 4)
    values = units >> 31 == 1
    offsets = (units >> 10) << ((units & 0x200) >> 6)
    bases = numpy.arange(len(units), dtype=numpy.uint32) ^ offsets
    escapes = (bases | 0xFF) >= len(units)
    if (escapes & ~values).any() or ((units & 0x7FFFFFFF)[values] >= len(strings)).any():
        raise TokenizerError(f"{name}: the normalisation table points outside itself")
