"""ggml's K-quants: super-blocks of 256 weights whose sub-block scales are themselves quantised.

Source of the layouts: ggml-org/llama.cpp, `ggml-common.h` and `ggml-quants.c`. Every function takes blocks of bytes,
(n, bytes per block) uint8, and gives (n, 256) float32, operation by operation as the reference does, so that the
bits agree.
"""

from __future__ import annotations

from torch import Tensor, cat

from paddock.checkpoint.bits import fields, half, signed

SUPER = 256


def q2_k(blocks: Tensor) -> Tensor:
    """84 bytes: 16 × (4-bit scale, 4-bit minimum), 2-bit values, scale of the scales, scale of the minima."""
    packed, values = blocks[:, :16], fields(blocks[:, 16:80], bits=2, run=32)
    scale = half(blocks, 80) * (packed & 15).float()
    minimum = half(blocks, 82) * (packed >> 4).float()
    return _affine(values, scale, minimum)


def q3_k(blocks: Tensor) -> Tensor:
    """110 bytes: the values' third bits, their low two bits, 16 scales of 6 bits, scale of the scales."""
    low = fields(blocks[:, 32:96], bits=2, run=32)
    high = fields(blocks[:, :32], bits=1, run=32)
    values = signed(low) - 4 * (1 - signed(high))  # a clear third bit means "minus 4"
    scales = fields(blocks[:, 96:104], bits=4, run=8) | fields(blocks[:, 104:108], bits=2, run=4) << 4
    scale = half(blocks, 108) * (signed(scales) - 32).float()
    return (scale.unsqueeze(2) * values.view(-1, 16, 16).float()).view(-1, SUPER)


def q4_k(blocks: Tensor) -> Tensor:
    """144 bytes: two scales, 8 × (6-bit scale, 6-bit minimum), 4-bit values."""
    scale, minimum = _scales_and_minima(blocks)
    return _affine(fields(blocks[:, 16:], bits=4, run=32), scale, minimum)


def q5_k(blocks: Tensor) -> Tensor:
    """176 bytes: as Q4_K, with the values' fifth bits before their low four."""
    scale, minimum = _scales_and_minima(blocks)
    values = fields(blocks[:, 48:], bits=4, run=32) | fields(blocks[:, 16:48], bits=1, run=32) << 4
    return _affine(values, scale, minimum)


def q6_k(blocks: Tensor) -> Tensor:
    """210 bytes: low four bits, high two bits, 16 scales of int8, scale of the scales."""
    values = fields(blocks[:, :128], bits=4, run=64) | fields(blocks[:, 128:192], bits=2, run=32) << 4
    scale = half(blocks, 208) * signed(blocks[:, 192:208]).float()
    centred = (signed(values) - 32).view(-1, 16, 16).float()
    return (scale.unsqueeze(2) * centred).view(-1, SUPER)


def _affine(values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """scale × value - minimum per sub-block; `scale` and `minimum` are (n, sub-blocks)."""
    sub_blocks = values.view(values.shape[0], scale.shape[1], -1).float()
    return (scale.unsqueeze(2) * sub_blocks - minimum.unsqueeze(2)).view(-1, SUPER)


def _scales_and_minima(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 8) each, from 12 bytes that hold 8 + 8 numbers of 6 bits.

    Bytes 0-3 and 4-7: the first four scales and minima in the low six bits. Bytes 8-11: the low nibbles of the last
    four scales (low half) and minima (high half); their top two bits are the top two bits of bytes 0-3 and 4-7.
    """
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = cat((first & 63, (third & 15) | (first >> 6) << 4), dim=1)
    minima = cat((second & 63, (third >> 4) | (second >> 6) << 4), dim=1)
    return half(blocks, 0) * scales.float(), half(blocks, 2) * minima.float()
