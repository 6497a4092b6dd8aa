"""The operations of training on the native kernels, each with its gradient.

They equal `reference.py` up to rounding (sums in another order; under autocast they compute in float32 what PyTorch
computes in bfloat16) and give the same bits whatever the number of threads. `attends`, `norms`, ... say whether an
operation can take what it is given; where none can, the reference does it: tensors of another device or type, tensors
under torch.compile, nothing that asks for a gradient, no native module. There are no second derivatives.

float64 is there so that `torch.autograd.gradcheck` can be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from paddock.kernels import native

NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2}  # enum Number in cpp/training.h
KINDS = {"relu": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}  # enum Activation in cpp/kernels.h

Grad = Tensor | None
Function = torch.autograd.Function


def takes(*tensors: object) -> bool:
    """Whether these (None apart) are numbers that the native kernels read, some of which wants a gradient."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    wanted = False
    for tensor in tensors:
        if tensor is None:
            continue
        # A tensor of another class (DTensor, one that is traced) has no memory of its own to point to.
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return False
        if tensor.device.type != "cpu" or tensor.dtype not in NUMBERS or not tensor.numel():
            return False
        wanted = wanted or tensor.requires_grad
    return wanted and native.library() is not None


def first_only(backward: Callable[..., Any]) -> Any:
    """A backward pass that refuses to be differentiated itself, rather than be taken for a constant."""

    def run(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "the native kernels have no second derivatives; "
                f"{native.KERNELS}={native.REFERENCE} computes them with PyTorch's own operations"
            )
        return backward(ctx, *grads)

    return run


def narrow_type(x: Tensor) -> torch.dtype:
    """What a matrix product computes in: autocast's type for float32, or its own."""
    if x.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return x.dtype
    return torch.get_autocast_dtype("cpu")


def real_type(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


# --- attention ---


def attends(q: Tensor, k: Tensor, v: Tensor, bias: Any, causal: bool, starts: Tensor | None) -> bool:
    if bias is not None or (starts is not None and not causal) or (causal and q.shape[2] != k.shape[2]):
        return False
    return takes(q, k, v) and q.dtype == k.dtype == v.dtype


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, starts: Tensor | None) -> Tensor:
    """`reference.attend` without a bias. ValueError for shapes that do not fit."""
    batch, heads, queries, width = _four(q, "q")
    kv_heads, keys = _four(k, "k")[1:3]
    if k.shape != v.shape or k.shape != (batch, kv_heads, keys, width) or heads % kv_heads:
        found = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        raise ValueError(f"{found}; expected (batch, heads, tokens, head_dim), k and v alike, heads that can share")
    if starts is not None:
        if starts.shape != (batch, queries):
            raise ValueError(f"starts {tuple(starts.shape)}, expected {(batch, queries)}")
        starts = starts.to(torch.int64).contiguous()
    return _Attend.apply(_rows(q), _rows(k), _rows(v), causal, scale, starts)


def _four(x: Tensor, name: str) -> tuple[int, int, int, int]:
    if x.dim() != 4:
        raise ValueError(f"{name} {tuple(x.shape)}, expected (batch, heads, tokens, head_dim)")
    batch, heads, tokens, width = x.shape
    return batch, heads, tokens, width


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _heads_like(x: Tensor) -> Tensor:
    """Room of x's shape (batch, heads, tokens, head_dim) that lies as (batch, tokens, heads, head_dim)."""
    batch, heads, tokens, width = x.shape
    return x.new_empty(batch, tokens, heads, width).transpose(1, 2)


def _place(x: Tensor) -> tuple[int, int, int, int]:
    return (x.data_ptr(), *x.stride()[:3])  # type: ignore[return-value]


class _Attend(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, starts: Tensor | None) -> Tensor:
        module = native.library()
        assert module is not None
        batch, heads, queries, width = q.shape
        ctx.sizes = (batch, heads, k.shape[1], queries, k.shape[2], width)
        ctx.causal, ctx.scale = causal, scale
        out = _heads_like(q)
        log_sums = torch.empty(batch, heads, queries, dtype=real_type(q))
        places = [_place(x) for x in (q, k, v, out)]
        module.train_attend(NUMBERS[q.dtype], ctx.sizes, *places, log_sums.data_ptr(), _pointer(starts), causal, scale)
        ctx.save_for_backward(q, k, v, out, log_sums, starts)
        return out

    @staticmethod
    @first_only
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Grad, ...]:
        module = native.library()
        assert module is not None
        q, k, v, out, log_sums, starts = ctx.saved_tensors
        out_grad = _rows(out_grad)
        grads = [_heads_like(x) for x in (q, k, v)]
        places = [_place(x) for x in (q, k, v, out)]
        module.train_attend_back(
            NUMBERS[q.dtype],
            ctx.sizes,
            *places,
            log_sums.data_ptr(),
            _pointer(starts),
            ctx.causal,
            ctx.scale,
            _place(out_grad),
            *(_place(x) for x in grads),
        )
        return (*grads, None, None, None)


# --- rotation ---


def rotates(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    return takes(x) and cos.device.type == "cpu" and not (cos.requires_grad or sin.requires_grad)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """`reference.rotate`. ValueError for shapes that do not fit."""
    batch, _, tokens, width = _four(x, "x")
    half = cos.shape[-1]
    if cos.shape not in ((batch, 1, tokens, half), (1, 1, tokens, half)) or sin.shape != cos.shape or 2 * half > width:
        raise ValueError(f"cos {tuple(cos.shape)} and sin {tuple(sin.shape)} do not fit x {tuple(x.shape)}")
    cos, sin = (wave.to(real_type(x)).contiguous() for wave in (cos, sin))
    return _Rotate.apply(_rows(x), cos, sin, interleaved)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, back: bool) -> Tensor:
    module = native.library()
    assert module is not None
    batch, heads, tokens, width = x.shape
    y = _heads_like(x)
    sizes = (batch, heads, tokens, width, 2 * cos.shape[-1])
    waves = (cos.data_ptr(), sin.data_ptr(), cos.stride(0) if cos.shape[0] > 1 else 0)
    module.train_rotate(NUMBERS[x.dtype], sizes, _place(x), _place(y), *waves, interleaved, back)
    return y


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _rotated(x, cos, sin, interleaved, back=False)

    @staticmethod
    @first_only
    def backward(ctx: Any, y_grad: Tensor) -> tuple[Grad, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(_rows(y_grad), cos, sin, ctx.interleaved, back=True), None, None, None


# --- norms ---


def norms(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not takes(x, weight, bias) or (bias is not None and bias.dtype != weight.dtype):
        return False
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return x.dtype == weight.dtype == real_type(x)
    return x.dtype == weight.dtype  # what is narrower than its weight comes out as wide as that: the reference's


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, rms: bool, narrow: bool) -> Tensor:
    """`reference.rms_norm` or `reference.layer_norm`; `narrow`: as bfloat16, for matrix products under autocast."""
    width = x.shape[-1]
    if weight.shape != (width,) or (bias is not None and bias.shape != (width,)):
        raise ValueError(f"a norm of {tuple(x.shape)} has weights of ({width},), not {tuple(weight.shape)}")
    narrow = narrow and x.dtype == torch.float32 and narrow_type(x) == torch.bfloat16
    real = real_type(x)
    bias = None if bias is None else bias.to(real).contiguous()
    return _Norm.apply(x.contiguous(), weight.to(real).contiguous(), bias, eps, rms, narrow)


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Grad, eps: float, rms: bool, narrow: bool) -> Tensor:
        module = native.library()
        assert module is not None
        ctx.rows, ctx.narrow, ctx.biased = x.numel() // x.shape[-1], narrow, bias is not None
        y = torch.empty_like(x, dtype=torch.bfloat16 if narrow else x.dtype)
        factor = torch.empty(ctx.rows, dtype=weight.dtype)
        mean = None if rms else torch.empty_like(factor)
        places = [_pointer(each) for each in (x, weight, bias, y, mean, factor)]
        module.train_norm(NUMBERS[x.dtype], narrow, ctx.rows, x.shape[-1], eps, *places)
        ctx.save_for_backward(x, weight, mean, factor)
        return y

    @staticmethod
    @first_only
    def backward(ctx: Any, y_grad: Tensor) -> tuple[Grad, ...]:
        module = native.library()
        assert module is not None
        x, weight, mean, factor = ctx.saved_tensors
        y_grad = y_grad.contiguous()
        x_grad = torch.empty_like(x)
        learns = any(ctx.needs_input_grad[1:3])
        weight_grad = torch.zeros_like(weight) if learns else None
        bias_grad = torch.zeros_like(weight) if learns and ctx.biased else None
        places = [_pointer(each) for each in (x, weight, mean, factor, y_grad, x_grad, weight_grad, bias_grad)]
        module.train_norm_back(NUMBERS[x.dtype], ctx.narrow, ctx.rows, x.shape[-1], *places)
        return x_grad, weight_grad, bias_grad, None, None, None


# --- activations ---


def gates(kind: str, x: Tensor, up: Tensor | None) -> bool:
    return kind in KINDS and takes(x, up) and (up is None or up.dtype == x.dtype)


def gate(kind: str, x: Tensor, up: Tensor | None) -> Tensor:
    """activation(x), times `up` unless that is None."""
    if up is not None and up.shape != x.shape:
        raise ValueError(f"a gate of {tuple(x.shape)} over {tuple(up.shape)}")
    return _Gate.apply(kind, _evenly(x), None if up is None else _evenly(up))


def _evenly(x: Tensor) -> Tensor:
    """x, or a copy, whose rows are contiguous and equally far apart."""
    step = x.stride(-2) if x.dim() > 1 else 0
    outer = all(x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.dim() - 2))
    return x if x.stride(-1) == 1 and outer and (step >= x.shape[-1] or x.dim() == 1) else x.contiguous()


def _pair(x: Tensor | None) -> tuple[int, int]:
    if x is None:
        return (0, 0)
    return (x.data_ptr(), x.stride(-2) if x.dim() > 1 else 0)


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, kind: str, x: Tensor, up: Grad) -> Tensor:
        module = native.library()
        assert module is not None
        ctx.kind = KINDS[kind]
        y = torch.empty(x.shape, dtype=x.dtype)
        rows = x.numel() // x.shape[-1]
        module.train_gate(NUMBERS[x.dtype], ctx.kind, rows, x.shape[-1], _pair(x), _pair(up), _pair(y))
        ctx.save_for_backward(x, up)
        return y

    @staticmethod
    @first_only
    def backward(ctx: Any, y_grad: Tensor) -> tuple[Grad, ...]:
        module = native.library()
        assert module is not None
        x, up = ctx.saved_tensors
        y_grad = _evenly(y_grad)
        width = x.shape[-1]
        if up is None:
            x_grad, up_grad = torch.empty(x.shape, dtype=x.dtype), None
        else:  # side by side, as `linears` wants them
            x_grad, up_grad = torch.empty(*x.shape[:-1], 2 * width, dtype=x.dtype).split(width, -1)
        pairs = [_pair(each) for each in (x, up, y_grad, x_grad, up_grad)]
        module.train_gate_back(NUMBERS[x.dtype], ctx.kind, x.numel() // width, width, *pairs)
        return None, x_grad, up_grad
