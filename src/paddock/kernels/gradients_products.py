"""Matrix products of training with gradients of their own: several linears of one x, and cross-entropy in chunks.

The products are PyTorch's; what is between them is native. See gradients.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paddock.kernels import gradients_pairs, native
from paddock.kernels.gradients import NUMBERS, Function, Grad, first_only, narrow_type, real_type, takes
from paddock.kernels.packed import Packed
from paddock.kernels.q8 import Q8

SLICE = 64  # of whose multiples slices of the vocabulary are
LOGITS_AT_ONCE = 2**25  # bytes of logits held at a time
MADE_AT_ONCE = 2**24  # bytes of numbers that a matrix in 8 bits becomes at a time


# --- matrices ---


def multiplies(x: Tensor, weights: Sequence[Any], biases: Sequence[Tensor | None]) -> bool:
    if not takes(x, *weights, *biases):
        return False
    same = all(weight.dtype == weights[0].dtype and weight.shape[1] == weights[0].shape[1] for weight in weights)
    plain = x.dtype == weights[0].dtype or narrow_type(x) == torch.bfloat16
    return same and plain and len({bias is None for bias in biases}) == 1


def linears(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Several linears of the same x as one matrix product, whose gradient is one product too."""
    return _Linears.apply(x, narrow_type(x), len(weights), *weights, *(biases if biases[0] is not None else ()))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several tensors (..., each width) side by side; without a copy where they lie so."""
    first, place, whole = parts[0], parts[0].data_ptr(), 0
    for part in parts:
        beside = part.data_ptr() == place + whole * first.element_size() and part.stride() == first.stride()
        if not beside or part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return torch.cat(list(parts), -1)
        whole += part.shape[-1]
    if first.dim() < 2 or first.stride(-2) != whole or first.stride(-1) != 1:
        return torch.cat(list(parts), -1)
    return first.as_strided((*first.shape[:-1], whole), first.stride())


class _Linears(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, count: int, *given: Tensor) -> tuple[Tensor, ...]:
        weights, biases = given[:count], given[count:]
        ctx.widths, ctx.types = [len(weight) for weight in weights], [each.dtype for each in given]
        ctx.x_dtype, ctx.count = x.dtype, count
        matrix = torch.empty(sum(ctx.widths), x.shape[-1], dtype=dtype)
        torch._foreach_copy_(list(matrix.split(ctx.widths)), list(weights))
        rows = x.to(dtype)
        flat = rows.reshape(-1, x.shape[-1])
        bias = torch.cat([each.to(dtype) for each in biases]) if biases else None
        y = flat @ matrix.t() if bias is None else torch.addmm(bias, flat, matrix.t())
        ctx.save_for_backward(flat, matrix)
        return y.view(*x.shape[:-1], -1).split(ctx.widths, -1)

    @staticmethod
    @first_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        flat, matrix = ctx.saved_tensors
        together = _joined(grads)
        grad = together.reshape(-1, together.shape[-1])
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (grad @ matrix).to(ctx.x_dtype).view(*together.shape[:-1], -1)
        needs = ctx.needs_input_grad[3:]
        found: list[Grad] = [None] * len(needs)
        if any(needs[: ctx.count]):
            found[: ctx.count] = (grad.t() @ flat).split(ctx.widths)
        if any(needs[ctx.count :]):
            found[ctx.count :] = grad.sum(0, dtype=real_type(grad)).split(ctx.widths)
        wanted = [
            each.to(kind) if need and each is not None else None
            for each, kind, need in zip(found, ctx.types, needs, strict=True)
        ]
        return (x_grad, None, None, *wanted)


# --- cross-entropy ---


def enters(x: Tensor, weight: Tensor | Packed, bias: Tensor | None, targets: Tensor) -> bool:
    packed = isinstance(weight, Packed)
    if not takes(x, None if packed else weight, bias) or targets.dtype != torch.int64 or targets.device.type != "cpu":
        return False
    return packed or narrow_type(x) == torch.bfloat16 or x.dtype == weight.dtype


def cross_entropy(x: Tensor, weight: Tensor | Packed, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.cross_entropy`, with the gradient computed on the way, while a chunk's logits are there.

    That is the gradient of the losses' sum: all that backward then has to do is to scale it. Where it is asked for
    anything else (losses weighted one by one, log sums) chunks are computed again. A matrix in 8 bits becomes numbers
    slice by slice, once forward and once backward for each chunk.
    """
    if x.dim() != 2 or len(weight.shape) != 2 or x.shape[1] != weight.shape[1] or targets.shape != x.shape[:1]:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, targets {tuple(targets.shape)} do not fit")
    return _CrossEntropy.apply(x, weight, bias, targets.contiguous(), narrow_type(x))


class _Chunks:
    """Logits chunk by chunk: losses and log sums, and where asked for the gradients of x, weight and bias."""

    def __init__(self, x: Tensor, weight: Tensor | Packed, bias: Grad, targets: Tensor, dtype: torch.dtype) -> None:
        self.x, self.dtype = x.to(dtype), dtype
        self.bias = None if bias is None else bias.to(dtype)
        self.targets, self.real = targets, real_type(x)
        self.count, width = weight.shape
        self.rows = max(1, LOGITS_AT_ONCE // (self.count * self.x.element_size()))
        self.slices = [(0, self.count)]
        if isinstance(weight, Q8) and weight.numel() * dtype.itemsize > MADE_AT_ONCE:
            self.weight: Tensor | Q8 = weight
            step = max(1, MADE_AT_ONCE // (width * dtype.itemsize) // SLICE * SLICE)
            self.slices = [(first, min(self.count, first + step)) for first in range(0, self.count, step)]
            # As many logits as the matrix has numbers: fewer rows would not repay that it is made anew for them.
            self.rows = max(self.rows, width)
        else:
            self.weight = weight.dense(dtype) if isinstance(weight, Packed) else weight.to(dtype)
        sizes = (len(self.x), width, [last - first for first, last in self.slices][-1:])
        self.pairs = self.x.dtype == torch.bfloat16 and bias is None and gradients_pairs.fits(*sizes)
        if self.pairs:
            self.x = self.x.contiguous()
            self.weight = self.weight.contiguous() if isinstance(self.weight, Tensor) else self.weight

    def run(self, scales: tuple[Tensor, Tensor] | None, needs: Sequence[bool]) -> tuple[Tensor, Tensor, list[Grad]]:
        """needs: which of the gradients of x, weight and bias are wanted."""
        module = native.library()
        assert module is not None
        count, vocabulary = len(self.x), self.count
        losses, log_sums = torch.empty(2, count, dtype=self.real)
        x_grad = torch.empty_like(self.x) if needs[0] else None
        weight_grad: Grad = None
        bias_grad = torch.zeros(vocabulary, dtype=self.real) if needs[2] and self.bias is not None else None
        for start in range(0, count, self.rows):
            part = slice(start, start + self.rows)
            rows = self.x[part]
            logits = self._logits(rows)
            places = (self.targets[part].data_ptr(), losses[part].data_ptr(), log_sums[part].data_ptr())
            factors = (0, 0) if scales is None else tuple(each[part].data_ptr() for each in scales)
            number = NUMBERS[logits.dtype]
            module.train_entropy(number, len(rows), vocabulary, logits.data_ptr(), *places, any(needs), *factors)
            if x_grad is not None:
                self._back(logits, x_grad[part])
            if needs[1]:
                own = logits.t() @ rows
                weight_grad = own.to(self.real) if weight_grad is None else weight_grad.add_(own)
            if bias_grad is not None:
                bias_grad += logits.sum(0, dtype=self.real)
            del logits  # before the next ones are there
        return losses, log_sums, [x_grad, weight_grad, bias_grad]

    def _made(self, first: int, last: int) -> Tensor:
        """Rows of the matrix, as numbers."""
        return self.weight.dense(self.dtype, first, last) if isinstance(self.weight, Q8) else self.weight[first:last]

    def _logits(self, rows: Tensor) -> Tensor:
        if len(self.slices) == 1 and not self.pairs:
            matrix = self._made(0, self.count).t()
            return rows @ matrix if self.bias is None else torch.addmm(self.bias, rows, matrix)
        logits = rows.new_empty(len(rows), self.count)
        for first, last in self.slices:
            part, matrix = logits[:, first:last], self._made(first, last)
            if self.pairs:
                gradients_pairs.product(rows, matrix, part)
            else:
                part.copy_(rows @ matrix.t())
        return logits if self.bias is None else logits.add_(self.bias)

    def _back(self, logits_grad: Tensor, x_grad: Tensor) -> None:
        """Sums over several slices are float32."""
        one = len(self.slices) == 1
        whole = x_grad if one else torch.zeros_like(x_grad, dtype=self.real)
        for first, last in self.slices:
            own, matrix = logits_grad[:, first:last], self._made(first, last)
            part = x_grad if one else torch.empty_like(x_grad)
            if self.pairs:
                gradients_pairs.product_back(own, matrix, part)
            else:
                torch.mm(own, matrix, out=part)
            if not one:
                whole += part
        if not one:
            x_grad.copy_(whole)


class _CrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | Packed, bias: Grad, targets: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        losses, log_sums, grads = _Chunks(x, weight, bias, targets, dtype).run(None, ctx.needs_input_grad)
        packed = isinstance(weight, Packed)
        ctx.packed, ctx.dtype = weight if packed else None, dtype
        ctx.save_for_backward(x, None if packed else weight, bias, targets, *grads)
        ctx.set_materialize_grads(False)
        return losses, log_sums

    @staticmethod
    @first_only
    def backward(ctx: Any, loss_grad: Grad, sum_grad: Grad) -> tuple[Grad, ...]:
        x, weight, bias, targets, *grads = ctx.saved_tensors
        if sum_grad is None and loss_grad is None:
            return None, None, None, None, None
        if sum_grad is None and loss_grad is not None and loss_grad.stride(0) == 0:
            factor = loss_grad[0]  # what a sum's gradient is: one number for all
        else:
            factor = torch.ones((), dtype=real_type(x))
            zeros = torch.zeros(len(x), dtype=real_type(x))
            scales = tuple(zeros if each is None else each.contiguous() for each in (loss_grad, sum_grad))
            chunks = _Chunks(x, ctx.packed or weight, bias, targets, ctx.dtype)
            grads = chunks.run(scales, ctx.needs_input_grad)[2]  # type: ignore[arg-type]
        given = (x, weight, bias)
        scaled = [
            None if grad is None or each is None or not need else (grad.to(real_type(x)) * factor).to(each.dtype)
            for grad, each, need in zip(grads, given, ctx.needs_input_grad, strict=False)
        ]
        return (*scaled, None, None)
