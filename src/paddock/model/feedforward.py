"""The other half of a block: two or three matrices per token, or a router that picks among several such."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paddock import kernels
from paddock.model import spec


class FeedForward(nn.Module):
    """down(act(up x)), or down(act(gate x) * up x): (..., width) to the same."""

    def __init__(self, part: spec.FeedForward, width: int) -> None:
        super().__init__()
        self.activation = kernels.ACTIVATIONS[part.activation]
        self.gate = nn.Linear(width, part.hidden, bias=part.bias) if part.gated else None
        self.up = nn.Linear(width, part.hidden, bias=part.bias)
        self.down = nn.Linear(part.hidden, width, bias=part.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Sparse: each token runs through `active` of the experts only (Mixtral, arXiv 2401.04088).

    The router's softmax is over all experts in float32; the chosen weights are then divided by their sum.
    """

    def __init__(self, part: spec.Experts, width: int) -> None:
        super().__init__()
        self.active = part.active
        self.router = nn.Linear(width, part.count, bias=False)
        self.experts = nn.ModuleList(FeedForward(part.each, width) for _ in range(part.count))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        weights, chosen = self.router(flat).float().softmax(-1).topk(self.active, dim=-1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        result = torch.zeros_like(flat)
        for number in chosen.unique().tolist():
            rows, rank = (chosen == number).nonzero(as_tuple=True)
            result.index_add_(0, rows, self.experts[number](flat[rows]) * weights[rows, rank, None])
        return result.view_as(x)


def feedforward(part: spec.FeedForward | spec.Experts, width: int) -> nn.Module:
    return Experts(part, width) if isinstance(part, spec.Experts) else FeedForward(part, width)
