"""First weights: drawn from a seed and each parameter's own name, so that adding a part changes no other."""

from __future__ import annotations

import hashlib
import math

import torch

from paddock.model.transformer import Norm, Transformer


def initialise(model: Transformer, seed: int, deviation: float = 0.02) -> Transformer:
    """Normal numbers of the given standard deviation in every matrix and table, ones in norms, zeros in biases.

    What is added to the residual (out, down) is smaller by sqrt(2 * blocks), so that its variance does not grow with
    depth (GPT-2). In place; gives the model back.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, Norm) for p in module.parameters()}
    residual = deviation / math.sqrt(2 * model.architecture.blocks)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            role = name.split(".")[-2]
            if id(parameter) in norms or name.endswith(".bias"):
                parameter.fill_(0.0 if name.endswith(".bias") else 1.0)
            else:
                parameter.normal_(0.0, residual if role in ("out", "down") else deviation, generator=_drawn(seed, name))
    return model


def blank(model: Transformer) -> Transformer:
    """The same model with room for its numbers, from one on the meta device."""
    return model.to_empty(device="cpu")


def _drawn(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
