"""Storing and attention over the paged cache, beside the reference with the same mask, for every variant."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch

from paddock.kernels import reference

TOLERANCE = {"f32": 2e-5, "f16": 2e-3, "bf16": 2e-2, "int8": 3e-2}


def numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    rows: int
    keys: int
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    causal: bool = True
    prefix: int = 0
    window: int = 0
    alibi: bool = False
    first: int | None = None
    farthest: int = 0  # values by distance up to here, where there are any
    rounded: bool = False


def bias_of(case: Case, first: int, slopes: np.ndarray | None, near: np.ndarray | None) -> torch.Tensor:
    """(heads or 1, rows, keys) added to the scores, as kernels.h describes who sees whom."""
    rows, keys = case.rows, case.keys
    query, key = torch.arange(first, first + rows)[:, None], torch.arange(keys)[None]
    seen = key <= query if case.causal else torch.ones(rows, keys, dtype=torch.bool)
    if case.window:
        seen = seen & (key > query - case.window)
    seen = seen | (key < case.prefix)
    bias = torch.zeros(rows, keys).masked_fill(~seen, -torch.inf)[None]
    if near is not None:
        distance = (key - query).clamp(-case.farthest, case.farthest) + case.farthest
        bias = bias + torch.from_numpy(near)[:, distance]
    if slopes is None:
        return bias
    slope = torch.from_numpy(slopes)[:, None, None]
    if case.rounded:
        return bias + (slope.bfloat16() * key.bfloat16()).float() * FACTOR
    return bias + slope * (key - query)


FACTOR = 0.5


def padded(near: np.ndarray) -> np.ndarray:
    """Values by distance as kernels.h has them: the ends repeated 16 times."""
    return np.pad(near, ((0, 0), (16, 16)), mode="edge")


def run(kernels: ModuleType, random: np.random.Generator, kind: str, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel gives and what it should, (rows, heads, head_dim) each."""
    rows, keys, heads, kv_heads, head_dim = case.rows, case.keys, case.heads, case.kv_heads, case.head_dim
    first = keys - rows if case.first is None else case.first
    blocks = (keys + 15) // 16
    table = random.permutation(blocks + 3)[:blocks].astype(np.int32)
    cache = kernels.CacheLayer(kind, blocks + 3, kv_heads, head_dim)
    k, v, q = (
        numbers(random, keys, kv_heads, head_dim),
        numbers(random, keys, kv_heads, head_dim),
        numbers(random, rows, heads, head_dim),
    )
    half = keys // 2
    if half:
        cache.store(k[:half].copy(), v[:half].copy(), table, 0)
    cache.store(k[half:].copy(), v[half:].copy(), table, half)
    slopes = np.exp2(-np.arange(1, heads + 1)).astype(np.float32) if case.alibi else None
    near = numbers(random, heads, 2 * case.farthest + 1) if case.farthest else None
    if case.rounded:
        slopes = torch.full((heads,), 0.0371).bfloat16().float().numpy()
    scale = head_dim**-0.5
    rest = {"near": None if near is None else padded(near), "rounded": case.rounded, "factor": FACTOR}
    out = cache.attend(q, table, first, keys, case.causal, case.prefix, case.window, scale, slopes, **rest)
    swapped = (torch.from_numpy(part).transpose(0, 1)[None] for part in (q, k, v))
    wanted = reference.attend(*swapped, bias_of(case, first, slopes, near)[None], False, scale)
    return out, wanted[0].transpose(0, 1).numpy()


CASES = [
    Case(rows=1, keys=1),
    Case(rows=1, keys=100, heads=8),
    Case(rows=33, keys=33, head_dim=64),
    Case(rows=20, keys=75, heads=6, kv_heads=3, head_dim=80),
    Case(rows=5, keys=17, kv_heads=4, head_dim=8),
    Case(rows=9, keys=600, heads=2, kv_heads=1),
    Case(rows=12, keys=40, causal=False),
    Case(rows=40, keys=40, prefix=21),
    Case(rows=30, keys=90, window=17),
    Case(rows=30, keys=90, alibi=True),
    Case(rows=4, keys=50, causal=False, first=200),
    Case(rows=30, keys=90, farthest=5),
    Case(rows=70, keys=70, heads=6, kv_heads=3, causal=False, farthest=37),
    Case(rows=3, keys=700, head_dim=40, farthest=128),
    Case(rows=20, keys=75, window=30, alibi=True, farthest=16),
    Case(rows=1, keys=400, rounded=True),
    Case(rows=40, keys=600, rounded=True),
]


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention(kernels: ModuleType, random: np.random.Generator, kind: str, case: Case) -> None:
    out, wanted = run(kernels, random, kind, case)
    np.testing.assert_allclose(out, wanted, rtol=0, atol=TOLERANCE[kind] * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("kind", TOLERANCE)
def test_a_query_does_not_depend_on_its_neighbours(kernels: ModuleType, random: np.random.Generator, kind: str) -> None:
    keys, table = 70, np.arange(5, dtype=np.int32)
    cache = kernels.CacheLayer(kind, 5, 2, 64)
    cache.store(numbers(random, keys, 2, 64), numbers(random, keys, 2, 64), table, 0)
    q = numbers(random, 30, 4, 64)
    together = cache.attend(q, table, 40, keys, True, 0, 0, 0.125)
    for row in (0, 13, 29):
        alone = cache.attend(q[row : row + 1].copy(), table, 40 + row, 41 + row, True, 0, 0, 0.125)
        assert np.array_equal(alone[0], together[row])
