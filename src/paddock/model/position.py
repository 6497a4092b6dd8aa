"""Positions to angles, slopes and buckets. Everything here is a pure function of a part and of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paddock.model.spec import (
    Alibi,
    Buckets,
    DynamicScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    PowerScaling,
    Rope,
    Rope2D,
    Sinusoidal,
    TruncatedScaling,
    YarnScaling,
)


def frequencies(rope: Rope, length: int, device: torch.device) -> Tensor:
    """Angles per position, (width / 2,) float32. `length` is the planned length, which dynamic scaling looks at."""
    exponents = torch.arange(0, rope.width, 2, dtype=torch.int64, device=device).float() / rope.width
    theta = rope.theta
    if isinstance(rope.scaling, DynamicScaling) and length > rope.scaling.original:
        growth = rope.scaling.factor * length / rope.scaling.original - (rope.scaling.factor - 1)
        theta *= growth ** (rope.width / (rope.width - 2))
    plain = 1.0 / theta**exponents
    match rope.scaling:
        case LinearScaling(factor):
            return plain / factor
        case Llama3Scaling():
            return _llama3(plain, rope.scaling)
        case YarnScaling():
            return _yarn(plain, rope, rope.scaling)
        case FactorScaling(factors):
            return plain / torch.tensor(factors, dtype=torch.float32, device=device)
        case PowerScaling(exponent):
            share = torch.arange(len(plain), dtype=torch.float32, device=device) / len(plain)
            return plain * (1 - share) ** exponent
        case TruncatedScaling(cutoff):
            return _truncated(plain, cutoff)
    return plain


def _truncated(plain: Tensor, cutoff: float) -> Tensor:
    least = 2 * math.pi / cutoff
    slow = torch.where(plain >= least / 8, least / 16, 0.0)
    return torch.where(plain >= least, plain, slow)


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    turns = scaling.original * plain / (2 * math.pi)  # full turns within the original context
    keep = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return keep * plain + (1 - keep) * plain / scaling.factor


def _yarn(plain: Tensor, rope: Rope, scaling: YarnScaling) -> Tensor:
    def feature_with(turns: float) -> float:  # the feature that makes `turns` turns within the original context
        return rope.width * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = feature_with(scaling.beta_fast), feature_with(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.width - 1)
    ramp = torch.arange(rope.width // 2, dtype=torch.float32, device=plain.device) - low
    interpolate = (ramp / (high - low if high > low else 0.001)).clamp(0, 1)
    return plain / scaling.factor * interpolate + plain * (1 - interpolate)


def rotation(rope: Rope | Rope2D, positions: Tensor, length: int) -> tuple[Tensor, ...]:
    """cos and sin, each (batch, 1, tokens, width / 2) float32; for Rope2D two such pairs, one per stream."""
    if isinstance(rope, Rope2D):
        streams = [_angles_2d(rope, positions[..., i]) for i in (0, 1)]
        return tuple(wave(angle).float() for angle in streams for wave in (torch.cos, torch.sin))
    angles = positions.unsqueeze(1).unsqueeze(-1).float() * frequencies(rope, length, positions.device)
    gain = rope.scaling.attention if isinstance(rope.scaling, YarnScaling) else 1.0
    return angles.cos() * gain, angles.sin() * gain


def _angles_2d(rope: Rope2D, positions: Tensor) -> Tensor:
    angles = frequencies(Rope(rope.theta, rope.width), 0, positions.device)
    where = positions.unsqueeze(1).unsqueeze(-1).float()
    if rope.half_tables:  # the published tables: frequencies, positions and angles in float16
        return where.half() * angles.half()
    return where * angles


def slopes(alibi: Alibi, heads: int) -> list[float]:
    """One slope per head. Where `heads` is no power of two, every other slope of the next power fills the rest."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-alibi.bias_max * i / power) for i in range(1, power + 1)]
    rest = [2 ** (-alibi.bias_max * i / (2 * power)) for i in range(1, 2 * (heads - power) + 1, 2)]
    return first + rest


def alibi_bias(alibi: Alibi, heads: int, scale: float, queries: Tensor, keys: Tensor) -> Tensor:
    """The distance penalty (batch, heads, queries, keys) float32 from positions (batch, queries), (batch, keys)."""
    slope = torch.tensor(slopes(alibi, heads), dtype=torch.float32, device=keys.device).view(1, heads, 1, 1)
    if alibi.rounded:  # absolute, not relative: only without rounding does softmax make them the same
        bias = (slope.bfloat16() * keys[:, None, None, :].bfloat16()).float()
        bias = bias.expand(-1, -1, queries.shape[1], -1)
    else:
        bias = slope * (keys[:, None, None, :] - queries[:, None, :, None]).float()
    return bias * scale if alibi.before_scale else bias


def bucket_of(buckets: Buckets, distance: Tensor) -> Tensor:
    """T5's bucket of key position minus query position: exact when near, logarithmic when far, capped at the last."""
    count, offset = buckets.count, torch.zeros_like(distance)
    if buckets.both_ways:
        count //= 2
        offset = (distance > 0) * count
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets.exact
    ratio = (distance.clamp(min=1).float() / exact).log() / math.log(buckets.max_distance / exact)
    far = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
    return offset + torch.where(distance < exact, distance, far)


def wave_frequencies(wave: Sinusoidal, width: int, device: torch.device) -> Tensor:
    """Angles per position, (width / 2,) float32."""
    half = width // 2
    step = math.log(10000.0) / (half - 1 if wave.inclusive else half)
    return torch.exp(-step * torch.arange(half, dtype=torch.float32, device=device))


def sinusoids(wave: Sinusoidal, positions: Tensor, width: int) -> Tensor:
    """Fixed position vectors (batch, tokens, width) float32."""
    angles = (positions + wave.start).unsqueeze(-1) * wave_frequencies(wave, width, positions.device)
    pair = (angles.sin(), angles.cos())
    return torch.stack(pair, dim=-1).flatten(-2) if wave.interleaved else torch.cat(pair, dim=-1)
