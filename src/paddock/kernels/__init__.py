"""The operations below the models: one set so far, and `chosen()` says which."""

from __future__ import annotations

from paddock.kernels.reference import ACTIVATIONS, attend, layer_norm, linear, rms_norm, rotate

__all__ = ["ACTIVATIONS", "attend", "chosen", "layer_norm", "linear", "rms_norm", "rotate"]


def chosen() -> str:
    """What runs the operations, for `paddock doctor` and benchmark records."""
    return "reference (PyTorch)"
