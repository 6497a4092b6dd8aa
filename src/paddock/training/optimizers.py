"""Rules that move the weights, and which weights decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddock.training.recipe import Optimizer


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: matrices decay; norms, biases and embeddings (everything looked up) do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.dim() >= 2 and id(parameter) not in embeddings else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def make(model: nn.Module, recipe: Optimizer) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters of a model."""
    return torch.optim.AdamW(
        groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, fused=True
    )
