"""The tensor types of ggml: how many weights a block holds, in how many bytes, and how it becomes float32.

Source of numbers and layouts: ggml-org/llama.cpp, `ggml.h`, `ggml-common.h` and `ggml-quants.c`. Results equal the
reference's bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.checkpoint import kquants
from paddock.checkpoint.bits import fields, half, signed

# Weights dequantised at a time: each temporary is 1 MB, which a core's cache holds, whatever the tensor's size.
CHUNK = 1 << 18

# IQ4_NL's sixteen levels: closer together around zero, where weights are dense.
IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True)
class TensorType:
    """`weights` in `nbytes` make one block. Plain numbers have a `dtype`; block types `dequantise`; a type with
    neither is known by its size only and cannot be loaded."""

    name: str
    weights: int
    nbytes: int
    dtype: torch.dtype | None = None
    dequantise: Callable[[Tensor], Tensor] | None = None


def _q4_0(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * (signed(fields(blocks[:, 2:], bits=4, run=16)) - 8).float()


def _q4_1(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * fields(blocks[:, 4:], bits=4, run=16).float() + half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = fields(blocks[:, 6:], bits=4, run=16) | fields(blocks[:, 2:6], bits=1, run=1) << 4
    return half(blocks, 0) * (signed(values) - 16).float()


def _q5_1(blocks: Tensor) -> Tensor:
    values = fields(blocks[:, 8:], bits=4, run=16) | fields(blocks[:, 4:8], bits=1, run=1) << 4
    return half(blocks, 0) * values.float() + half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * signed(blocks[:, 2:]).float()


def _iq4_nl(blocks: Tensor) -> Tensor:
    levels = torch.tensor(IQ4_LEVELS, dtype=torch.float32)
    return half(blocks, 0) * levels[fields(blocks[:, 2:], bits=4, run=16).int()]


TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4, torch.float32),
    1: TensorType("F16", 1, 2, torch.float16),
    2: TensorType("Q4_0", 32, 18, dequantise=_q4_0),
    3: TensorType("Q4_1", 32, 20, dequantise=_q4_1),
    6: TensorType("Q5_0", 32, 22, dequantise=_q5_0),
    7: TensorType("Q5_1", 32, 24, dequantise=_q5_1),
    8: TensorType("Q8_0", 32, 34, dequantise=_q8_0),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84, dequantise=kquants.q2_k),
    11: TensorType("Q3_K", 256, 110, dequantise=kquants.q3_k),
    12: TensorType("Q4_K", 256, 144, dequantise=kquants.q4_k),
    13: TensorType("Q5_K", 256, 176, dequantise=kquants.q5_k),
    14: TensorType("Q6_K", 256, 210, dequantise=kquants.q6_k),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18, dequantise=_iq4_nl),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1, torch.int8),
    25: TensorType("I16", 1, 2, torch.int16),
    26: TensorType("I32", 1, 4, torch.int32),
    27: TensorType("I64", 1, 8, torch.int64),
    28: TensorType("F64", 1, 8, torch.float64),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2, torch.bfloat16),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}


def dequantise(kind: TensorType, data: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes of whole blocks, (blocks × `kind.nbytes`,) uint8 → (weights,) in `dtype`, a chunk at a time."""
    assert kind.dequantise is not None, kind.name
    blocks = data.view(-1, kind.nbytes)
    weights = torch.empty(len(blocks), kind.weights, dtype=dtype)
    step = max(1, CHUNK // kind.weights)
    for start in range(0, len(blocks), step):
        weights[start : start + step] = kind.dequantise(blocks[start : start + step])
    return weights.view(-1)
