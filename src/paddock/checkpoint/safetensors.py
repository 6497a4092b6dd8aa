"""Safetensors files: an 8-byte length, a JSON header, then raw tensors without gaps or overlaps.

Reading is ours, so that the header is bounded and tensors are views of one memory map; writing is the library's.
Format: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import math
import struct
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.jsonfile import parse
from paddock.checkpoint.mapped import MappedFile
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.writing import atomic_write
from paddock.errors import CheckpointError

HEADER_LIMIT = 32 * 2**20
TENSOR_LIMIT = 100_000
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
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read(path: str | Path) -> dict[str, Stored]:
    """Every tensor of a file, described and checked but not yet read. Raises CheckpointError."""
    file = MappedFile(path)
    size = int(struct.unpack("<Q", file.bytes(0, 8, "the header's length"))[0])
    if size > HEADER_LIMIT:
        raise CheckpointError(f"{file.name} says its header is {size} bytes", expected=f"at most {HEADER_LIMIT}")
    header = parse(file.bytes(8, size, "the header"), f"the header of {file.name}")
    header.pop("__metadata__", None)
    if len(header) > TENSOR_LIMIT:
        raise CheckpointError(f"{file.name} lists {len(header)} tensors", expected=f"at most {TENSOR_LIMIT}")
    places = {name: _place(file, name, entry) for name, entry in header.items()}
    _check_layout(file, [(start, stop, name) for name, (_, _, start, stop) in places.items()], file.size - 8 - size)
    return {
        name: Stored(
            shape,
            dtype,
            load=partial(file.tensor, 8 + size + start, dtype, shape, name),
            release=partial(file.forget, 8 + size + start, stop - start),
        )
        for name, (dtype, shape, start, stop) in places.items()
    }


def _place(file: MappedFile, name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
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
    return DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_layout(file: MappedFile, ranges: list[tuple[int, int, str]], room: int) -> None:
    """Tensors must tile the data exactly: no overlap, no gap, nothing beyond the end."""
    end = 0
    for start, stop, name in sorted(ranges):
        if start != end:
            problem = "overlaps the one before it" if start < end else f"leaves {start - end} bytes unexplained"
            raise CheckpointError(f"{file.name}: tensor {name[:80]!r} {problem}")
        end = stop
    if end != room:
        raise CheckpointError(
            f"{file.name} holds {room} bytes of tensors", expected=f"{end}, from its header; the file may be cut short"
        )


def write(path: str | Path, tensors: dict[str, Tensor]) -> None:
    """Writes contiguous copies of `tensors`, atomically."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, part, metadata={"format": "pt"})
