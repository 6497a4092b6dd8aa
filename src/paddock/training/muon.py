"""Muon: matrices move by orthogonal steps, everything else by AdamW's.

The method is K. Jordan's (2024); the scale by which both share a learning rate and a decay is that of arXiv 2502.16982.
torch.optim.Muon has the matrices only and always rounds them to bfloat16, which is slow and coarse on most CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at zero: small singular values come up to about 1 in five rounds
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """m = momentum m + (1 - momentum) g; w -= lr * (0.2 sqrt(max(rows, columns)) * orthogonal(m) + decay * w).

    With `nesterov`, the step is made of what m would be after the same gradient once more. The groups say which
    parameters are `orthogonal`; the others follow AdamW (arXiv 1711.05101) with `betas` and `eps`.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        nesterov: bool,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    (self._turn if group["orthogonal"] else self._adam)(weight, weight.grad, group)

    def _turn(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["average"] = torch.zeros_like(weight)
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
        scale = 0.2 * math.sqrt(max(weight.shape))
        weight.add_(_whole(orthogonal, direction), alpha=-group["lr"] * scale)

    def _adam(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            # A tensor, as PyTorch's own optimizers have it; float32, as `load_state_dict` leaves a "step" alone.
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["average"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        done, (first, second) = float(state["step"]), group["betas"]
        average = state["average"].lerp_(gradient, 1 - first)
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        below = square.sqrt().div_(math.sqrt(1 - second**done)).add_(group["eps"])
        weight.addcdiv_(average, below, value=-group["lr"] / (1 - first**done))


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix (rows, columns) = U S V^T: its singular values come to lie between 0.7 and 1.2.

    Newton-Schulz rounds of an odd polynomial, x -> a x + b x^3 + c x^5 on every singular value; bfloat16 is enough
    where its products are much faster (CUDA).
    """
    a, b, c = QUINTIC
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def _whole(change: Any, matrix: Tensor) -> Tensor:
    """`change` of a matrix that may lie in shards: each process computes the whole and keeps its own shard."""
    if not isinstance(matrix, DTensor):
        return change(matrix)
    whole = DTensor.from_local(
        change(matrix.full_tensor()), matrix.device_mesh, [Replicate()] * matrix.device_mesh.ndim
    )
    return whole.redistribute(matrix.device_mesh, matrix.placements)
