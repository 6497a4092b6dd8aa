"""The operations below the models: PyTorch's, and native kernels where they were built; `chosen()` says which."""

from __future__ import annotations

from paddock.kernels.gradients_adapted import Part
from paddock.kernels.native import chosen
from paddock.kernels.operations import (
    activate,
    adapted,
    adapts,
    add_ranks,
    attend,
    cross_entropy,
    embed,
    gate,
    layer_norm,
    linear,
    linears,
    mixture,
    rms_norm,
    rotate,
)
from paddock.kernels.reference import ACTIVATIONS

__all__ = [
    "ACTIVATIONS",
    "Part",
    "activate",
    "adapted",
    "adapts",
    "add_ranks",
    "attend",
    "chosen",
    "cross_entropy",
    "embed",
    "gate",
    "layer_norm",
    "linear",
    "linears",
    "mixture",
    "rms_norm",
    "rotate",
]
