"""Norms, activations, rotation and the largest few, beside the reference in PyTorch, for every variant."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch

from paddock.kernels import reference

WIDTHS = (1, 15, 16, 64, 100, 1027)
ACTIVATIONS = {**reference.ACTIVATIONS, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.standard_normal(shape) * 3).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(kernels: ModuleType, random: np.random.Generator, width: int) -> None:
    x, weight = numbers(random, 3, width), numbers(random, width)
    wanted = reference.rms_norm(torch.from_numpy(x), torch.from_numpy(weight), 1e-5).numpy()
    np.testing.assert_allclose(kernels.rms_norm(x, weight, 1e-5), wanted, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm(kernels: ModuleType, random: np.random.Generator, width: int, biased: bool) -> None:
    x, weight = numbers(random, 3, width) + 10, numbers(random, width)
    bias = numbers(random, width) if biased else None
    given = None if bias is None else torch.from_numpy(bias)
    wanted = reference.layer_norm(torch.from_numpy(x), torch.from_numpy(weight), given, 1e-5).numpy()
    np.testing.assert_allclose(kernels.layer_norm(x, weight, bias, 1e-5), wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(kernels: ModuleType, random: np.random.Generator, kind: str) -> None:
    x = np.concatenate([numbers(random, 1000), np.array([0, -0.0, 1e-30, 80, -80, 1000, -1000], np.float32)])[None]
    wanted = ACTIVATIONS[kind](torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(kernels.activate(kind, x), wanted, rtol=3e-6, atol=2e-6)
    up = numbers(random, *x.shape)
    np.testing.assert_allclose(kernels.gate(kind, x, up), wanted * up, rtol=3e-6, atol=2e-5)


@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh", "tanh", "sigmoid", "relu"])
def test_what_is_no_number_stays_none(kernels: ModuleType, kind: str) -> None:
    x = np.full((1, 20), np.nan, np.float32)
    assert np.isnan(kernels.activate(kind, x)).all()
    assert np.isnan(kernels.rms_norm(x, np.ones(20, np.float32), 1e-5)).all()


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(("head_dim", "width"), [(64, 64), (64, 16), (80, 20), (6, 2), (33, 32)])
def test_rotate(kernels: ModuleType, random: np.random.Generator, head_dim: int, width: int, interleaved: bool) -> None:
    x, angles = numbers(random, 5, 3, head_dim), numbers(random, 5, width // 2)
    cos, sin = np.cos(angles), np.sin(angles)
    swapped = torch.from_numpy(x).transpose(0, 1)[None]  # (batch, heads, tokens, head_dim)
    tables = (torch.from_numpy(table)[None, None] for table in (cos, sin))
    wanted = reference.rotate(swapped, *tables, interleaved)[0].transpose(0, 1).numpy()
    np.testing.assert_allclose(kernels.rotate(x, cos, sin, interleaved), wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("count", [1, 7, 16, 1000, 5001])
def test_top_k(kernels: ModuleType, random: np.random.Generator, count: int) -> None:
    x = random.integers(-50, 50, count).astype(np.float32)  # many ties
    x[random.integers(0, count, count // 20)] = np.nan
    x[random.integers(0, count, count // 20)] = -np.inf
    order = sorted(range(count), key=lambda i: (np.isnan(x[i]), -x[i] if not np.isnan(x[i]) else 0.0, i))
    for k in {1, min(5, count), min(64, count), count}:
        indices, values = kernels.top_k(x, k)
        assert indices.tolist() == order[:k]
        assert np.array_equal(values, x[order[:k]], equal_nan=True)


@pytest.mark.parametrize("temperature", [1e-6, 0.7, 1.0, 50.0])
@pytest.mark.parametrize("count", [1, 7, 8, 1000, 5001])
def test_mass(kernels: ModuleType, random: np.random.Generator, count: int, temperature: float) -> None:
    x = numbers(random, count)
    x[random.integers(0, count, count // 10)] = -np.inf
    x[0] = 1000.0  # so far above all others that at low temperatures nothing but it counts
    top = float(x.max())
    wanted = math.fsum(np.exp((x.astype(np.float64) - top) / temperature))
    assert kernels.mass(x, top, temperature) == pytest.approx(wanted, rel=1e-14)
    near = float(x[1:].max(initial=-np.inf))
    if np.isfinite(near):
        wanted = math.fsum(np.exp((x[1:].astype(np.float64) - near) / temperature))
        assert kernels.mass(x[1:].copy(), near, temperature) == pytest.approx(wanted, rel=1e-14)
