"""A tensor that still lies in its file: what every reader of weights hands to the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, dtype


def _keep() -> None:
    """Nothing of a file to let go of: the tensor was made in memory."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint, described before it is read.

    `shape` is in PyTorch's order. `dtype` is what `load()` returns; a quantised block type says the type it is
    dequantised to. `load()` may return a view of the file's memory map (nothing copied) or a new tensor; it raises
    CheckpointError when the bytes are not what the description promised. `release()` says that the loaded tensor was
    copied elsewhere, so the file's pages need not stay in memory.
    """

    shape: tuple[int, ...]
    dtype: dtype
    load: Callable[[], Tensor]
    release: Callable[[], None] = _keep
