"""The other half of a block: two or three matrices per token, or a router that picks among several such."""

from __future__ import annotations

from torch import Tensor, nn

from paddock import kernels
from paddock.model import spec
from paddock.model.linear import Linear, together
from paddock.model.step import Step


class FeedForward(nn.Module):
    """down(act(up x)), or down(act(gate x) * up x): (..., width) to the same."""

    def __init__(self, part: spec.FeedForward, width: int) -> None:
        super().__init__()
        self.activation = part.activation
        self.gate = Linear(width, part.hidden, bias=part.bias) if part.gated else None
        self.up = Linear(width, part.hidden, bias=part.bias)
        self.down = Linear(part.hidden, width, bias=part.bias)

    def forward(self, x: Tensor, step: Step | None = None) -> Tensor:
        if self.gate is None:
            return self.down(kernels.activate(self.activation, self.up(x)))
        gate, up = together(x, (self.gate, self.up))
        return self.down(kernels.gate(self.activation, gate, up))


class Experts(nn.Module):
    """Sparse: each token runs through `active` of the experts only (Mixtral, arXiv 2401.04088)."""

    def __init__(self, part: spec.Experts, width: int) -> None:
        super().__init__()
        self.active = part.active
        self.router = Linear(width, part.count, bias=False)
        self.experts = nn.ModuleList(FeedForward(part.each, width) for _ in range(part.count))

    def forward(self, x: Tensor, step: Step | None = None) -> Tensor:
        scores = self.router(x)
        if step is not None and step.routing is not None:
            step.routing.add(scores, self.active)
        return kernels.mixture(x, scores, self.active, list(self.experts))


def feedforward(part: spec.FeedForward | spec.Experts, width: int) -> nn.Module:
    return Experts(part, width) if isinstance(part, spec.Experts) else FeedForward(part, width)
