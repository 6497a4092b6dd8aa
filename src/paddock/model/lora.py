"""LoRA from outside, by role: low-rank matrices beside those of a model that stays as it is (arXiv 2106.09685).

An adapted model is a second Transformer whose modules hold the first one's very parameters, so it costs the adapter's
own size. It runs, and is recorded for the native kernels, like any other: the adapter is two more linears and a sum.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from paddock import kernels
from paddock.model.linear import Linear
from paddock.model.transformer import Transformer


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one matrix (out, in): scale * b a, with a (rank, in) and b (out, rank)."""

    a: Tensor
    b: Tensor
    scale: float


class Adapted(nn.Module):
    """x W^T + bias + (scale * x A^T) B^T: (..., in) to (..., out). Scaled where the numbers are fewest."""

    def __init__(self, base: nn.Module, delta: LowRank) -> None:
        super().__init__()
        self.base, self.scale = base, delta.scale
        self.a = nn.Parameter(delta.a, requires_grad=False)
        self.b = nn.Parameter(delta.b, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        low = kernels.linear(x, self.a, None) * self.scale
        return self.base(x) + kernels.linear(low, self.b, None)


def adaptable(model: Transformer) -> dict[str, tuple[int, int]]:
    """Paths of the matrices that an adapter may be put on, with their (out, in)."""
    return {
        path: (module.out_features, module.in_features)
        for path, module in model.named_modules()
        if isinstance(module, Linear)
    }


def adapt(model: Transformer, deltas: Mapping[str, LowRank]) -> Transformer:
    """A Transformer like `model` with `deltas`, by the paths of their matrices; everything else is shared with it.

    The adapter's numbers take the type that the model computes in.
    """
    dtype = model.embedding.tokens.weight.dtype
    device = model.embedding.tokens.weight.device
    twin = _twin(model)
    for path, delta in deltas.items():
        parent_path, _, leaf = path.rpartition(".")
        parent = twin.get_submodule(parent_path)
        a, b = (part.to(device=device, dtype=dtype).contiguous() for part in (delta.a, delta.b))
        parent._modules[leaf] = Adapted(parent.get_submodule(leaf), LowRank(a, b, delta.scale))
    return twin


def is_adapted(model: Transformer) -> bool:
    """Whether parts of it are an adapter's."""
    return any(isinstance(module, Adapted) for module in model.modules())


def _twin(module: Any) -> Any:
    """New modules around the same parameters."""
    twin = copy.copy(module)
    twin.__dict__.pop("weight_bytes", None)  # what was computed of the model before
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    twin._modules = {name: None if child is None else _twin(child) for name, child in module._modules.items()}
    return twin
