"""GPTQ and rounding to the nearest: against the paper's formula step by step, and what each is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from paddock.errors import CheckpointError
from paddock.quantize.gptq import DAMPING, Hessian, Rounded, best_scales, gptq, nearest


def correlated(tokens: int = 2000, inputs: int = 256) -> Tensor:
    """Inputs of very different size that move together, as a transformer's do."""
    spread = torch.randn(inputs, inputs) * torch.linspace(0.05, 2, inputs)
    return torch.randn(tokens, inputs) @ spread * 0.1 + torch.randn(tokens, 1) @ torch.randn(1, inputs)


def seen(x: Tensor) -> Tensor:
    hessian = Hessian(x.shape[1])
    for part in x.split(300):
        hessian.add(part[None])
    return hessian.mean()


def cost(x: Tensor, weight: Tensor, rounded: Rounded) -> float:
    return ((x @ (rounded.weight() - weight).T) ** 2).mean().item()


def test_the_hessian_is_the_mean_of_the_outer_products() -> None:
    x = correlated(700, 32)
    assert torch.allclose(seen(x), (x.T @ x) / 700, rtol=1e-4, atol=1e-4)
    assert Hessian(4).mean().eq(0).all()


@pytest.mark.parametrize("group", [32, 64, 128])
def test_gptq_costs_less_than_rounding_to_the_nearest(group: int) -> None:
    weight, x, unseen = torch.randn(48, 256), *correlated(3000).split(2000)
    hessian = seen(x)
    plain, weighted = nearest(weight, 4, group), nearest(weight, 4, group, hessian.diagonal())
    best = gptq(weight, hessian, 4, group)
    for inputs in (x, unseen):
        assert cost(inputs, weight, best) < 0.6 * cost(inputs, weight, plain)
        assert cost(inputs, weight, best) < 0.6 * cost(inputs, weight, weighted)
    assert cost(x, weight, best) < cost(x, weight, gptq(weight, hessian, 4, group, by_activation=False))


def slowly(weight: np.ndarray, hessian: np.ndarray, scales: np.ndarray, group: int, order: list[int]) -> np.ndarray:
    """The paper's method as it is explained, without its speed: after each input the inverse shrinks by one."""
    weight, left = weight.copy(), list(order)
    codes = np.zeros(weight.shape, dtype=int)
    hessian = hessian + DAMPING * hessian.diagonal().mean() * np.eye(len(hessian))
    while left:
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        at, rest = left[0], left[1:]
        scale = scales[:, at // group]
        codes[:, at] = np.clip(np.rint(weight[:, at] / scale), -8, 7) + 8
        error = (weight[:, at] - (codes[:, at] - 8) * scale) / inverse[0, 0]
        weight[:, rest] -= np.outer(error, inverse[0, 1:])
        left = rest
    return codes


@pytest.mark.parametrize("by_activation", [True, False])
def test_gptq_is_the_papers(by_activation: bool) -> None:
    weight, hessian = torch.randn(6, 160), seen(correlated(300, 160))
    scales = best_scales(weight, 4, 32, hessian.diagonal())
    order = hessian.diagonal().argsort(descending=True, stable=True).tolist() if by_activation else list(range(160))
    expected = slowly(weight.double().numpy(), hessian.double().numpy(), scales.double().numpy(), 32, order)
    found = gptq(weight, hessian, 4, 32, by_activation=by_activation)
    assert torch.equal(found.scales, scales)
    differs = (found.codes.numpy() != expected).mean()
    assert differs < 0.01  # a sum in float32 may fall on the other side of a half, and the rest follows


def test_with_inputs_that_do_not_move_together_it_is_rounding_to_the_nearest() -> None:
    weight, hessian = torch.randn(8, 64), torch.diag(torch.rand(64) + 0.5)
    assert torch.equal(gptq(weight, hessian, 4, 32).codes, nearest(weight, 4, 32, hessian.diagonal()).codes)
    never = gptq(weight, torch.zeros(64, 64), 4, 32)
    assert torch.equal(never.codes, nearest(weight, 4, 32).codes)


def test_an_input_that_was_never_seen_is_rounded_all_the_same() -> None:
    x = correlated(500, 64)
    x[:, 5] = 0
    weight = torch.randn(8, 64)
    rounded = gptq(weight, seen(x), 4, 32)
    wide = rounded.scales.float().repeat_interleave(32, 1)
    assert ((rounded.weight() - weight)[:, 5].abs() <= wide[:, 5] / 2 + 1e-6).float().mean() > 0.8


def test_a_hessian_of_one_direction_is_damped() -> None:
    x = torch.ones(50, 64) * torch.linspace(1, 2, 64)
    weight = torch.randn(8, 64)
    rounded = gptq(weight, seen(x), 4, 32)
    assert rounded.weight().isfinite().all() and cost(x, weight, rounded) < cost(x, weight, nearest(weight, 4, 32))
    with pytest.raises(CheckpointError, match="not numbers"):
        gptq(weight, torch.full((64, 64), torch.nan), 4, 32)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_nearest_code_is_the_nearest(bits: int) -> None:
    weight = torch.randn(16, 96) * torch.logspace(-3, 2, 16)[:, None]
    rounded = nearest(weight, bits, 32)
    scales = rounded.scales.double().repeat_interleave(32, 1)
    codes = torch.arange(2**bits).double() - 2 ** (bits - 1)
    least = (codes * scales[..., None] - weight[..., None].double()).abs().amin(-1)
    found = (rounded.weight().double() - weight.double()).abs()
    assert (found <= least + 1e-5 * scales).all()  # halfway, float32 may take the other one
    assert rounded.scales.dtype == torch.float16 and rounded.codes.max().item() < 2**bits


def test_the_search_for_scales_beats_the_largest_magnitude() -> None:
    weight = torch.randn(64, 512)
    rounded = nearest(weight, 4, 128)
    scales = (weight.view(64, 4, 128).abs().amax(-1) / 7).half().float().repeat_interleave(128, 1)
    simple = (weight / scales).round().clamp(-8, 7) * scales
    assert (rounded.weight() - weight).square().mean() < 0.9 * (simple - weight).square().mean()
    eight = nearest(weight, 8, 128).weight() - weight
    assert eight.abs().max() <= scales.max() * 7 / 127 / 2 * 1.001


def test_zeros_and_extremes() -> None:
    weight = torch.zeros(8, 64)
    weight[3, 40] = 5.0
    for rounded in (nearest(weight, 4, 32), gptq(weight, torch.eye(64), 4, 32)):
        assert torch.allclose(rounded.weight(), weight, rtol=1e-3) and rounded.codes[0].eq(8).all()
    tiny = nearest(torch.full((8, 32), 1e-9), 4, 32)
    assert tiny.weight().eq(0).all()
    with pytest.raises(CheckpointError, match="too large"):
        nearest(torch.full((8, 32), 1e6), 4, 32)
