"""The operations below the models: PyTorch's, and native kernels where they were built; `chosen()` says which.

PyTorch comes with the first of them that is used: the native kernels alone (`native.library()`) do without.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'paddock.kernels' has no attribute {name!r}")
    found = getattr(_room(name), name)
    globals()[name] = found  # from now on it is looked up as in any module
    return found


def _room(name: str) -> ModuleType:
    if name == "chosen":
        from paddock.kernels import native

        return native
    if name == "Part":
        from paddock.kernels import gradients_adapted

        return gradients_adapted
    if name == "ACTIVATIONS":
        from paddock.kernels import reference

        return reference
    from paddock.kernels import operations

    return operations
