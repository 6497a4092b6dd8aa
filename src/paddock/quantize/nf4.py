"""NF4 with double quantisation (QLoRA, arXiv 2305.14314), in bitsandbytes' container.

Blocks of 64 weights of the flattened matrix share a scale, their largest magnitude; a weight becomes the nearest of 16
levels times it. The scales, less their mean, become 8-bit numbers in blocks of 256 with a float32 scale of their own:
4 + 8 / 64 + 32 / (64 × 256) = 4.127 bits a weight.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.checkpoint.bitsandbytes import NF4_LEVELS

BLOCK, NESTED_BLOCK = 64, 256
DECADES = 7


def dynamic_levels() -> Tensor:
    """(256,) float32, ascending: bitsandbytes' signed 8-bit numbers (arXiv 2110.02861).

    Decade k of 7, up to 10^(k - 6), holds the midpoints of 2^k equal parts from a tenth of it to all of it, with either
    sign; 0 and 1 are besides.
    """
    levels = [0.0, 1.0]
    for decade in range(DECADES):
        parts, most = 2**decade, 10.0 ** (decade - DECADES + 1)
        for part in range(parts):
            level = most * (0.1 + 0.9 * (part + 0.5) / parts)
            levels += [level, -level]
    return torch.tensor(sorted(levels), dtype=torch.float64).float()


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """The number of the nearest of ascending `levels` for each value, uint8. Halfway goes to the lower."""
    wide = levels.double()
    return torch.bucketize(values.double(), (wide[1:] + wide[:-1]) / 2).to(torch.uint8)


@dataclass(frozen=True)
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
        blocks = _blocks(scales - offset, NESTED_BLOCK)
        coarse = blocks.abs().amax(1)
        codes = nearest_level(blocks / _nonzero(coarse)[:, None], levels)
        return cls(codes.flatten()[: len(scales)], coarse, levels, offset.item())

    def values(self) -> Tensor:
        """(blocks,) float32."""
        coarse = self.coarse.repeat_interleave(NESTED_BLOCK)[: len(self.codes)]
        return self.levels[self.codes.int()] * coarse + self.offset


def pack(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A matrix (outputs, inputs) as the tensors that bitsandbytes reads under `name` ("….weight")."""
    levels = torch.tensor(NF4_LEVELS)
    blocks = _blocks(weight.float().flatten(), BLOCK)
    scales = blocks.abs().amax(1)
    codes = nearest_level(blocks / _nonzero(scales)[:, None], levels).flatten()[: weight.numel()]
    if len(codes) % 2:
        codes = torch.cat((codes, codes.new_zeros(1)))
    nested = Scales.of(scales)
    state = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "shape": list(weight.shape),
        "nested_blocksize": NESTED_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": nested.offset,
    }
    return {
        name: (codes[0::2] << 4 | codes[1::2])[:, None],
        f"{name}.absmax": nested.codes,
        f"{name}.quant_map": levels,
        f"{name}.nested_absmax": nested.coarse,
        f"{name}.nested_quant_map": nested.levels,
        f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }


def _blocks(values: Tensor, size: int) -> Tensor:
    """(n,) to (ceil(n / size), size); the last block is filled up with zeros."""
    short = -len(values) % size
    return torch.cat((values, values.new_zeros(short))).view(-1, size)


def _nonzero(scales: Tensor) -> Tensor:
    """1 where a block holds nothing but zeros, whose level is the exact 0 whatever the scale."""
    return torch.where(scales == 0, 1.0, scales)
