"""Linears whose matrices stay as they are, with what an adapter adds to them, and the gradient of that.

    y_i = x W_i^T + bias_i + scale_i (dropped(x) A_i^T) B_i^T

No weight W asks for a gradient, so backward needs of W only the way back to x: no x is kept for it, no copy of W is
made. x is kept once for all A's of it, and the A's of one x are one product. W may be a tensor or `Packed`, whose
numbers are there for the length of a product only. The products are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.kernels import gradients_pairs
from paddock.kernels.gradients import Function, Grad, first_only, narrow_type, real_type, takes
from paddock.kernels.packed import Packed


@dataclass(frozen=True, eq=False)
class Part:
    """One of several linears of the same x: weight (out, in), bias (out,); a (rank, in) and b (out, rank) of LoRA.

    Parts may share one `a`, the very same tensor: then dropout leaves them the same of x.
    """

    weight: Tensor | Packed
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0
    dropout: float = 0.0


def adapts(x: Tensor, parts: Sequence[Part]) -> bool:
    """Whether these are linears that stay, in types that are multiplied as they are or under autocast."""
    own = [tensor for part in parts for tensor in (part.weight, part.a, part.b) if isinstance(tensor, Tensor)]
    if any(isinstance(part.weight, Tensor) and part.weight.requires_grad for part in parts):
        return False
    if not takes(x, *own, *(part.bias for part in parts)):
        return False
    return narrow_type(x) == torch.bfloat16 or all(tensor.dtype == x.dtype for tensor in own)


def adapted(x: Tensor, parts: Sequence[Part]) -> tuple[Tensor, ...]:
    """(..., in) to (..., out) of every part."""
    inputs: list[Tensor] = []
    of: list[int | None] = []
    for part in parts:
        if part.a is None:
            of.append(None)
            continue
        known = [id(each) for each in inputs]
        if id(part.a) not in known:
            inputs.append(part.a)
        of.append(known.index(id(part.a)) if id(part.a) in known else len(known))
    outputs = [part.b for part in parts if part.b is not None]
    biases = [part.bias for part in parts if part.bias is not None]
    plan = _Plan(parts, of, len(inputs), len(outputs), narrow_type(x))
    way = gradients_pairs.Pairs if plan.in_pairs(x, (*inputs, *outputs)) else _Adapted
    return way.apply(x, plan, *inputs, *outputs, *biases)


@dataclass(frozen=True, eq=False)
class _Plan:
    """of: for every part the number of its A, if it has one. dtype: what products are computed in."""

    parts: Sequence[Part]
    of: Sequence[int | None]
    inputs: int
    outputs: int
    dtype: torch.dtype

    def weight(self, number: int) -> Tensor:
        weight = self.parts[number].weight
        return weight.dense(self.dtype) if isinstance(weight, Packed) else weight.to(self.dtype)

    def rate(self, number: int) -> float:
        """Of dropout before this A."""
        return next(part.dropout for part, own in zip(self.parts, self.of, strict=True) if own == number)

    @property
    def dropping(self) -> bool:
        return any(part.dropout for part in self.parts)

    @property
    def scale(self) -> float:
        """Of all A's, where they have one."""
        return next((part.scale for part in self.parts if part.a is not None), 1.0)

    def in_pairs(self, x: Tensor, low: Sequence[Tensor]) -> bool:
        """Whether `gradients_pairs.Pairs` does it; low: all A's and B's."""
        if self.dtype != torch.bfloat16 or self.dropping or any(each.dtype != torch.float32 for each in low):
            return False
        if any(part.a is not None and part.scale != self.scale for part in self.parts):
            return False
        rows, outs = x.numel() // x.shape[-1], [part.weight.shape[0] for part in self.parts]
        whole = all(isinstance(part.weight, Packed) or part.weight.is_contiguous() for part in self.parts)
        return whole and gradients_pairs.fits(rows, x.shape[-1], outs)

    def users(self, number: int) -> list[int]:
        return [part for part, own in enumerate(self.of) if own == number]

    @property
    def lows(self) -> list[int]:
        """For every B in turn, the part it is of."""
        return [part for part, own in enumerate(self.of) if own is not None]


class _Adapted(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan, *given: Tensor) -> tuple[Tensor, ...]:
        inputs, outputs = given[: plan.inputs], given[plan.inputs : plan.inputs + plan.outputs]
        biases = iter(given[plan.inputs + plan.outputs :])
        flat = x.to(plan.dtype).reshape(-1, x.shape[-1])
        low, masks = _low(plan, flat, inputs)
        bs = iter(outputs)
        found = []
        for number, (part, own) in enumerate(zip(plan.parts, plan.of, strict=True)):
            bias = None if part.bias is None else next(biases).to(plan.dtype)
            y = F.linear(flat, plan.weight(number), bias)
            if own is not None:
                y.addmm_(low[own], next(bs).to(plan.dtype).t(), alpha=part.scale)
            found.append(y.view(*x.shape[:-1], -1))
        learns = any(ctx.needs_input_grad[2 : 2 + plan.inputs])
        ctx.plan, ctx.x_dtype, ctx.shape = plan, x.dtype, x.shape
        ctx.types = [each.dtype for each in given]
        ctx.save_for_backward(flat if learns else None, *inputs, *outputs, *low, *masks)
        return tuple(found)

    @staticmethod
    @first_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        plan: _Plan = ctx.plan
        saved = list(ctx.saved_tensors)
        flat, inputs = saved[0], saved[1 : 1 + plan.inputs]
        outputs = saved[1 + plan.inputs : 1 + plan.inputs + plan.outputs]
        low, masks = saved[1 + plan.inputs + plan.outputs :][: plan.inputs], saved[1 + 2 * plan.inputs + plan.outputs :]
        rows = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        needs = ctx.needs_input_grad[2:]
        low_grads = _low_grads(plan, rows, outputs)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = _x_grad(plan, rows, low_grads, inputs, masks).to(ctx.x_dtype).view(ctx.shape)
        found: list[Grad] = [None] * len(needs)
        if any(needs[: plan.inputs]):
            found[: plan.inputs] = _input_grads(plan, flat, low_grads, masks)
        for place, number in enumerate(plan.lows):
            if needs[plan.inputs + place]:
                own, part = plan.of[number], plan.parts[number]
                assert own is not None
                found[plan.inputs + place] = (rows[number].t() @ low[own]).mul_(part.scale)
        place = plan.inputs + plan.outputs
        for number, part in enumerate(plan.parts):
            if part.bias is not None:
                if needs[place]:
                    found[place] = rows[number].sum(0, dtype=real_type(rows[number]))
                place += 1
        wanted = [
            None if not need or each is None else each.to(kind)
            for each, kind, need in zip(found, ctx.types, needs, strict=True)
        ]
        return (x_grad, None, *wanted)


def _low(plan: _Plan, flat: Tensor, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """x A^T for every A, not yet scaled, and what dropout kept of x before each, where there is dropout."""
    if not inputs:
        return [], []
    if not plan.dropping:
        joined = torch.cat([each.to(plan.dtype) for each in inputs])
        return list((flat @ joined.t()).split([len(each) for each in inputs], 1)), []
    low, masks = [], []
    for number, each in enumerate(inputs):
        inner, mask = torch.native_dropout(flat, plan.rate(number), True)
        low.append(inner @ each.to(plan.dtype).t())
        masks.append(mask)
    return low, masks


def _low_grads(plan: _Plan, rows: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of x A^T for every A: of all parts that read it."""
    place = {number: place for place, number in enumerate(plan.lows)}
    found = []
    for own in range(plan.inputs):
        total: Tensor | None = None
        for number in plan.users(own):
            b, scale = outputs[place[number]].to(plan.dtype), plan.parts[number].scale
            total = (rows[number] @ b).mul_(scale) if total is None else total.addmm_(rows[number], b, alpha=scale)
        assert total is not None
        found.append(total)
    return found


def _x_grad(
    plan: _Plan, rows: Sequence[Tensor], low_grads: Sequence[Tensor], inputs: Sequence[Tensor], masks: Sequence[Tensor]
) -> Tensor:
    total = rows[0] @ plan.weight(0)
    for number in range(1, len(rows)):
        total.addmm_(rows[number], plan.weight(number))
    if not masks:
        if inputs:
            total.addmm_(torch.cat(list(low_grads), 1), torch.cat([each.to(plan.dtype) for each in inputs]))
        return total
    for number, (grad, each, mask) in enumerate(zip(low_grads, inputs, masks, strict=True)):
        total.addcmul_(grad @ each.to(plan.dtype), mask, value=1 / (1 - plan.rate(number)))
    return total


def _input_grads(plan: _Plan, flat: Tensor, low_grads: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    if not masks:
        joined = torch.cat(list(low_grads), 1)
        return list((joined.t() @ flat).split([grad.shape[1] for grad in low_grads]))
    found = []
    for number, (grad, mask) in enumerate(zip(low_grads, masks, strict=True)):
        found.append((grad.t() @ (flat * mask)).mul_(1 / (1 - plan.rate(number))))
    return found
