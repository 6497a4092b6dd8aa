"""Numbers of 8 bits and fewer as the nearest of some levels: the levels that bitsandbytes has, and the choice."""

from __future__ import annotations

import torch
from torch import Tensor

DECADES = 7


def dynamic_levels(signed: bool = True) -> Tensor:
    """(256,) float32, ascending: bitsandbytes' 8-bit numbers (arXiv 2110.02861), 0 and 1 among them.

    Decade k of 7, up to 10^(k - 6), holds the midpoints of 2^k equal parts from a tenth of it to all of it, with either
    sign. Without signs there are twice as many parts in each decade.
    """
    levels = [0.0, 1.0]
    for decade in range(DECADES):
        parts, most = 2**decade * (1 if signed else 2), 10.0 ** (decade - DECADES + 1)
        for part in range(parts):
            level = most * (0.1 + 0.9 * (part + 0.5) / parts)
            levels += [level, -level] if signed else [level]
    return torch.tensor(sorted(levels), dtype=torch.float64).float()


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """The number of the nearest of ascending `levels` for each value, uint8. Halfway goes to the lower."""
    wide = levels.double()
    return torch.bucketize(values.double(), (wide[1:] + wide[:-1]) / 2).to(torch.uint8)


def in_blocks(values: Tensor, size: int) -> Tensor:
    """(n,) to (ceil(n / size), size); the last block is filled up with zeros."""
    short = -len(values) % size
    return (torch.cat((values, values.new_zeros(short))) if short else values).view(-1, size)


def nonzero(scales: Tensor) -> Tensor:
    """1 where a block holds nothing but zeros, whose level is the exact 0 whatever the scale."""
    return torch.where(scales == 0, 1.0, scales)
