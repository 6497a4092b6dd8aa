"""What the fine-tuning workers share: one adapter's first numbers, and the plain loop that trains adapters only."""

from __future__ import annotations

import hashlib
import math

import torch

RANK, ALPHA = 8, 16.0
ROLES = ("q", "k", "v", "out", "gate", "up", "down")


def first_low(layer: int, role: str, width: int) -> torch.Tensor:
    """A of a role in a layer, (RANK, width) float32, drawn as LoRA does (Kaiming, a = sqrt 5); B begins at 0."""
    seed = hashlib.sha256(f"{layer}:{role}".encode()).digest()[:7]
    source = torch.Generator().manual_seed(int.from_bytes(seed, "little"))
    return (torch.rand(RANK, width, generator=source) * 2 - 1) / math.sqrt(width)
