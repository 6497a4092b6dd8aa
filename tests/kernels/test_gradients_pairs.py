"""Linears that stay, in pairs of bfloat16: near to float64 whatever the shapes, and threads change no bit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from paddock import kernels
from paddock.kernels import Part, gradients_adapted, gradients_pairs, native
from paddock.kernels.nf4 import Nf4

pytestmark = pytest.mark.skipif(not gradients_pairs.fits(64, 16, [16]), reason="no products of bfloat16 pairs here")


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def linears(width: int, outs: Sequence[int], ranks: Sequence[int], biased: bool = False) -> list[Part]:
    """A rank of 0: nothing beside the matrix; of -1: the A of the part before."""
    found: list[Part] = []
    for number, (out, rank) in enumerate(zip(outs, ranks, strict=True)):
        seed = 10 * number
        weight = random(out, width, seed=seed + 1, dtype=torch.bfloat16) / width**0.5
        bias = random(out, seed=seed + 2, dtype=torch.bfloat16).requires_grad_() if biased else None
        if not rank:
            found.append(Part(weight, bias))
            continue
        a = found[-1].a if rank < 0 else (random(rank, width, seed=seed + 3) / width**0.5).requires_grad_()
        assert a is not None
        found.append(Part(weight, bias, a, random(out, len(a), seed=seed + 4).requires_grad_(), 1.7))
    return found


def learned(parts: Sequence[Part]) -> list[Tensor]:
    every = [each for part in parts for each in (part.a, part.b, part.bias) if each is not None]
    return list({id(each): each for each in every}.values())


def exactly(x: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    """In float64, of the numbers that the products read."""

    def wide(tensor: Tensor) -> Tensor:
        return tensor.bfloat16().double()

    found = []
    for part in parts:
        assert isinstance(part.weight, Tensor)
        y = wide(x) @ wide(part.weight).t()
        y = y if part.bias is None else y + wide(part.bias)
        if part.a is not None and part.b is not None:
            y = y + part.scale * (wide(x) @ wide(part.a).t()) @ wide(part.b).t()
        found.append(y)
    return found


def results(run: object, x: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        ys = run(x, parts)  # type: ignore[operator]
    grads = [random(*y.shape, seed=90 + i, dtype=torch.bfloat16).to(y.dtype) for i, y in enumerate(ys)]
    return [*(y.detach() for y in ys), *torch.autograd.grad(ys, [x, *learned(parts)], grads)]


SHAPES = {
    "one": (40, 48, [32], [8]),
    "a rank that fills no vector": (33, 64, [48, 16], [3, 5]),
    "ranks above a panel": (70, 96, [64], [100]),
    "three of one A": (64, 80, [32, 16, 16], [6, -1, -1]),
    "some without": (64, 80, [32, 16, 112], [0, 8, 0]),
    "more rows than go at once": (1100, 32, [48], [8]),
    "deeper than a panel, both ways": (36, 4176, [2080, 2064], [8, 4]),
}


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_it_is_what_float64_says(shape: str, biased: bool) -> None:
    rows, width, outs, ranks = SHAPES[shape]
    x = random(rows, width, seed=7, dtype=torch.bfloat16).requires_grad_()
    parts = linears(width, outs, ranks, biased)
    ys = gradients_adapted.adapted
    with torch.autocast("cpu", torch.bfloat16):
        assert "Pairs" in type(ys(x, parts)[0].grad_fn).__name__
    for found, expected in zip(results(ys, x, parts), results(exactly, x, parts), strict=True):
        assert found.isfinite().all()
        assert float((found.double() - expected.double()).norm() / expected.double().norm()) < 0.005


def test_gradients_of_results_that_lie_side_by_side() -> None:
    x = random(50, 64, seed=1, dtype=torch.bfloat16).requires_grad_()
    parts = linears(64, [32, 32], [4, 4])
    with torch.autocast("cpu", torch.bfloat16):
        ys = kernels.adapted(x, parts)
    beside = random(50, 64, seed=2, dtype=torch.bfloat16).split(32, 1)
    apart = torch.autograd.grad(ys, [x, *learned(parts)], [each.clone() for each in beside], retain_graph=True)
    assert all(
        torch.equal(a, b) for a, b in zip(torch.autograd.grad(ys, [x, *learned(parts)], beside), apart, strict=True)
    )


def test_threads_change_no_bit() -> None:
    module = native.library()
    assert module is not None
    before, found = module.threads(), []
    x = random(600, 160, seed=0, dtype=torch.bfloat16).requires_grad_()
    parts = linears(160, [96, 208], [8, 8], biased=True)
    try:
        for count in (1, 2, 3):
            module.set_threads(count)
            found.append(results(kernels.adapted, x, parts))
    finally:
        module.set_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_row_is_what_it_is_beside_any_others() -> None:
    x, parts = random(300, 96, seed=0, dtype=torch.bfloat16).requires_grad_(), linears(96, [64], [8])
    with torch.autocast("cpu", torch.bfloat16):
        whole, part = kernels.adapted(x, parts)[0], kernels.adapted(x[100:171], parts)[0]
    assert torch.equal(whole[100:171], part)


def test_levels_are_multiplied_as_the_numbers_they_stand_for() -> None:
    x, parts = random(40, 128, seed=0, dtype=torch.bfloat16).requires_grad_(), linears(128, [64], [8])
    assert isinstance(parts[0].weight, Tensor)
    held = Nf4.rounded(parts[0].weight)
    packed = [Part(held, None, parts[0].a, parts[0].b, parts[0].scale)]
    plain = [Part(held.dense(torch.bfloat16), None, parts[0].a, parts[0].b, parts[0].scale)]
    mine, theirs = results(kernels.adapted, x, packed), results(kernels.adapted, x, plain)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("change", ["rows", "width", "scales", "dropout", "low"])
def test_what_it_does_not_know_goes_the_plain_way(change: str) -> None:
    width = 40 if change == "width" else 48
    x = random(20 if change == "rows" else 40, width, seed=0, dtype=torch.bfloat16).requires_grad_()
    one, other = linears(width, [32, 16], [4, 4])
    if change == "scales":
        other = Part(other.weight, None, other.a, other.b, 3.0)
    if change == "dropout":
        other = Part(other.weight, None, other.a, other.b, other.scale, 0.5)
    if change == "low":
        assert other.a is not None and other.b is not None
        other = Part(other.weight, None, other.a.detach().bfloat16(), other.b.detach().bfloat16(), other.scale)
    with torch.autocast("cpu", torch.bfloat16):
        assert "Pairs" not in type(kernels.adapted(x, [one, other])[0].grad_fn).__name__


def test_there_are_no_second_derivatives() -> None:
    x, parts = random(40, 48, seed=0, dtype=torch.bfloat16).requires_grad_(), linears(48, [32], [4])
    with torch.autocast("cpu", torch.bfloat16):
        y = kernels.adapted(x, parts)[0]
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
