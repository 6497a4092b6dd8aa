"""Lion (arXiv 2302.06675): the sign of an average of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Lion(torch.optim.Optimizer):
    """w -= lr * (sign(b1 m + (1 - b1) g) + decay * w), then m = b2 m + (1 - b2) g. One moment for each weight.

    Every weight moves by the whole rate, so the rate is a third to a tenth of AdamW's, and the decay as much higher.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(group, weights, [p.grad for p in weights])

    def _update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["average"] = torch.zeros_like(weight)
        averages = [self.state[weight]["average"] for weight in weights]
        first, second = group["betas"]
        directions = torch._foreach_lerp(gradients, averages, first)
        torch._foreach_sign_(directions)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, directions, alpha=-group["lr"])
        torch._foreach_lerp_(averages, gradients, 1 - second)
