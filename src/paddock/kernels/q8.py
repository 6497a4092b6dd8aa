"""A matrix that stays in 8 bits while others learn: blocks of 32 weights of a row share a scale, as in ggml's Q8_0.

A weight is a whole number from -127 to 127 times the block's largest magnitude / 127, which is kept as float16:
8 + 16 / 32 = 8.5 bits a weight.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.kernels import gradients, native
from paddock.kernels.packed import Packed

BLOCK, MOST = 32, 127
BITS = 8 + 16 / BLOCK
AT_ONCE = 2**18  # weights that are float32 at a time: what the second-level cache holds


class Q8(Packed):
    """A matrix (rows, columns) whose columns are whole blocks.

    codes: (rows, columns) int8. scales: (rows, columns / 32) float16. dtype: of the rows that are looked up.
    """

    def __init__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> None:
        self.codes, self.scales, self.dtype = codes, scales, dtype

    @classmethod
    def rounded(cls, matrix: Tensor, dtype: torch.dtype) -> Q8 | None:
        """A matrix of numbers; None where its columns are no whole blocks, or too large for a scale of float16."""
        rows, columns = matrix.shape
        if columns % BLOCK or not columns:
            return None
        codes = torch.empty(rows, columns, dtype=torch.int8)
        scales = torch.empty(rows, columns // BLOCK, dtype=torch.float16)
        for first, last in _pieces(0, rows, columns):
            blocks = matrix[first:last].detach().float().view(last - first, -1, BLOCK)
            scales[first:last] = blocks.abs().amax(-1) / MOST
            wide = scales[first:last, :, None].float()
            found = (blocks / torch.where(wide == 0, 1.0, wide)).round_().clamp_(-MOST, MOST)
            codes[first:last] = found.view(last - first, columns)
        return cls(codes, scales, dtype) if scales.isfinite().all() else None

    @property
    def native(self) -> Any:
        """For the kernels of inference, packed anew: only who decodes with it keeps that."""
        module = native.extension()
        assert module is not None, "packed matrices need the native kernels"
        rows, columns = self.shape
        parts = (self.scales.view(torch.uint8).view(rows, -1, 2), self.codes.view(torch.uint8).view(rows, -1, BLOCK))
        return module.Weight.pack("q8_0", rows, columns, torch.cat(parts, -1).view(-1).numpy())

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def dequantise(self) -> Tensor:
        return self.dense(torch.float32)

    def dense(self, dtype: torch.dtype, first: int = 0, last: int | None = None) -> Tensor:
        """The numbers of the rows from `first` to `last`: float32 products of code and scale, rounded to `dtype`."""
        last = len(self.codes) if last is None else last
        y = torch.empty(last - first, self.shape[1], dtype=dtype)
        for start, end in _pieces(first, last, self.shape[1]):
            y[start - first : end - first] = _numbers(self.codes[start:end], self.scales[start:end])
        return y

    def take(self, ids: Tensor) -> Tensor:
        """Rows `ids`, (...) int64 to (..., columns), of `dtype`."""
        flat = ids.reshape(-1)
        return _numbers(self.codes[flat], self.scales[flat]).to(self.dtype).view(*ids.shape, self.shape[1])

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Where no gradient is asked for: in what products are computed in, here and under autocast."""
        dtype = gradients.narrow_type(x)
        return F.linear(x.to(dtype), self.dense(dtype), None if bias is None else bias.to(dtype))


def _pieces(first: int, last: int, columns: int) -> list[tuple[int, int]]:
    step = max(1, AT_ONCE // columns)
    return [(start, min(last, start + step)) for start in range(first, last, step)]


def _numbers(codes: Tensor, scales: Tensor) -> Tensor:
    """(rows, columns) float32."""
    wide = codes.float().view(*scales.shape, BLOCK)
    return wide.mul_(scales.float()[..., None]).view(codes.shape)
