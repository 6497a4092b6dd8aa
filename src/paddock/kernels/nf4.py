"""NF4 with double quantisation (QLoRA, arXiv 2305.14314), laid out as bitsandbytes does it.

Blocks of 64 weights of the flattened matrix share a scale, their largest magnitude; a weight becomes the nearest of 16
levels times it, two a byte, the first in the high half. The scales, less their mean, become 8-bit numbers in blocks of
256 with a float32 scale of their own: 4 + 8 / 64 + 32 / (64 × 256) = 4.127 bits a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.kernels import gradients, native
from paddock.kernels.levels import dynamic_levels, in_blocks, nearest_level, nonzero
from paddock.kernels.packed import Packed

# Normal quantiles scaled to [-1, 1] with an exact zero: 7 levels below it, 8 above.
# fmt: off
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022833234,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
# fmt: on
BLOCK, NESTED_BLOCK = 64, 256
KERNEL_BLOCK = 16  # of which the native kernel's blocks are multiples
AT_ONCE = 2**20  # weights that are rounded at a time


@dataclass(frozen=True, eq=False)
class Scales:
    """Block scales in 8 bits: levels[codes] × coarse[block of 256] + offset."""

    codes: Tensor
    coarse: Tensor
    levels: Tensor
    offset: float

    @classmethod
    def of(cls, scales: Tensor) -> Scales:
        """From (blocks,) float32."""
        levels, offset = dynamic_levels(), scales.mean()
        blocks = in_blocks(scales - offset, NESTED_BLOCK)
        coarse = blocks.abs().amax(1)
        codes = nearest_level(blocks / nonzero(coarse)[:, None], levels)
        return cls(codes.flatten()[: len(scales)].clone(), coarse, levels, offset.item())

    def values(self) -> Tensor:
        """(blocks,) float32."""
        coarse = self.coarse.repeat_interleave(NESTED_BLOCK)[: len(self.codes)]
        return self.levels[self.codes.int()] * coarse + self.offset

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.coarse.nbytes


class Nf4(Packed):
    """A matrix (rows, columns) that stays in NF4 while others learn: numbers are made of it product by product.

    codes: (weights / 2,) uint8. scales: of blocks of `block` weights, float32 or themselves quantised. The table of the
    scales' 256 levels is not counted among its bytes: there is one for all matrices.
    """

    def __init__(self, codes: Tensor, scales: Scales | Tensor, shape: tuple[int, int], block: int = BLOCK) -> None:
        self.codes, self.scales, self._shape, self.block = codes, scales, torch.Size(shape), block

    @classmethod
    def rounded(cls, matrix: Tensor, double: bool = True) -> Nf4:
        """A matrix of numbers; `double`: its scales in 8 bits."""
        flat = matrix.detach().contiguous().view(-1)
        levels = torch.tensor(NF4_LEVELS)
        codes = torch.empty(-(-len(flat) // 2), dtype=torch.uint8)
        scales = torch.empty(-(-len(flat) // BLOCK))
        for first in range(0, len(flat), AT_ONCE):
            blocks = in_blocks(flat[first : first + AT_ONCE].float(), BLOCK)
            largest = blocks.abs().amax(1)
            found = nearest_level(blocks / nonzero(largest)[:, None], levels).view(-1, 2)
            place = codes[first // 2 : (first + AT_ONCE) // 2]
            place.copy_((found[:, 0] << 4 | found[:, 1])[: len(place)])
            scales[first // BLOCK : first // BLOCK + len(largest)] = largest
        if len(flat) % 2:  # bitsandbytes leaves the other half empty
            codes[-1] &= 0xF0
        return cls(codes, Scales.of(scales) if double else scales, tuple(matrix.shape))  # type: ignore[arg-type]

    @property
    def native(self) -> Any:
        """For the kernels of inference, packed anew: only who decodes with it keeps that."""
        rows, columns = self.shape
        module = native.extension()
        assert module is not None, "packed matrices need the native kernels"
        if columns % BLOCK or self.block % BLOCK:
            return Packed.plain(self.dequantise()).native
        codes = torch.stack((self.codes >> 4, self.codes & 15), 1).view(rows, columns)
        scales = self.block_scales().repeat_interleave(self.block // BLOCK).view(rows, -1)
        return module.Weight.pack_nf4(codes.numpy(), np.ascontiguousarray(scales.numpy()))

    @property
    def shape(self) -> torch.Size:
        return self._shape

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def block_scales(self) -> Tensor:
        """(blocks,) float32."""
        return self.scales.values() if isinstance(self.scales, Scales) else self.scales

    def dequantise(self) -> Tensor:
        return self.dense(torch.float32)

    def take(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.dequantise())

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Where no gradient is asked for: in what products are computed in, here and under autocast."""
        dtype = gradients.narrow_type(x)
        return F.linear(x.to(dtype), self.dense(dtype), None if bias is None else bias.to(dtype))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(rows, columns) numbers, each the float32 product of level and scale, rounded to `dtype`."""
        module = native.library()
        number = gradients.NUMBERS.get(dtype)
        if module is None or number not in (0, 1) or self.block % KERNEL_BLOCK:
            return self._looked_up().to(dtype)
        y = torch.empty(self.shape, dtype=dtype)
        scales: Any = self.scales
        nested = isinstance(scales, Scales)
        places = [scales.coarse, scales.codes, scales.levels] if nested else [scales, None, None]
        given = [0 if each is None else each.data_ptr() for each in places]
        offset = scales.offset if nested else 0.0
        module.train_level(number, y.numel(), self.block, self.codes.data_ptr(), *given, offset, y.data_ptr())
        return y

    def _looked_up(self) -> Tensor:
        codes = torch.stack((self.codes >> 4, self.codes & 15), 1).view(-1)[: self.numel()]
        levels = torch.tensor(NF4_LEVELS)[codes.int()]
        scales = self.block_scales().repeat_interleave(self.block)[: self.numel()]
        return (levels * scales).view(self.shape)
