"""In which type the matrices are multiplied. Weights, gradients and the optimizer's state stay float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from paddock.errors import UsageError
from paddock.model.spec import Architecture

NARROW = 128  # below this width casting costs what the matrix unit wins (docs/notes/2026-11-22-training-precision.md)


@dataclass(frozen=True)
class Precision:
    """name: `float32`, or `bfloat16` (autocast). why: for people."""

    name: str
    why: str

    @property
    def type(self) -> torch.dtype:
        return torch.bfloat16 if self.name == "bfloat16" else torch.float32

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"

    def autocast(self, device: torch.device) -> torch.autocast:
        """A fresh context for one forward."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.name == "bfloat16")


def choose(asked: str, device: torch.device, architecture: Architecture) -> Precision:
    """What a recipe's `precision` comes to: a matter of the machine's flags and the model's width, never of timing, so
    that the same run on the same machine chooses the same. Raises UsageError for what the device does not have."""
    unit = _unit(device)
    if asked == "auto":
        if unit is None:
            return Precision("float32", f"this {device.type} has no bfloat16 unit")
        if device.type == "cpu" and architecture.width < NARROW:
            return Precision("float32", f"a width of {architecture.width} is too narrow for {unit} to pay")
        return Precision("bfloat16", unit)
    if asked == "bfloat16" and device.type == "cuda" and unit is None:
        raise UsageError("this GPU has no bfloat16", fix="precision=float32")
    return Precision(asked, "as asked")


def _unit(device: torch.device) -> str | None:
    """What multiplies bfloat16 matrices faster than float32 ones on this device."""
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu":
        return None
    able: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # a PyTorch that cannot tell has no say: float32
    names = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return next((name for flag, name in names.items() if able.get(flag)), None)
