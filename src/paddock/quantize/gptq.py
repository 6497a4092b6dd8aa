"""Rounding a matrix to a few bits: to the nearest, with the scale that costs least, or by GPTQ.

GPTQ (arXiv 2210.17323) rounds one input after another and lets the inputs still to come make up for each error, as far
as the inputs of the calibration text move together: `Hessian` gathers how they do. Groups stay in their natural order
whatever the order of rounding, so that kernels need no permutation ("static groups").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.errors import CheckpointError

BLOCK = 128  # inputs rounded before the rest of the matrix is brought up to date
DAMPING = 0.01  # of the diagonal's mean, added to it
MOST_DAMPING = 10.0
SHRINKS = torch.linspace(1.0, 0.6, 17)  # ranges tried for a group, as parts of its largest magnitude
ROWS = 512  # outputs whose scales are searched at a time


@dataclass(frozen=True)
class Rounded:
    """weight = (codes - 2^(bits - 1)) × scales: codes (outputs, inputs) uint8, scales (outputs, groups) float16."""

    codes: Tensor
    scales: Tensor
    bits: int

    def weight(self) -> Tensor:
        """(outputs, inputs) float32."""
        group = self.codes.shape[1] // self.scales.shape[1]
        wide = self.scales.float().repeat_interleave(group, 1)
        return (self.codes.float() - 2 ** (self.bits - 1)) * wide


class Hessian:
    """The mean of x xᵀ over the inputs (tokens, inputs) that a matrix saw."""

    def __init__(self, inputs: int) -> None:
        self.sum = torch.zeros(inputs, inputs)
        self.tokens = 0

    def add(self, x: Tensor) -> None:
        x = x.detach().reshape(-1, x.shape[-1]).float()
        self.sum.addmm_(x.T, x)
        self.tokens += len(x)

    def mean(self) -> Tensor:
        return self.sum / max(1, self.tokens)


def nearest(weight: Tensor, bits: int, group: int, importance: Tensor | None = None) -> Rounded:
    """Each weight to the nearest code, scales chosen for the least squared error, weighted by input's `importance`.

    weight (outputs, inputs), `group` inputs share a scale. Raises CheckpointError for weights that float16 scales
    cannot reach.
    """
    weight = weight.float()
    scales = best_scales(weight, bits, group, importance)
    wide = _usable(scales).repeat_interleave(group, 1)
    return Rounded(_codes(weight, wide, bits).to(torch.uint8), scales, bits)


def gptq(weight: Tensor, hessian: Tensor, bits: int, group: int, *, by_activation: bool = True) -> Rounded:
    """The weights (outputs, inputs) rounded so that outputs for such inputs change least.

    `by_activation` rounds the inputs that matter most first, while all others can still make up for them.
    """
    weight, diagonal = weight.float(), hessian.diagonal()
    scales = best_scales(weight, bits, group, diagonal)
    order = diagonal.argsort(descending=True, stable=True) if by_activation else torch.arange(len(diagonal))
    upper = _inverse_root(hessian[order][:, order])
    usable, spread = _usable(scales).T.contiguous(), upper.diagonal().tolist()
    left = weight.T[order]  # inputs are rows here, each in one piece of memory
    codes = torch.empty(left.shape, dtype=torch.uint8)
    for first in range(0, len(left), BLOCK):
        last = min(first + BLOCK, len(left))
        errors = torch.empty(last - first, left.shape[1])
        for at, place in enumerate(order[first:last].tolist(), first):
            scale = usable[place // group]
            code = _codes(left[at], scale, bits)
            codes[place] = code
            error = torch.addcmul(left[at], code - 2 ** (bits - 1), scale, value=-1).div_(spread[at])
            left[at + 1 : last].addr_(upper[at, at + 1 : last], error, alpha=-1)
            errors[at - first] = error
        left[last:].addmm_(upper[first:last, last:].T, errors, alpha=-1)
    return Rounded(codes.T.contiguous(), scales, bits)


def best_scales(weight: Tensor, bits: int, group: int, importance: Tensor | None = None) -> Tensor:
    """(outputs, inputs / group) float16: per group the scale, of some, that rounds with the least squared error."""
    outputs, inputs = weight.shape
    counts = torch.ones(inputs) if importance is None or not importance.any() else importance.float()
    counts = counts.view(-1, group)
    result = torch.empty(outputs, inputs // group, dtype=torch.float16)
    for first in range(0, outputs, ROWS):
        rows = weight[first : first + ROWS].unflatten(1, (-1, group))
        result[first : first + ROWS] = _search(rows, counts, bits)
    if not result.isfinite().all():
        raise CheckpointError("a matrix holds weights too large for scales in float16")
    return result


def _search(rows: Tensor, counts: Tensor, bits: int) -> Tensor:
    """rows (outputs, groups, group) to scales (outputs, groups)."""
    half = 2 ** (bits - 1)
    largest = rows.abs().amax(-1)
    best = (largest / (half - 1)).half()
    least = torch.full_like(largest, torch.inf)
    for shrink in SHRINKS.tolist() if bits < 8 else [1.0]:
        scale = (largest * shrink / (half - 1)).half()
        wide = _usable(scale)[..., None]
        error = ((_codes(rows, wide, bits) - half) * wide - rows).square().mul_(counts).sum(-1)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def _usable(scales: Tensor) -> Tensor:
    """As float32, and 1 where a group holds nothing but zeros."""
    return torch.where(scales == 0, 1.0, scales.float())


def _codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The nearest codes, 0 to 2^bits - 1, still in floating point."""
    half = 2 ** (bits - 1)
    return (weight / scale).round_().clamp_(-half, half - 1).add_(half)


def _inverse_root(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse, damped as far as it needs. An input never seen stands alone."""
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1.0
    damping, mean = DAMPING, diagonal.mean().item()
    while damping <= MOST_DAMPING:
        damped = hessian.clone()
        damped.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and upper.isfinite().all():
                return upper
        damping *= 10
    raise CheckpointError(
        "the calibration text gives activations that are not numbers", fix="calibrate with other text, or with none"
    )
