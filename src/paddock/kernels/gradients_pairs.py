"""`gradients_adapted.adapted` where the processor multiplies pairs of bfloat16: one native call forward and one back.

A low-rank addition and a bias are a few more steps of each sum, so nothing is added to a result once it is rounded:

    low = scale x A^T        y = [x low 1] [W B bias]^T        x_grad = [y_grad low_grad] [W; A]

Products are of bfloat16 numbers, sums float32, and so are the gradients of A and B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paddock.kernels import native
from paddock.kernels.gradients import Function, Grad, first_only

VECTOR, FEWEST_ROWS, MOST_PARTS = 16, 32, 8


def fits(rows: int, width: int, outs: Sequence[int]) -> bool:
    """Whether products of x (rows, width) with matrices (out, width) are faster here than PyTorch's, both ways."""
    module = native.library()
    if module is None or not module.train_pairs() or torch.cpu._is_amx_tile_supported():
        return False
    return rows >= FEWEST_ROWS and len(outs) <= MOST_PARTS and not any(size % VECTOR for size in (width, *outs))


def product(x: Tensor, matrix: Tensor, y: Tensor) -> None:
    """Writes x (rows, width) times a matrix (out, width) turned over to y (rows, out). All bfloat16; x and the matrix
    contiguous, and the rows of y."""
    part = (matrix.data_ptr(), len(matrix), 0, y.data_ptr(), y.stride(0), -1, 0, 0)
    _module().train_adapted(*x.shape, x.data_ptr(), [], [part], 1.0, 0)


def product_back(y_grad: Tensor, matrix: Tensor, x_grad: Tensor) -> None:
    """Writes y_grad (rows, out) times the matrix (out, width) to x_grad (rows, width)."""
    part = (matrix.data_ptr(), len(matrix), 0, y_grad.data_ptr(), y_grad.stride(0), -1, 0, 0)
    _module().train_adapted_back(*x_grad.shape, 0, [], [part], 1.0, 0, x_grad.data_ptr())


class Pairs(Function):
    """`plan`: a `gradients_adapted.Plan` without dropout, whose A's and B's are float32 and have one scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Any, *given: Tensor) -> tuple[Tensor, ...]:
        flat = x.to(plan.dtype).reshape(-1, x.shape[-1]).contiguous()
        given = tuple(each.contiguous() for each in given)
        ys = [flat.new_empty(len(flat), part.weight.shape[0]) for part in plan.parts]
        low = flat.new_empty(len(flat), _module().train_low_width([len(a) for a in given[: plan.inputs]]))
        lows, parts, _kept = _described(plan, given, ys, [None] * len(given))
        sizes = (len(flat), flat.shape[1], flat.data_ptr())
        _module().train_adapted(*sizes, lows, parts, plan.scale, low.data_ptr())
        learns = any(ctx.needs_input_grad[2 : 2 + plan.inputs])
        ctx.plan, ctx.x_dtype, ctx.shape = plan, x.dtype, x.shape
        ctx.save_for_backward(flat if learns else None, low, *given)
        return tuple(y.view(*x.shape[:-1], -1) for y in ys)

    @staticmethod
    @first_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        plan = ctx.plan
        flat, low, *given = ctx.saved_tensors
        rows = [_strip(grad.reshape(-1, grad.shape[-1])) for grad in grads]
        needs = ctx.needs_input_grad[2:]
        learned = plan.inputs + plan.outputs
        found: list[Grad] = [
            torch.empty_like(each) if need else None for each, need in zip(given[:learned], needs, strict=False)
        ]
        found += [None] * (len(needs) - learned)
        x_grad = low.new_empty(len(low), ctx.shape[-1]) if ctx.needs_input_grad[0] else None
        lows, parts, _kept = _described(plan, given, rows, found)
        places = [0 if each is None else each.data_ptr() for each in (low, x_grad)]
        x = 0 if flat is None else flat.data_ptr()
        _module().train_adapted_back(len(low), ctx.shape[-1], x, lows, parts, plan.scale, *places)
        place = learned
        for number, part in enumerate(plan.parts):
            if part.bias is not None:
                if needs[place]:
                    found[place] = rows[number].sum(0, dtype=torch.float32).to(given[place].dtype)
                place += 1
        return (None if x_grad is None else x_grad.to(ctx.x_dtype).view(ctx.shape), None, *found)


def _described(
    plan: Any, given: Sequence[Tensor], ys: Sequence[Tensor], grads: Sequence[Grad]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[Tensor]]:
    """What the native call reads: A's, linears, and the tensors that must live until it is over."""
    places = [0 if grad is None else grad.data_ptr() for grad in grads]
    lows: list[tuple[int, ...]] = [
        (a.data_ptr(), len(a), place) for a, place in zip(given[: plan.inputs], places, strict=False)
    ]
    bs = iter(zip(given[plan.inputs :], places[plan.inputs :], strict=True))
    biases = iter(given[plan.inputs + plan.outputs :])
    parts: list[tuple[int, ...]] = []
    kept: list[Tensor] = []
    for number, (part, own, y) in enumerate(zip(plan.parts, plan.of, ys, strict=True)):
        weight = plan.weight(number)
        bias = None if part.bias is None else next(biases).to(plan.dtype)
        kept += [weight] if bias is None else [weight, bias]
        b, b_grad = (None, 0) if own is None else next(bs)
        ends = (-1, 0, 0) if b is None else (own, b.data_ptr(), b_grad)
        at = 0 if bias is None else bias.data_ptr()
        parts.append((weight.data_ptr(), len(weight), at, y.data_ptr(), y.stride(0), *ends))
    return lows, parts, kept


def _strip(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


def _module() -> Any:
    module = native.library()
    assert module is not None
    return module
