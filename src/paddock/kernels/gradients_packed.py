"""A linear whose matrix is packed, with a gradient to x: the numbers are made for each product anew, and never kept."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.kernels.gradients import Function, Grad, first_only, narrow_type, real_type
from paddock.kernels.packed import Packed


def wanted(x: Tensor, bias: Tensor | None) -> bool:
    """Whether a gradient is asked for."""
    return torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))


def linear(x: Tensor, weight: Packed, bias: Tensor | None) -> Tensor:
    """(..., in) to (..., out), in what products are computed in, here or under autocast."""
    return _Linear.apply(x, weight, bias, narrow_type(x))


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Packed, bias: Grad, dtype: torch.dtype) -> Tensor:
        ctx.weight, ctx.dtype, ctx.x_dtype = weight, dtype, x.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        return F.linear(x.to(dtype), weight.dense(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @first_only
    def backward(ctx: Any, y_grad: Tensor) -> tuple[Any, ...]:
        x_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (y_grad @ ctx.weight.dense(ctx.dtype)).to(ctx.x_dtype)
        if ctx.needs_input_grad[2]:
            rows = y_grad.reshape(-1, y_grad.shape[-1])
            bias_grad = rows.sum(0, dtype=real_type(rows)).to(ctx.bias_dtype)
        return x_grad, None, bias_grad, None
