"""Numbers of a few bits, packed in bytes, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def fields(packed: Tensor, bits: int, run: int) -> Tensor:
    """(n, m) bytes → (n, m × 8 / bits) unsigned values of `bits` bits.

    Within each run of `run` bytes the lowest fields of all bytes come first, then the next lowest of all, and so on.
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8).view(1, 1, -1, 1)
    runs = packed.reshape(packed.shape[0], -1, 1, run)
    return ((runs >> shifts) & ((1 << bits) - 1)).view(packed.shape[0], -1)


def half(blocks: Tensor, at: int) -> Tensor:
    """(n, 1) float32: the float16 at byte `at` of every block."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def signed(values: Tensor) -> Tensor:
    """The same bytes read as int8."""
    return values.view(torch.int8)
