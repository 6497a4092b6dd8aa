"""GGUF containers: metadata, and where the tensors lie, every count, length and offset checked before it is believed.
No PyTorch: what only looks into a file does not wait for it.

Source of the layout: ggml-org/ggml, `docs/gguf.md`. Versions 2 and 3, little-endian.

    magic "GGUF" · version u32 · tensor count u64 · key count u64
    per key:     name, value type u32, value            (a string is: length u64, bytes)
    per tensor:  name, number of dimensions u32, dimensions u64 (fastest first), type u32, offset u64
    zeros up to a multiple of `general.alignment`, then the tensors, each at a multiple of it

Names must be UTF-8. Strings and items of string arrays are decoded with `surrogateescape`: published vocabularies
hold tokens that are parts of characters, and `text.encode("utf-8", "surrogateescape")` gives their bytes back.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from paddock.checkpoint.block_types import TYPES, TensorType
from paddock.checkpoint.mapped import MappedFile
from paddock.errors import CheckpointError, UnsupportedError

Value = int | float | bool | str | list[str] | np.ndarray

MAX_KEYS, MAX_TENSORS, MAX_DIMENSIONS = 10_000, 100_000, 4
MAX_KEY, MAX_NAME, MAX_STRING = 65_535, 255, 16 << 20  # bytes; llama.cpp itself takes names of tensors up to 63
MAX_ITEMS = 4 << 20  # of one array
MAX_STRINGS = 1 << 20  # of all string arrays together: each becomes a Python object, many times larger than in the file
DEFAULT_ALIGNMENT, _ALIGNMENTS = 32, [8 << n for n in range(14)]

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
# Bytes of the shortest entries (a name of one letter, a value of one byte), so that counts can be checked first.
_SHORTEST_KEY, _SHORTEST_TENSOR = 8 + 1 + 4 + 1, 8 + 1 + 4 + 4 + 8
_SWAPPED_VERSIONS = {1 << 24, 2 << 24, 3 << 24}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `shape` is in PyTorch's order; `offset` counts from the start of the file."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    def part(self, index: int) -> TensorInfo:
        """The tensor at `index` of the first dimension: one expert of several that are stored as one."""
        nbytes = self.nbytes // self.shape[0]
        return TensorInfo(f"{self.name}[{index}]", self.type, self.shape[1:], self.offset + index * nbytes, nbytes)


class Header:
    """A GGUF file, parsed but for its weights.

    `metadata` maps each key to its value: numbers, strings, lists of strings, NumPy arrays of numbers.
    `tensors` maps each name to its TensorInfo, in the order of the file.

    header_only: weights may be missing at the end; what is there is described, and not to be loaded.

    Raises CheckpointError for a file that is not sound, UnsupportedError for another version or byte order. A tensor
    type that ggml does not define is refused here, as its size is unknown; one that ggml defines and Paddock cannot
    dequantise is refused when that tensor is asked for.
    """

    def __init__(self, path: str | Path, header_only: bool = False) -> None:
        self.file = MappedFile(path)
        cursor = _Cursor(self.file)
        tensors, keys = _counts(cursor)
        self.metadata = _metadata(cursor, keys)
        self.file.forget(0, cursor.at)  # every value was copied
        alignment = _alignment(self.file, self.metadata.get("general.alignment"))
        declared = deque(_tensor_info(cursor) for _ in range(tensors))
        start = -(-cursor.at // alignment) * alignment
        self.tensors = _placed(self.file, declared, start, alignment, header_only)


class _Cursor:
    """Reads one field after another, never past the end of the file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.at = 0
        self.strings = 0

    def take(self, form: struct.Struct, what: str) -> int:
        self.file.check(self.at, form.size, what)
        (value,) = form.unpack_from(self.file.map, self.at)
        self.at += form.size
        return value

    def count(self, what: str, most: int, bytes_each: int) -> int:
        """A u64 count of things that follow, each at least `bytes_each` long."""
        value = self.take(_U64, f"the number of {what}")
        if value > most:
            raise CheckpointError(f"{self.file.name} says that {value} {what} follow", expected=f"at most {most}")
        self.file.check(self.at, value * bytes_each, f"{value} {what}")
        return value

    def raw(self, what: str, most: int) -> memoryview:
        length = self.count(f"bytes of {what}", most, 1)
        self.at += length
        return memoryview(self.file.map)[self.at - length : self.at]

    def name(self, what: str, most: int) -> str:
        raw = self.raw(what, most)
        try:
            name = str(raw, "utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.file.name}: {what} is not UTF-8: {bytes(raw[:40])!r}") from None
        if not name:
            raise CheckpointError(f"{self.file.name}: {what} is empty")
        return name

    def texts(self, count: int, what: str) -> list[str]:
        """`count` strings in a row. A vocabulary has 150,000, so this loop does the least it can."""
        self.strings += count
        if self.strings > MAX_STRINGS:
            raise CheckpointError(f"{self.file.name} holds over {MAX_STRINGS} strings in its metadata, at {what}")
        data, size, length_at, at = self.file.map, self.file.size, _U64.unpack_from, self.at
        found: list[str] = []
        for _ in range(count):
            if at + 8 > size:
                self.file.check(at, 8, what)
            (length,) = length_at(data, at)
            at += 8
            if length > MAX_STRING or at + length > size:
                self.at = at - 8
                self.raw(what, MAX_STRING)
            found.append(data[at : at + length].decode("utf-8", "surrogateescape"))
            at += length
        self.at = at
        return found


def _counts(cursor: _Cursor) -> tuple[int, int]:
    """Checks magic and version; the numbers of tensors and of keys."""
    name = cursor.file.name
    magic = cursor.file.bytes(0, 4, "the magic")
    if magic != b"GGUF":
        old = magic in (b"lmgg", b"fmgg", b"tjgg", b"algg")
        found = "an old GGML file, from before GGUF" if old else f"not a GGUF file: it begins with {magic!r}"
        raise CheckpointError(f"{name} is {found}", expected="b'GGUF'")
    cursor.at = 4
    version = cursor.take(_U32, "the version")
    if version in _SWAPPED_VERSIONS:
        raise UnsupportedError(f"{name} is a big-endian GGUF file", fix="use the little-endian file")
    if version not in (2, 3):
        raise UnsupportedError(f"{name} is a GGUF file of version {version}", expected="version 2 or 3")
    tensors = cursor.count("tensors", MAX_TENSORS, 0)
    keys = cursor.count("keys", MAX_KEYS, _SHORTEST_KEY)
    cursor.file.check(cursor.at, keys * _SHORTEST_KEY + tensors * _SHORTEST_TENSOR, f"{keys} keys, {tensors} tensors")
    return tensors, keys


def _metadata(cursor: _Cursor, keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for index in range(keys):
        key = cursor.name(f"the name of key {index}", MAX_KEY)
        if key in metadata:
            raise CheckpointError(f"{cursor.file.name}: key {key[:120]!r} is there twice")
        kind = cursor.take(_U32, f"the type of {key!r}")
        metadata[key] = _array(cursor, key) if kind == _ARRAY else _scalar(cursor, kind, key)
    return metadata


def _scalar(cursor: _Cursor, kind: int, key: str) -> Value:
    if kind == _STRING:
        return str(cursor.raw(f"{key!r}", MAX_STRING), "utf-8", "surrogateescape")
    return _numbers(cursor, kind, 1, key).item()


def _array(cursor: _Cursor, key: str) -> list[str] | np.ndarray:
    kind = cursor.take(_U32, f"the item type of {key!r}")
    if kind == _ARRAY:
        raise UnsupportedError(f"{cursor.file.name}: {key!r} is an array of arrays", expected="numbers or strings")
    if kind == _STRING:
        return cursor.texts(cursor.count(f"strings of {key!r}", MAX_ITEMS, 8), f"{key!r}")
    return _numbers(cursor, kind, cursor.count(f"items of {key!r}", MAX_ITEMS, 1), key)


def _numbers(cursor: _Cursor, kind: int, count: int, key: str) -> np.ndarray:
    if kind not in _NUMBERS:
        raise CheckpointError(f"{cursor.file.name}: {key!r} has the unknown value type {kind}", expected="0 to 12")
    form = np.dtype(_NUMBERS[kind])
    cursor.file.check(cursor.at, count * form.itemsize, f"{key!r}")
    values = np.frombuffer(cursor.file.map, form, count, cursor.at).copy()
    cursor.at += values.nbytes
    if kind == _BOOL:
        if (values > 1).any():
            raise CheckpointError(f"{cursor.file.name}: {key!r} is neither true nor false", expected="a byte of 0 or 1")
        return values.view(np.bool_)
    return values


def _alignment(file: MappedFile, value: Value | None) -> int:
    if value is None:
        return DEFAULT_ALIGNMENT
    if isinstance(value, int) and value in _ALIGNMENTS:
        return value
    raise CheckpointError(
        f"{file.name}: general.alignment is {value!r}",
        expected=f"a power of two from {_ALIGNMENTS[0]} to {_ALIGNMENTS[-1]}",
    )


def _tensor_info(cursor: _Cursor) -> TensorInfo:
    """One entry, its offset still relative to the first tensor."""
    file = cursor.file
    name = cursor.name("the name of a tensor", MAX_NAME)
    dimensions = cursor.take(_U32, f"the number of dimensions of {name!r}")
    if dimensions > MAX_DIMENSIONS:
        raise CheckpointError(
            f"{file.name}: {name!r} has {dimensions} dimensions", expected=f"at most {MAX_DIMENSIONS}"
        )
    shape = tuple(cursor.take(_U64, f"the shape of {name!r}") for _ in range(dimensions))[::-1]
    number = cursor.take(_U32, f"the type of {name!r}")
    offset = cursor.take(_U64, f"the offset of {name!r}")
    if number not in TYPES:
        raise UnsupportedError(f"{file.name}: {name!r} has the tensor type {number}", expected="a type ggml defines")
    kind, count = TYPES[number], math.prod(shape)
    if count == 0 or (shape or (1,))[-1] % kind.weights:
        raise CheckpointError(
            f"{file.name}: {name!r} has the shape {list(shape)}",
            expected=f"no zeros, and rows of whole {kind.name} blocks of {kind.weights}",
        )
    return TensorInfo(name, kind, shape, offset, count // kind.weights * kind.nbytes)


def _placed(
    file: MappedFile, declared: deque[TensorInfo], start: int, alignment: int, header_only: bool
) -> dict[str, TensorInfo]:
    """The tensors with offsets from the start of the file, each within it (but for a header's), aligned, alone in its
    place and its name."""
    tensors: dict[str, TensorInfo] = {}
    for _ in range(len(declared)):
        info = declared.popleft()  # one by one, as 100,000 of them are not kept twice
        if info.name in tensors:
            raise CheckpointError(f"{file.name}: tensor {info.name!r} is there twice")
        if info.offset % alignment:
            raise CheckpointError(f"{file.name}: {info.name!r} is at {info.offset}, not a multiple of {alignment}")
        if not header_only:
            file.check(start + info.offset, info.nbytes, f"tensor {info.name!r}")
        tensors[info.name] = replace(info, offset=start + info.offset)
    for before, after in pairwise(sorted(tensors.values(), key=lambda info: info.offset)):
        if before.offset + before.nbytes > after.offset:
            raise CheckpointError(f"{file.name}: tensors {before.name!r} and {after.name!r} overlap")
    return tensors
