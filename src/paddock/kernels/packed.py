"""A matrix in the native kernels' own layout: quantised as it was published, or plain numbers, in tiles of 16 rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.kernels import native
from paddock.kernels.native import BLOCKS

PLAIN = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
AFFINE = ("INT4", "INT8")


class Packed:
    """Stands where a matrix of a model stands: has its shape, and says float32 on the CPU, which is what it computes.

    Not a tensor: only `kernels.linear` and `kernels.embed` take it, and `dequantise()` gives the numbers. `native` is
    the kernels' Weight.
    """

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, native: Any) -> None:
        self.native = native

    @staticmethod
    def of(format: str, parts: Sequence[Tensor], columns: int) -> Packed:
        """From published codes (`checkpoint.stored.Codes`): `parts` as described there, for a matrix of `columns`."""
        weight = _module().Weight
        arrays = [part.contiguous().numpy() for part in parts]
        rows = len(arrays[0])
        if format in BLOCKS:
            return Packed(weight.pack(format.lower(), rows, columns, arrays[0].reshape(-1)))
        if format in AFFINE:
            return Packed(weight.pack_affine(format.lower(), arrays[0], arrays[1].view(np.uint16), arrays[2]))
        assert format == "NF4", format
        return Packed(weight.pack_nf4(arrays[0], arrays[1]))

    @staticmethod
    def finite(format: str, parts: Sequence[Tensor]) -> bool:
        """Whether all scales of published codes are numbers; asked before they are packed."""
        if format in BLOCKS:
            return bool(_module().finite_scales(format.lower(), parts[0].contiguous().view(-1).numpy()))
        return bool(parts[1].isfinite().all())

    @staticmethod
    def plain(matrix: Tensor) -> Packed:
        """From a matrix (rows, columns) of float32, float16 or bfloat16 numbers."""
        rows, columns = matrix.shape
        numbers = matrix.detach().contiguous().view(torch.uint8).numpy()
        return Packed(_module().Weight.pack(PLAIN[matrix.dtype], rows, columns, numbers.reshape(-1)))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.native.rows, self.native.columns))

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        return int(self.native.nbytes)

    def numel(self) -> int:
        return self.shape.numel()

    def dequantise(self) -> Tensor:
        """The numbers, (rows, columns) float32."""
        return torch.from_numpy(self.native.unpack())

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The numbers, (rows, columns), for a product in `dtype`."""
        return self.dequantise().to(dtype)

    def take(self, ids: Tensor) -> Tensor:
        """Rows `ids`, (...) int64 to (..., columns) float32."""
        rows = self.native.take(np.ascontiguousarray(ids.reshape(-1).numpy()))
        return torch.from_numpy(rows).view(*ids.shape, self.shape[1])

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(..., columns) to (..., rows), float32."""
        flat = np.ascontiguousarray(x.detach().reshape(-1, x.shape[-1]).float().numpy())
        added = None if bias is None else np.ascontiguousarray(bias.detach().float().numpy())
        result = torch.from_numpy(_module().linear(flat, self.native, added))
        return result.view(*x.shape[:-1], self.shape[0])


def _module() -> Any:
    """The native kernels, also where the reference is asked for by now: packed matrices need them."""
    module = native.library() or native.extension()
    assert module is not None, "packed matrices need the native kernels"
    return module
