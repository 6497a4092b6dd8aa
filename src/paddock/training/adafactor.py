"""Adafactor (arXiv 1804.04235): squares kept as the means of a matrix's rows and columns, steps relative to weights.

A matrix may lie in shards: then each process sums what it has, the sums of all meet, and each moves its own part. The
means are kept whole on every process, a number for each row and column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.distributed.tensor.placement_types import Placement

SMALLEST = 1e-30  # a square below counts as this; those of a language model lie far below float32's own epsilon
LEAST = 1e-3  # root mean square of weights by which a step is scaled at least
LARGEST = 1.0  # root mean square of an update, before the rate; a larger one is made as small
DECAY = -0.8  # the share of the new squares at step t is t ** DECAY


class Adafactor(torch.optim.Optimizer):
    """w -= alpha u / max(1, rms(u)), u = g / sqrt(v), alpha = max(1e-3, rms(w)) min(lr, 1 / sqrt(t)).

    v is `row` x `column` / mean(row) for a matrix (row_var, col_var), the average of squares for a vector (variance).
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, rate = self.state[weight], group["lr"]
        if not state:
            _begin(weight, state)
        state["step"] += 1
        step = float(state["step"])
        alpha = max(LEAST, _size(weight, weight)) * min(rate, 1 / math.sqrt(step))
        weight.mul_(1 - rate * group["weight_decay"])
        update = _squares(weight, gradient, state, step**DECAY).clamp_(min=SMALLEST).rsqrt_().mul_(_local(gradient))
        _local(weight).add_(update, alpha=-alpha / max(1.0, _size(weight, update) / LARGEST))


def _begin(weight: Tensor, state: dict[str, Any]) -> None:
    # A tensor, as PyTorch's own optimizers have it; float32, as `load_state_dict` leaves a "step" alone.
    state["step"] = torch.zeros((), dtype=torch.float32)
    if weight.dim() == 1:
        state["variance"] = torch.zeros_like(weight)
    else:
        rows, columns = weight.shape
        state["row_var"] = torch.zeros(rows, dtype=weight.dtype, device=weight.device)
        state["col_var"] = torch.zeros(columns, dtype=weight.dtype, device=weight.device)


def _squares(weight: Tensor, gradient: Tensor, state: dict[str, Any], share: float) -> Tensor:
    """The averages with this gradient, and what they say of the squares of this process's part, in new memory."""
    own = _local(gradient)
    if weight.dim() == 1:
        return _local(state["variance"]).lerp_(own.square(), share).clone()
    rows, columns = weight.shape
    row = _met(weight, own.square().sum(1, keepdim=True), 0, (rows, 1)).div_(columns)
    column = _met(weight, own.square().sum(0, keepdim=True), 1, (1, columns)).div_(rows)
    row, column = state["row_var"].view(-1, 1).lerp_(row, share), state["col_var"].view(1, -1).lerp_(column, share)
    row = row / row.mean().clamp(min=SMALLEST)  # first, as a product of two averages would be no float32
    return _part(weight, row, 0) @ _part(weight, column, 1)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _size(weight: Tensor, of: Tensor) -> float:
    """The root mean square of what lies as `weight` does."""
    squares = _local(of).square().sum()
    return math.sqrt(float(_met(weight, squares, None, ())) / weight.numel())


def _placed(weight: DTensor, kept: int | None, other: Placement) -> list[Placement]:
    """How what belongs to one axis of a matrix lies where the matrix does: cut as that axis is; `other` over processes
    that cut another axis."""
    return [p if p.is_replicate() or getattr(p, "dim", None) == kept else other for p in weight.placements]


def _met(weight: Tensor, sums: Tensor, kept: int | None, shape: tuple[int, ...]) -> Tensor:
    """Sums over the part of `weight` that is here, kept apart along one axis, as those over the whole."""
    if not isinstance(weight, DTensor):
        return sums
    placed, stride = _placed(weight, kept, Partial()), torch.empty(shape, device="meta").stride()
    whole = DTensor.from_local(
        sums, weight.device_mesh, placed, run_check=False, shape=torch.Size(shape), stride=stride
    )
    return whole.full_tensor()


def _part(weight: Tensor, whole: Tensor, axis: int) -> Tensor:
    """Of numbers for one axis of `weight`, those of the part that is here."""
    if not isinstance(weight, DTensor):
        return whole
    placed = _placed(weight, axis, Replicate())
    return distribute_tensor(whole, weight.device_mesh, placed, src_data_rank=None).to_local()
