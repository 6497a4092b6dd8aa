"""The least-squares searches under ggml's block types, over many blocks at once: x is (blocks, weights per block)."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(values: Tensor, bits: int, run: int) -> Tensor:
    """(n, m) values of `bits` bits → (n, m × bits / 8) bytes: the inverse of `bits.fields`."""
    each = 8 // bits
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8).view(1, 1, -1, 1)
    runs = values.reshape(len(values), -1, each, run) << shifts
    return runs.sum(2, dtype=torch.uint8).view(len(values), -1)


def bytes_of(numbers: Tensor) -> Tensor:
    """(n, m) numbers as (n, m × item size) bytes."""
    return numbers.contiguous().view(torch.uint8)


def inverse(scale: Tensor) -> Tensor:
    """1 / scale, and 0 where that is 0 or so small that its inverse is infinite."""
    return torch.nan_to_num(1 / scale, nan=0.0, posinf=0.0, neginf=0.0)


def levels(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """x in steps of `scale`, rounded and kept from `low` to `high`; float32."""
    return (x * inverse(scale)).round_().clamp_(low, high)


def scale_only(x: Tensor, weights: Tensor | None, half: int, trials: int = 9) -> Tensor:
    """(n, 1) scales s for x ≈ s × level, level from -half to half - 1.

    The weight of largest magnitude lies near -half, whatever its sign; trials move it by up to 0.9 of a step.
    """
    largest = x.gather(1, x.abs().argmax(1, keepdim=True))
    wx = x if weights is None else weights * x
    best, gain = torch.zeros_like(largest), torch.zeros_like(largest)
    for place in range(-trials, trials + 1):
        level = (x * inverse(-largest / (half + 0.9 * place / trials))).round_().clamp_(-half, half - 1)
        along = (wx * level).sum(1, keepdim=True)
        size = (level * level if weights is None else weights * level * level).sum(1, keepdim=True)
        fitted = along * inverse(size)
        found = fitted * along  # by how much the squared error is less than that of all zeros
        better = found > gain
        best, gain = torch.where(better, fitted, best), torch.where(better, found, gain)
    return best


def affine(x: Tensor, weights: Tensor | None, most: int, below_zero: bool, trials: int = 16) -> tuple[Tensor, Tensor]:
    """(n, 1) scales s and lows m for x ≈ s × level + m, level from 0 to `most`.

    `below_zero`: m may not be above 0, as the K-quants store -m without a sign. Trials stretch the range that the
    levels cover from one step less than the weights' to about one more.
    """
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    if below_zero:
        low = low.clamp(max=0)
    span, w = high - low, torch.ones_like(x) if weights is None else weights
    wx, sum_w = w * x, w.sum(1, keepdim=True)
    sum_x = wx.sum(1, keepdim=True)
    best_scale, best_low = span / most, low
    best = torch.full_like(low, torch.inf)
    for place in range(-1, trials):
        steps = float(most) if place < 0 else most - 1 + 2 * place / trials
        level = ((x - low) * inverse(span / steps)).round_().clamp_(0, most)
        wl = w * level
        sum_l, ll = wl.sum(1, keepdim=True), (wl * level).sum(1, keepdim=True)
        xl = (wx * level).sum(1, keepdim=True)
        one = inverse(sum_w * ll - sum_l * sum_l)
        scale, shift = (sum_w * xl - sum_x * sum_l) * one, (ll * sum_x - sum_l * xl) * one
        if below_zero:
            over = shift > 0
            scale, shift = torch.where(over, xl * inverse(ll), scale), shift.clamp(max=0)
        error = scale * (scale * ll + 2 * (shift * sum_l - xl)) + shift * (shift * sum_w - 2 * sum_x)
        better = (error < best) & (scale > 0)
        best_scale, best_low = torch.where(better, scale, best_scale), torch.where(better, shift, best_low)
        best = torch.where(better, error, best)
    return best_scale, best_low
