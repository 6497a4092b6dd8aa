"""float32 to ggml's K-quants: super-blocks of 256 weights whose sub-block scales are themselves quantised.

First every sub-block finds its own scale (and minimum), then these are rounded to multiples of the super-block's, and
the super-block's are fitted again, by least squares, to what came of it. All take (n, 256) float32 and importances of
that shape or None, and give (n, bytes per block) uint8; `kquants.py` has the layouts.
"""

from __future__ import annotations

import torch
from torch import Tensor, cat

from paddock.checkpoint.fitting import affine, bytes_of, inverse, levels, pack, scale_only

ROUNDS = 2  # of fitting the super-block's scales again; a third gains nothing that can be measured


def q4_k(x: Tensor, importance: Tensor | None) -> Tensor:
    head, values = _affine_blocks(x, importance, 15)
    return cat((head, pack(values, 4, 32)), 1)


def q5_k(x: Tensor, importance: Tensor | None) -> Tensor:
    head, values = _affine_blocks(x, importance, 31)
    return cat((head, pack(values >> 4, 1, 32), pack(values & 15, 4, 32)), 1)


def q6_k(x: Tensor, importance: Tensor | None) -> Tensor:
    """16 sub-blocks of 16 weights, levels from -32 to 31, int8 multiples of one float16."""
    n = len(x)
    weights = _weights(x, importance)
    scales = scale_only(x.view(-1, 16), weights.view(-1, 16), 32).view(n, 16)
    largest = scales.gather(1, scales.abs().argmax(1, keepdim=True))
    unit = (largest / -128).half().float()
    multiples = levels(scales, unit, -128, 127)
    sub, w = x.view(n, 16, 16), weights.view(n, 16, 16)
    best: tuple[Tensor, ...] = ()
    for _ in range(1 + ROUNDS):
        values = levels(sub, (unit * multiples).unsqueeze(2), -32, 31)
        steps = multiples.unsqueeze(2) * values
        error = (w * (unit.unsqueeze(2) * steps - sub) ** 2).sum((1, 2)).unsqueeze(1)
        best = _better(best, (unit, values.view(n, -1), error))
        fitted = (w * sub * steps).sum((1, 2)) * inverse((w * steps * steps).sum((1, 2)))
        unit = fitted.unsqueeze(1).half().float()
    unit, chosen, _ = best
    raised = (chosen + 32).to(torch.uint8)
    low, high = pack(raised & 15, 4, 64), pack(raised >> 4, 2, 32)
    return cat((low, high, bytes_of(multiples.to(torch.int8)), bytes_of(unit.half())), 1)


def _weights(x: Tensor, importance: Tensor | None) -> Tensor:
    """How much each weight's error counts: large weights more, as their errors do not average out as well.

    Root mean square plus magnitude, llama.cpp's choice for these types; with importances, its choice for those.
    """
    square = x.square()
    mean = square.mean(1, keepdim=True)
    if importance is None:
        return mean.sqrt() + x.abs()
    weights = importance * (2 * mean + square).sqrt()
    return torch.where(weights.amax(1, keepdim=True) > 0, weights, torch.ones_like(weights))


def _affine_blocks(x: Tensor, importance: Tensor | None, most: int) -> tuple[Tensor, Tensor]:
    """The first 16 bytes of Q4_K and Q5_K, and the levels (n, 256) uint8."""
    n = len(x)
    weights = _weights(x, importance)
    scales, lows = affine(x.view(-1, 32), weights.view(-1, 32), most, below_zero=True)
    scales, minima = scales.view(n, 8), -lows.view(n, 8)
    unit, drop = ((part.amax(1, keepdim=True) / 63).half().float() for part in (scales, minima))
    multiples, drops = levels(scales, unit, 0, 63), levels(minima, drop, 0, 63)
    sub, w = x.view(n, 8, 32), weights.view(n, 8, 32)
    best: tuple[Tensor, ...] = ()
    for _ in range(1 + ROUNDS):
        shift = (drop * drops).unsqueeze(2)
        values = levels(sub + shift, (unit * multiples).unsqueeze(2), 0, most)
        steps, b = multiples.unsqueeze(2) * values, drops.unsqueeze(2)
        error = (w * (unit.unsqueeze(2) * steps - shift - sub) ** 2).sum((1, 2)).unsqueeze(1)
        best = _better(best, (unit, drop, values.view(n, -1), error))
        unit, drop = _fitted(sub, w, steps, b)
    unit, drop, chosen, _ = best
    return cat((bytes_of(unit.half()), bytes_of(drop.half()), _packed(multiples, drops)), 1), chosen.to(torch.uint8)


def _fitted(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 1) d and e, rounded to float16, with the least weighted error of d × a - e × b against x: (n, 8, 32)."""
    wa, wb = w * a, w * b
    aa, ab, bb = ((part * other).sum((1, 2)) for part, other in ((wa, a), (wa, b), (wb, b)))
    ax, bx = (wa * x).sum((1, 2)), (wb * x).sum((1, 2))
    one = inverse(aa * bb - ab * ab)
    scale, drop = (ax * bb - bx * ab) * one, (ax * ab - bx * aa) * one
    alone = (one == 0) | (drop < 0)
    scale, drop = torch.where(alone, ax * inverse(aa), scale), torch.where(alone, torch.zeros_like(drop), drop)
    return scale.clamp(min=0).unsqueeze(1).half().float(), drop.unsqueeze(1).half().float()


def _better(best: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Block by block the one of two trials with the smaller error, which is the last of each tuple."""
    if not best:
        return found
    wins = found[-1] < best[-1]
    return tuple(torch.where(wins, new, old) for new, old in zip(found, best, strict=True))


def _packed(scales: Tensor, minima: Tensor) -> Tensor:
    """(n, 8) and (n, 8) numbers of 6 bits in 12 bytes, as `kquants` unpacks them."""
    s, m = scales.to(torch.uint8), minima.to(torch.uint8)
    first = s[:, :4] | (s[:, 4:] >> 4) << 6
    second = m[:, :4] | (m[:, 4:] >> 4) << 6
    third = (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4
    return cat((first, second, third), 1)
