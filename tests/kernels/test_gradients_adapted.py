"""Linears that stay, with low ranks beside them: what they equal, what they keep, and that threads change no bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paddock import kernels
from paddock.kernels import Part, gradients_adapted, gradients_packed, native
from paddock.kernels.nf4 import Nf4
from paddock.kernels.packed import Packed

pytestmark = pytest.mark.skipif(native.library() is None, reason="no native kernels in this build, or not asked for")
WIDTH, ROWS = 48, 20


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parts_of(
    dtype: torch.dtype, low: torch.dtype | None = None, dropout: float = 0.0, shared: bool = False
) -> list[Part]:
    """Three linears: two adapted, one with a bias that learns; the last nothing but a matrix."""
    low = low or dtype
    a = [random(4, WIDTH, seed=seed, dtype=low).mul_(0.2).requires_grad_() for seed in (1, 2)]
    b = [random(out, 4, seed=seed, dtype=low).mul_(0.2).requires_grad_() for out, seed in ((32, 3), (16, 4))]
    weights = [random(out, WIDTH, seed=seed, dtype=dtype) / 7 for out, seed in ((32, 5), (16, 6), (8, 7))]
    bias = random(16, seed=8, dtype=low).requires_grad_()
    return [
        Part(weights[0], None, a[0], b[0], 2.0, dropout),
        Part(weights[1], bias, a[0 if shared else 1], b[1], 0.5, dropout),
        Part(weights[2]),
    ]


def learned(parts: Sequence[Part]) -> list[Tensor]:
    every = [each for part in parts for each in (part.a, part.b, part.bias) if each is not None]
    return list({id(each): each for each in every}.values())


def plainly(x: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    found = []
    for part in parts:
        assert isinstance(part.weight, Tensor)
        y = F.linear(x, part.weight, part.bias)
        if part.a is not None and part.b is not None:
            y = y + F.linear(F.linear(x, part.a) * part.scale, part.b)
        found.append(y)
    return found


def results(run: object, x: Tensor, parts: Sequence[Part], autocast: bool = False) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ys = run(x, parts)  # type: ignore[operator]
    total = torch.stack([(y.double() * random(*y.shape, seed=90 + i)).sum() for i, y in enumerate(ys)]).sum()
    return [*(y.detach() for y in ys), *torch.autograd.grad(total, [x, *learned(parts)])]


def _widened(part: Part) -> Part:
    assert isinstance(part.weight, Tensor)
    own = [None if each is None else each.detach().double().requires_grad_() for each in (part.bias, part.a, part.b)]
    return Part(part.weight.double(), *own, part.scale)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_linears_and_a_sum(dtype: torch.dtype, shared: bool) -> None:
    x = random(2, ROWS, WIDTH, seed=0, dtype=dtype).requires_grad_()
    parts = parts_of(dtype, shared=shared)
    assert kernels.adapts(x, parts)
    close = 1e-6 if dtype == torch.float32 else 1e-14
    for found, expected in zip(results(kernels.adapted, x, parts), results(plainly, x, parts), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=close * float(expected.abs().max()))


def test_under_autocast_it_is_as_near_to_float64_as_plain_bfloat16() -> None:
    x = random(2, ROWS, WIDTH, seed=0, dtype=torch.float32).requires_grad_()
    parts = parts_of(torch.bfloat16, torch.float32)
    wide = [_widened(part) for part in parts]
    exact = results(plainly, x.detach().double().requires_grad_(), wide)
    mine, plain = (results(run, x, parts, autocast=True) for run in (kernels.adapted, plainly))
    for found, other, expected in zip(mine, plain, exact, strict=True):
        assert found.dtype == other.dtype
        errors = [float((each.double() - expected).norm() / expected.norm()) for each in (found, other)]
        assert errors[0] < max(1.5 * errors[1], 0.004)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_differences(dropout: float) -> None:
    x = random(5, WIDTH, seed=0).requires_grad_()
    parts = parts_of(torch.float64, dropout=dropout)

    def run(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(7)
        a0, b0, a1, b1, bias = given
        own = [Part(parts[0].weight, None, a0, b0, 2.0, dropout), Part(parts[1].weight, bias, a1, b1, 0.5, dropout)]
        return gradients_adapted.adapted(x, [*own, parts[2]])

    given = [parts[0].a, parts[0].b, parts[1].a, parts[1].b, parts[1].bias]
    assert torch.autograd.gradcheck(run, (x, *given))


def test_dropout_leaves_the_same_to_those_that_share_an_a() -> None:
    x = torch.ones(400, WIDTH, dtype=torch.float64, requires_grad=True)
    a, b = torch.ones(1, WIDTH, dtype=torch.float64).requires_grad_(), torch.ones(1, 1, dtype=torch.float64)
    zero = torch.zeros(1, WIDTH, dtype=torch.float64)
    torch.manual_seed(1)
    one, other = gradients_adapted.adapted(x, [Part(zero, None, a, b, 1.0, 0.25), Part(zero, None, a, b, 1.0, 0.25)])
    assert torch.equal(one, other)
    seen = one.detach()
    assert float(seen.mean()) == pytest.approx(WIDTH, rel=0.02) and float(seen.std()) > 1
    one.sum().backward()
    assert a.grad is not None and x.grad is not None
    total = float(seen.sum())
    assert float(a.grad.sum()) == pytest.approx(total) and float(x.grad.sum()) == pytest.approx(total)


def saved_by(run: object) -> Iterator[int]:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()  # type: ignore[operator]
    return iter(kept.values())


def test_only_x_and_low_ranks_are_kept_for_the_gradient() -> None:
    x = random(512, WIDTH, seed=0, dtype=torch.float32).requires_grad_()
    parts = parts_of(torch.float32)
    small = sum(each.nbytes for each in learned(parts)) + 512 * 8 * 4
    assert sum(saved_by(lambda: kernels.adapted(x, parts))) <= x.nbytes + small
    frozen = [Part(part.weight) for part in parts]
    assert sum(saved_by(lambda: kernels.adapted(x, frozen))) == 0


def test_matrices_that_learn_are_left_to_others() -> None:
    x, parts = random(4, WIDTH, seed=0, dtype=torch.float32), parts_of(torch.float32)
    assert kernels.adapts(x, parts)
    assert isinstance(parts[0].weight, Tensor)
    parts[0].weight.requires_grad_()
    assert not kernels.adapts(x, parts)
    with torch.no_grad():
        assert not kernels.adapts(x, parts_of(torch.float32))


def test_threads_change_no_bit() -> None:
    x = random(130, 256, seed=0, dtype=torch.float32).requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            part = Part(
                random(192, 256, seed=1, dtype=torch.bfloat16),
                None,
                random(8, 256, seed=2, dtype=torch.float32).requires_grad_(),
                random(192, 8, seed=3, dtype=torch.float32).requires_grad_(),
            )
            found.append(results(kernels.adapted, x, [part], autocast=True))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("kind", ["nf4", "packed"])
def test_over_packed_matrices_the_gradient_is_that_of_their_numbers(kind: str) -> None:
    numbers = random(32, 128, seed=1, dtype=torch.float32)
    held = Nf4.rounded(numbers) if kind == "nf4" else Packed.plain(numbers.bfloat16())
    plain = held.dequantise()
    x = random(9, 128, seed=2, dtype=torch.float32).requires_grad_()
    bias = random(32, seed=3, dtype=torch.float32).requires_grad_()
    low = [random(4, 128, seed=4, dtype=torch.float32), random(32, 4, seed=5, dtype=torch.float32)]
    for run in (
        lambda w: kernels.linear(x, w, bias),
        lambda w: kernels.adapted(x, [Part(w, bias, *(each.clone().requires_grad_() for each in low))])[0],
    ):
        mine, theirs = (torch.autograd.grad((run(w) ** 2).sum(), [x, bias]) for w in (held, plain))
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert sum(saved_by(lambda: gradients_packed.linear(x, held, bias))) == 0


@pytest.mark.parametrize("shape", [(3, 192), (7, 50), (1, 33)])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_makes_the_numbers_that_the_table_says(
    shape: tuple[int, int], double: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Nf4.rounded(random(*shape, seed=1, dtype=torch.float32) * 0.02, double)
    by_table = held._looked_up().to(dtype)
    module = native.library()
    assert module is not None
    for variant in module.variants():
        monkeypatch.setenv("PADDOCK_KERNELS", variant)
        assert torch.equal(held.dense(dtype), by_table), variant
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    assert torch.equal(held.dense(dtype), by_table)


def test_a_norm_that_stays_computes_what_one_that_learns_does() -> None:
    weight = random(WIDTH, seed=1, dtype=torch.bfloat16)
    x = random(40, WIDTH, seed=2, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        frozen = kernels.rms_norm(x, weight, 1e-5, narrow=True)
    wide = x.detach().double().requires_grad_()
    exact = kernels.rms_norm(wide, weight.double(), 1e-5)
    grad = random(40, WIDTH, seed=3)
    mine = torch.autograd.grad((frozen.double() * grad).sum(), x)[0]
    theirs = torch.autograd.grad((exact * grad).sum(), wide)[0]
    assert frozen.dtype == torch.bfloat16 and frozen.grad_fn is not None and "Norm" in type(frozen.grad_fn).__name__
    assert float((frozen.detach() - exact.detach()).norm() / exact.detach().norm()) < 0.004
    assert float((mine - theirs).norm() / theirs.norm()) < 0.006
