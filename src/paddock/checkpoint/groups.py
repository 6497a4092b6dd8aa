"""A matrix of small whole numbers with a scale and a zero point per group of inputs, as GPTQ and AWQ store it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from paddock.checkpoint.bits import fields
from paddock.checkpoint.stored import Codes, Stored
from paddock.errors import CheckpointError

CHUNK = 1 << 18  # weights expanded at a time: temporaries stay in a core's cache
KERNEL_GROUP = 32  # inputs that share a scale in the kernels' INT4 and INT8


def unpack(packed: Tensor, bits: int) -> Tensor:
    """(n, m) int32 to (n, m × 32 / bits) uint8: the lowest bits of each number come first."""
    return fields(packed.contiguous().view(torch.uint8), bits, run=1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """The inverse of `unpack`: (n, m) uint8 to (n, m × bits / 32) int32."""
    if bits == 4:
        codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return codes.contiguous().view(torch.int32)


@dataclass(frozen=True)
class Grouped:
    """The matrix of one linear layer: weight = (code - zero) × scale.

    `scales` is stored (groups, outputs). `codes(first, last)` gives those of some outputs, (last - first, inputs)
    uint8; `zeros()` all zero points, (groups, outputs) uint8. `order` (inputs,) is the group of each input where GPTQ's
    activation order scattered them, None where each `group` inputs in a row share one. `sources` lie in the file.
    """

    name: str
    inputs: int
    outputs: int
    bits: int
    group: int
    scales: Stored
    codes: Callable[[int, int], Tensor]
    zeros: Callable[[], Tensor]
    sources: tuple[Stored, ...]
    order: Tensor | None = None

    def stored(self, transposed: bool) -> Stored:
        """As a tensor of the plain checkpoint: (outputs, inputs), or the reverse where the family stores it so."""
        if transposed:
            return Stored((self.inputs, self.outputs), torch.float32, lambda: self.load().T)
        packed = Codes(f"INT{self.bits}", self.parts) if self._fits_kernels() else None
        return Stored((self.outputs, self.inputs), torch.float32, self.load, codes=packed)

    def load(self) -> Tensor:
        """(outputs, inputs) float32."""
        which = torch.arange(self.inputs) // self.group if self.order is None else self.order
        scales, zeros = self.scales.load().float().T, self.zeros().T
        result = torch.empty(self.outputs, self.inputs)
        for first, last in self._chunks():
            centred = self.codes(first, last).float() - zeros[first:last, which].float()
            torch.mul(centred, scales[first:last, which], out=result[first:last])
        self._release()
        return result

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (outputs, inputs) uint8; scales float16 and zeros uint8, both (outputs, inputs / 32)."""
        scales = self.scales.load()
        if not scales.isfinite().all():
            raise CheckpointError(
                f"tensor {self.name[:120]!r} has scales that are not numbers (NaN or infinite)",
                fix="the file is corrupt; get another copy",
            )
        codes = torch.empty(self.outputs, self.inputs, dtype=torch.uint8)
        for first, last in self._chunks():
            codes[first:last] = self.codes(first, last)
        spread = partial(torch.repeat_interleave, repeats=self.group // KERNEL_GROUP, dim=1)
        count = self.inputs // KERNEL_GROUP  # the last group may be shorter than the others
        parts = codes, spread(scales.T)[:, :count].contiguous(), spread(self.zeros().T)[:, :count].contiguous()
        self._release()
        return parts

    def _fits_kernels(self) -> bool:
        aligned = self.group % KERNEL_GROUP == 0 and self.inputs % KERNEL_GROUP == 0
        return aligned and self.order is None and self.scales.dtype == torch.float16

    def _chunks(self) -> list[tuple[int, int]]:
        step = max(64, CHUNK // self.inputs // 64 * 64)  # of 64, so that no packed number is cut
        return [(first, min(first + step, self.outputs)) for first in range(0, self.outputs, step)]

    def _release(self) -> None:
        for source in self.sources:
            source.release()
