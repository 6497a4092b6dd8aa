"""The matrix unit's kernels: run by AMX where there is one, and anywhere with AVX-512 by its emulation."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np
import pytest
import torch

from paddock.kernels import native

FORCED = os.environ.get(native.KERNELS)
TILED = [name for name in native.available() if name.startswith("amx") and FORCED in (None, "", name)]
BELOW = {"amx": "avx512bf16", "amx-emulated": "avx512"}
pytestmark = [
    pytest.mark.skipif(not TILED, reason="neither AMX nor AVX-512 here, or PADDOCK_KERNELS leaves them out"),
    pytest.mark.parametrize("kernels", TILED, indirect=True),
]


def bfloats(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """float32 numbers that bfloat16 holds."""
    drawn = torch.from_numpy(random.standard_normal((rows, columns)).astype(np.float32))
    return drawn.bfloat16().float().numpy()


def packed(module: ModuleType, matrix: np.ndarray) -> object:
    bits = torch.from_numpy(matrix).bfloat16().view(torch.uint8).numpy().reshape(-1)
    return module.Weight.pack("bf16", *matrix.shape, bits)


def flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)


def published(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """x times the transpose of `matrix` as TDPBF16PS is published: of 32 inputs the even and the odd ones apart.

    A product of two bfloat16 numbers is exact in float64, and a sum there so near that float32 is rounded to alike.
    """
    columns = -(-x.shape[1] // 32) * 32
    a, b = np.zeros((len(x), columns), np.float32), np.zeros((len(matrix), columns), np.float32)
    a[:, : x.shape[1]], b[:, : x.shape[1]] = flushed(x), flushed(matrix)
    total = np.zeros((len(x), len(matrix)), np.float32)
    for first in range(0, columns, 32):
        sums = []
        for odd in range(2):
            one = np.zeros_like(total)
            for i in range(first + odd, first + 32, 2):
                one = flushed((np.outer(a[:, i].astype(np.float64), b[:, i]) + one).astype(np.float32))
            sums.append(one)
        total = flushed(total + flushed(sums[0] + sums[1]))
    return total


@pytest.mark.parametrize(
    ("rows", "outputs", "columns"), [(1, 16, 32), (5, 40, 77), (37, 35, 600), (16, 1, 1), (19, 17, 31)]
)
def test_bfloat16_sums_are_the_published_ones(
    kernels: ModuleType, random: np.random.Generator, rows: int, outputs: int, columns: int
) -> None:
    x, matrix = bfloats(random, rows, columns), bfloats(random, outputs, columns)
    x[:, ::7] *= np.float32(2.0**-125)  # products and sums around the smallest normal numbers, and inputs below them
    matrix[:, ::3] *= np.float32(2.0**-3)
    x[0, 0] = np.float32(2.0**-130)
    found = kernels.linear(x, packed(kernels, matrix))
    if kernels.current() == "amx-emulated":
        assert np.array_equal(found, published(x, matrix))
    else:  # a processor may do better than what is published
        np.testing.assert_allclose(found, published(x, matrix), rtol=1e-4, atol=1e-4)


def test_denormal_bfloats_count_as_zero(kernels: ModuleType) -> None:
    x, matrix = np.full((20, 64), 2.0**-130, np.float32), np.full((16, 64), 2.0**20, np.float32)
    assert not kernels.linear(x, packed(kernels, matrix)).any()
    x[:] = 2.0**-100
    assert (kernels.linear(x, packed(kernels, matrix)) == np.float32(64 * 2.0**-80)).all()


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 33, 150])
def test_rows_of_bfloats_are_the_same_alone_and_together(
    kernels: ModuleType, random: np.random.Generator, rows: int
) -> None:
    matrix = bfloats(random, 150, 1100)
    weight, x, bias = packed(kernels, matrix), bfloats(random, rows, 1100), bfloats(random, 1, 150)[0]
    onto = bfloats(random, rows, 150)
    together = kernels.linear(x, weight, bias, onto)
    exact = x.astype(np.float64) @ matrix.T + bias + onto
    assert (np.abs(together - exact) <= 2e-6 * (np.abs(x) @ np.abs(matrix.T) + 4)).all()
    for first in range(0, rows, 13):
        row = slice(first, first + 1)
        assert np.array_equal(kernels.linear(x[row], weight, bias, onto[row]), together[row])


@pytest.mark.parametrize("rows", [15, 16, 17, 32, 130])
@pytest.mark.parametrize("name", ["int4", "int8"])
def test_codes_have_the_bits_of_the_variant_below(
    kernels: ModuleType, random: np.random.Generator, name: str, rows: int
) -> None:
    """Other formats: test_native_linear.py compares all variants."""
    own, below = kernels.current(), BELOW[kernels.current()]
    for outputs, columns in ((1, 32), (150, 96), (33, 1056)):
        codes = random.integers(0, 16 if name == "int4" else 256, (outputs, columns), dtype=np.uint8)
        scales = random.uniform(-0.1, 0.1, (outputs, columns // 32)).astype(np.float16).view(np.uint16)
        weight = kernels.Weight.pack_affine(name, codes, scales, codes[:, ::32].copy())
        x, onto = bfloats(random, rows, columns), bfloats(random, rows, outputs)
        found = kernels.linear(x, weight, onto=onto)
        kernels.use(below)
        assert np.array_equal(kernels.linear(x, weight, onto=onto), found)
        kernels.use(own)


def test_what_is_no_number_stays_none(kernels: ModuleType, random: np.random.Generator) -> None:
    x, matrix = bfloats(random, 20, 40), bfloats(random, 20, 40)
    x[3, 5], x[18, 39], matrix[7, 39] = np.nan, np.inf, np.nan
    y = kernels.linear(x, packed(kernels, matrix))
    bad = ~np.isfinite(y)
    assert bad[3].all() and bad[18].all() and bad[:, 7].all()
    assert not np.delete(np.delete(bad, 7, 1), [3, 18], 0).any()


def test_the_units_own_rate_is_measured(kernels: ModuleType) -> None:
    assert all(kernels.peak_rate(kind, 1, 0.001) > 0 for kind in ("int8", "bf16", "f32"))
