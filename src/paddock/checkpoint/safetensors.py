"""Safetensors files: an 8-byte length, a JSON header, then raw tensors without gaps or overlaps.

Both directions are ours: reading, so that the header is bounded and tensors are views of one memory map; writing, so
that tensors are made one at a time and a full disk is told from other troubles.
Format: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.jsonfile import members
from paddock.checkpoint.mapped import MappedFile
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.writing import atomic_write
from paddock.errors import CheckpointError

HEADER_LIMIT = 32 * 2**20
TENSOR_LIMIT = 100_000
ENTRY_LIMIT, METADATA_LIMIT = 1024, 2**20  # characters
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: str | Path) -> dict[str, Stored]:
    """Every tensor of a file, described and checked but not yet read. Raises CheckpointError."""
    file = MappedFile(path)
    size = int(struct.unpack("<Q", file.bytes(0, 8, "the header's length"))[0])
    if size > HEADER_LIMIT:
        raise CheckpointError(f"{file.name} says its header is {size} bytes", expected=f"at most {HEADER_LIMIT}")
    data = 8 + size
    result: dict[str, Stored] = {}
    places: list[_Place] = []
    for name, entry in members(file.bytes(8, size, "the header"), f"the header of {file.name}", _longest):
        if name == "__metadata__":
            continue
        if len(result) == TENSOR_LIMIT:
            raise CheckpointError(f"{file.name} lists too many tensors", expected=f"at most {TENSOR_LIMIT}")
        place = _place(file, name, entry, data)
        result[name] = Stored(place.shape, place.dtype, place.load, place.release, viewed=True)
        places.append(place)
    _check_layout(file, places, data)
    return result


def _longest(key: str) -> int:
    return METADATA_LIMIT if key == "__metadata__" else ENTRY_LIMIT


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in its file, from `start` to `stop`; small, as a file may have a hundred thousand."""

    file: MappedFile
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def load(self) -> Tensor:
        return self.file.tensor(self.start, self.dtype, self.shape, self.name)

    def release(self) -> None:
        self.file.forget(self.start, self.stop - self.start)


def _place(file: MappedFile, name: str, entry: Any, data: int) -> _Place:
    """One entry of the header; `data` is where the numbers begin."""
    where = f"{file.name}: tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} is not described", expected="dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{where} has the unknown type {str(dtype)[:40]!r}", expected=", ".join(DTYPES))
    if not _counts(shape) or len(shape) > 16:
        raise CheckpointError(f"{where} has the shape {str(shape)[:80]}", expected="a short list of whole numbers")
    if not _counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{where} has the offsets {str(offsets)[:80]}", expected="a start and an end")
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != nbytes:
        raise CheckpointError(f"{where} holds {offsets[1] - offsets[0]} bytes", expected=f"{nbytes} for its shape")
    return _Place(file, name, DTYPES[dtype], tuple(shape), data + offsets[0], data + offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_layout(file: MappedFile, places: list[_Place], data: int) -> None:
    """Tensors must tile the data exactly: no overlap, no gap, nothing beyond the end."""
    end = data
    for place in sorted(places, key=lambda place: (place.start, place.stop)):
        if place.start != end:
            gap = place.start - end
            problem = "overlaps the one before it" if gap < 0 else f"leaves {gap} bytes unexplained"
            raise CheckpointError(f"{file.name}: tensor {place.name[:80]!r} {problem}")
        end = place.stop
    if end != file.size:
        raise CheckpointError(
            f"{file.name} is {file.size} bytes", expected=f"{end}, from its header; the file may be cut short"
        )


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: described now, made when its turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]


def write(path: str | Path, tensors: Mapping[str, Tensor | Planned]) -> None:
    """Writes the tensors atomically, one after another; widest types first, so that each begins where it may."""
    with atomic_write(path) as part:
        save(part, tensors)


def save(path: str | Path, tensors: Mapping[str, Tensor | Planned]) -> None:
    """`write` without the safety, for a caller that renames several files together."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        shape, dtype = tensors[name].shape, tensors[name].dtype
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            planned = tensors[name]
            tensor = planned.make() if isinstance(planned, Planned) else planned
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())  # a disk that is full says so here at the latest
