"""Megatron-LM's indexed datasets (`NAME.bin` and `NAME.idx`) as `Tokens`.

.idx  9 bytes "MMIDIDX\\0\\0", uint64 version 1, uint8 code of the type of ids, uint64 sequences, uint64 documents,
      int32 tokens of each sequence, int64 byte at which each begins, int64 at which sequence each document begins
      (and, last, the number of sequences); all little-endian
.bin  the ids
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from paddock.data.tokens import FileIds, TokenFile, Tokens
from paddock.errors import DataError

MAGIC = b"MMIDIDX\0\0"
HEAD = struct.Struct("<9sQBQQ")
TYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}


def is_megatron(path: Path) -> bool:
    """Whether `path` is one of the pair, or its name without an ending."""
    return path.suffix in (".bin", ".idx") or (not path.exists() and path.with_name(path.name + ".idx").exists())


def read_megatron(path: str | Path) -> Tokens:
    """A pair of files as `Tokens`. A document's sequences become one document, as Megatron packs them.

    Raises DataError for an index that is cut short or long, of another version or type, or that does not describe its
    .bin file from the first byte to the last.
    """
    path = Path(path)
    stem = path.name.removesuffix(path.suffix) if path.suffix in (".bin", ".idx") else path.name
    index, binary = path.with_name(f"{stem}.idx"), path.with_name(f"{stem}.bin")
    data = _read(index)
    magic, version, code, sequences, documents = HEAD.unpack(data[: HEAD.size])
    if magic != MAGIC or version != 1:
        raise DataError(f"{index} is no Megatron index of version 1: it begins {data[:17]!r}")
    if code not in TYPES:
        raise DataError(f"{index}: ids of type {code}", expected=f"an integer type: one of {sorted(TYPES)}")
    needed = HEAD.size + 12 * sequences + 8 * documents  # Python integers, which cannot wrap
    if needed != len(data):
        raise DataError(
            f"{index} is {len(data)} bytes long, but speaks of {sequences} sequences and {documents} documents",
            expected=f"{needed} bytes",
            fix="copy the file again",
        )
    sizes = np.frombuffer(data, "<i4", sequences, HEAD.size)
    begins = np.frombuffer(data, "<i8", sequences, HEAD.size + 4 * sequences)
    first = np.frombuffer(data, "<i8", documents, HEAD.size + 12 * sequences)
    dtype = np.dtype(TYPES[code])
    ends = _ends(sizes, begins, first, dtype.itemsize, index)
    total = int(ends[-1]) if len(ends) else 0
    file = TokenFile(binary, dtype, total)
    return Tokens(FileIds([file], None), ends, None, str(binary))


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path} is {'no regular file' if path.exists() else 'missing'}", expected="an index")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) < HEAD.size:
        raise DataError(f"{path} is {len(data)} bytes long", expected=f"a Megatron index, {HEAD.size} bytes or more")
    return data


def _ends(sizes: np.ndarray, begins: np.ndarray, first: np.ndarray, width: int, path: Path) -> np.ndarray:
    """Where each document ends, in tokens; refuses what is not one document after another."""
    if (sizes < 0).any():
        raise DataError(f"{path}: a sequence of {int(sizes.min())} tokens")
    stops = np.cumsum(sizes, dtype=np.int64)  # at most 2^31 times the number of sequences, which the file's size bounds
    if len(sizes) and not np.array_equal(begins, (stops - sizes) * width):
        number = int(np.flatnonzero(begins != (stops - sizes) * width)[0])
        raise DataError(f"{path}: sequence {number} does not begin where the one before ends")
    ordered = len(first) and first[0] == 0 and first[-1] == len(sizes) and (np.diff(first) >= 0).all()
    if not ordered:
        raise DataError(f"{path}: its documents do not divide {len(sizes)} sequences from the first to the last")
    return np.concatenate(([0], stops))[first[1:]].astype(np.int64)
