"""What one token costs a model: bytes that must be read, multiply-adds that must be done."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from paddock.kernels.packed import Packed
from paddock.model.linear import weights_of
from paddock.model.spec import Architecture, Experts
from paddock.model.transformer import Transformer

TABLES = ("embedding.tokens.weight", "embedding.positions.weight", "embedding.segments.weight")


@dataclass(frozen=True)
class Work:
    """Of one token.

    parameters: of the whole model. weight_bytes: in memory, the whole model. read_bytes: those of the weights that a
    decoded token reads; idle experts and embedding tables, of which it reads a row, do not count. multiply_adds: of
    the matrices without the head. head: of the head. kind: the type that matrices are multiplied in (`Machine.rate`).
    """

    parameters: int
    weight_bytes: int
    read_bytes: float
    multiply_adds: float
    head: int
    kind: str
    architecture: Architecture

    @staticmethod
    def of(model: Transformer) -> Work:
        """Of a model without an encoder."""
        weights = weights_of(model)
        tied = model.head is not None and model.head.part.tied
        read = multiply = 0.0
        head = 0
        for name, weight in weights.items():
            is_head = name == "head.weight" or (tied and name == TABLES[0])
            if name in TABLES and not is_head:
                continue
            share = _share(name, model.architecture)
            read += weight.nbytes * share
            if is_head:
                head = weight.shape.numel()
            elif len(weight.shape) == 2:
                multiply += weight.shape.numel() * share
        matrices = [weight for weight in weights.values() if len(weight.shape) == 2]
        return Work(
            parameters=sum(weight.shape.numel() for weight in weights.values()),
            weight_bytes=sum(weight.nbytes for weight in weights.values()),
            read_bytes=read,
            multiply_adds=multiply,
            head=head,
            kind=_kind(matrices),
            architecture=model.architecture,
        )

    def attention(self, keys: float) -> float:
        """Multiply-adds of attention for one query that sees `keys` keys, over all layers."""
        total = 0.0
        for layer in self.architecture.layers:
            part = layer.attention
            total += 2 * part.heads * part.head_dim * min(keys, part.window or keys)
        return total

    def reading(self, tokens: int, depth: int) -> float:
        """Multiply-adds to read `tokens` tokens behind `depth` others; the head runs once."""
        seen = depth + (tokens + 1) / 2  # on average
        return tokens * (self.multiply_adds + self.attention(seen)) + self.head


def _share(name: str, architecture: Architecture) -> float:
    """How much of a weight one token uses: of experts the active part."""
    match = re.match(r"blocks\.(\d+)\.feedforward\.experts\.", name)
    if match is None:
        return 1.0
    part = architecture.layer(int(match[1])).feedforward
    return part.active / part.count if isinstance(part, Experts) else 1.0


def _kind(matrices: list[torch.Tensor | Packed]) -> str:
    """The type of most of the model: quantised matrices are multiplied as int8."""
    sizes: dict[str, int] = {}
    for matrix in matrices:
        if isinstance(matrix, Packed):
            quantised = matrix.nbytes * 8 < matrix.shape.numel() * 16 * 0.9
            kind = "int8" if quantised else "bf16" if matrix.nbytes < matrix.shape.numel() * 3 else "f32"
        else:
            kind = "f32" if matrix.dtype == torch.float32 else "bf16"
        sizes[kind] = sizes.get(kind, 0) + matrix.shape.numel()
    return max(sizes, key=sizes.__getitem__)
