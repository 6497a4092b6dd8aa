"""How the tensor types of ggml become numbers.

Source of the layouts: ggml-org/llama.cpp, `ggml-common.h` and `ggml-quants.c`. Results equal the reference's bit for
bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from paddock.checkpoint import kquants
from paddock.checkpoint.bits import fields, half, signed
from paddock.checkpoint.block_types import TensorType

# Weights dequantised at a time: each temporary is 1 MB, which a core's cache holds, whatever the tensor's size.
CHUNK = 1 << 18

# IQ4_NL's sixteen levels: closer together around zero, where weights are dense.
IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


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


# Types of plain numbers, and what makes numbers of the blocks of others; a type with neither is known by its size only.
DTYPES: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F64": torch.float64,
    "BF16": torch.bfloat16,
}
DEQUANTISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": kquants.q2_k,
    "Q3_K": kquants.q3_k,
    "Q4_K": kquants.q4_k,
    "Q5_K": kquants.q5_k,
    "Q6_K": kquants.q6_k,
    "IQ4_NL": _iq4_nl,
}


def dequantise(kind: TensorType, data: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes of whole blocks, (blocks × `kind.nbytes`,) uint8 → (weights,) in `dtype`, a chunk at a time."""
    numbers = DEQUANTISERS[kind.name]
    blocks = data.view(-1, kind.nbytes)
    weights = torch.empty(len(blocks), kind.weights, dtype=dtype)
    step = max(1, CHUNK // kind.weights)
    for start in range(0, len(blocks), step):
        weights[start : start + step] = numbers(blocks[start : start + step])
    return weights.view(-1)
