"""Writing a GGUF container: metadata, then tensors one after another, none of them ever whole in memory.

Source of the layout: ggml-org/ggml, `docs/gguf.md` (version 3, little-endian; drawn in `gguf.py`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from paddock.checkpoint.block_types import TYPES, TensorType
from paddock.checkpoint.gguf_header import DEFAULT_ALIGNMENT
from paddock.errors import CheckpointError

Value = int | float | bool | str | list[str] | np.ndarray | np.generic

NUMBERS = {kind.name: number for number, kind in TYPES.items()}
BOOL, STRING, ARRAY = 7, 8, 9
_FORMS = {"u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": BOOL, "u8": 10, "i8": 11, "f8": 12}


@dataclass(frozen=True)
class Entry:
    """A tensor to be written. `shape` is in PyTorch's order; `data()` gives its bytes (uint8) in parts."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    data: Callable[[], Iterator[Tensor]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.type.weights * self.type.nbytes


def size_of(metadata: Mapping[str, Value], entries: Sequence[Entry]) -> int:
    """Bytes of the file to come."""
    head, _ = _head(metadata, entries)
    return len(head) + sum(_padded(entry.nbytes) for entry in entries)


def write(
    path: Path,
    metadata: Mapping[str, Value],
    entries: Sequence[Entry],
    progress: Callable[[Entry], None] | None = None,
) -> dict[str, int]:
    """Fills the file at `path`; where in it each number and text of the metadata lies, for `overwrite`.

    Numbers are stored as u32, i32 or u64 as they need, floats as f32; NumPy's scalars and arrays in their own type.
    The caller writes atomically (`writing.atomic_write`). Raises CheckpointError where a tensor gives another number of
    bytes than it announced.
    """
    head, places = _head(metadata, entries)
    with path.open("wb") as file:
        file.write(head)
        for entry in entries:
            if progress is not None:
                progress(entry)
            _fill(file, entry)
    return places


def overwrite(path: Path, places: Mapping[str, int], values: Mapping[str, np.generic | str]) -> None:
    """Puts values where `write` left others: numbers of the NumPy type and texts of the length that it wrote."""
    with path.open("r+b") as file:
        for key, value in values.items():
            file.seek(places[key])
            if isinstance(value, str):
                data = _text(value)
                assert file.read(8) == data[:8], f"{key} has another length"
                file.seek(places[key])
                file.write(data)
            else:
                file.write(value.tobytes())


def _fill(file: BinaryIO, entry: Entry) -> None:
    written = 0
    for part in entry.data():
        written += file.write(part.contiguous().numpy().data)
    if written != entry.nbytes:
        raise CheckpointError(f"tensor {entry.name!r} has {written} bytes", expected=f"{entry.nbytes}")
    file.write(bytes(_padded(written) - written))


def _padded(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _head(metadata: Mapping[str, Value], entries: Sequence[Entry]) -> tuple[bytes, dict[str, int]]:
    """Everything before the tensors, and where the numbers and texts in it lie."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(metadata)))
    places: dict[str, int] = {}
    for key, value in metadata.items():
        number, data = _value(value)
        out += _text(key) + struct.pack("<I", number)
        if number != ARRAY:
            places[key] = len(out)
        out += data
    at = 0
    for entry in entries:
        shape = entry.shape[::-1]
        out += _text(entry.name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        out += struct.pack("<IQ", NUMBERS[entry.type.name], at)
        at += _padded(entry.nbytes)
    return bytes(out.ljust(_padded(len(out)), b"\0")), places


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> tuple[int, bytes]:
    """A value's type and its bytes."""
    if isinstance(value, str):
        return STRING, _text(value)
    if isinstance(value, list):
        return ARRAY, struct.pack("<IQ", STRING, len(value)) + b"".join(map(_text, value))
    if isinstance(value, np.ndarray):
        return ARRAY, struct.pack("<IQ", _form(value), value.size) + value.tobytes()
    number = value if isinstance(value, np.generic) else _number(value)
    return _form(number), number.tobytes()


def _form(value: Any) -> int:
    return _FORMS[f"{value.dtype.kind}{value.dtype.itemsize}"]


def _number(value: bool | int | float) -> np.generic:
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, float):
        return np.float32(value)
    return np.int32(value) if value < 0 else np.uint32(value) if value < 2**32 else np.uint64(value)
