"""A tensor that still lies in its file: what every reader of weights hands to the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, dtype

from paddock.kernels.packed import Packed


def _keep() -> None:
    """Nothing of a file to let go of: the tensor was made in memory."""


@dataclass(frozen=True)
class Codes:
    """A quantised matrix as it was published, for kernels that compute with it unexpanded.

    `format` is the kernels' name of it (kernels/packed.py). `load()` gives its parts, every one with the matrix's rows
    as first dimension, so that what takes, splits or permutes rows does the same to each:

        ggml blocks   (rows, bytes per row) uint8
        INT4, INT8    codes (rows, columns) uint8, scales (rows, columns / 32) float16, zeros (rows, columns / 32) uint8
        NF4           codes (rows, columns) uint8, scales (rows, columns / 64) float32

    `packed` gives the kernels' Weight of the matrix as it lies, once, where that was begun before (ahead.py), or None.
    """

    format: str
    load: Callable[[], tuple[Tensor, ...]]
    packed: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint, described before it is read.

    `shape` is in PyTorch's order. `dtype` is what `load()` returns; a quantised block type says the type it is
    dequantised to. `load()` may return a view of the file's memory map (nothing copied) or a new tensor; it raises
    CheckpointError when the bytes are not what the description promised. `release()` says that the loaded tensor was
    copied elsewhere, so the file's pages need not stay in memory. `codes` are there for a quantised matrix only;
    `whole` gives one as it lies, all that was published of it, where there is a form for that (kernels/nf4.py).
    `viewed`: `load()` copies nothing.
    """

    shape: tuple[int, ...]
    dtype: dtype
    load: Callable[[], Tensor]
    release: Callable[[], None] = _keep
    codes: Codes | None = None
    whole: Callable[[], Packed] | None = None
    viewed: bool = False
