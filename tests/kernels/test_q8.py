"""Matrices held in 8 bits: what rounding costs, rows that are looked up, the loss over such a head in slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from paddock import kernels
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import dequantise
from paddock.checkpoint.encoding import encode
from paddock.kernels import gradients_products, native
from paddock.kernels.q8 import BITS, Q8

needs_native = pytest.mark.skipif(native.library() is None, reason="the native kernels are not here")


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    numbers[:, 3] *= 20  # one feature that stands out, as in trained tables
    return numbers


def held(numbers: Tensor, dtype: torch.dtype = torch.float32) -> Q8:
    found = Q8.rounded(numbers, dtype)
    assert found is not None
    return found


def test_a_weight_is_within_half_a_step_and_85_bits() -> None:
    numbers = matrix(70, 96)
    found = held(numbers)
    blocks = numbers.view(70, 3, 32)
    step = (blocks.abs().amax(-1, keepdim=True) / 127).half().float()
    off = (found.dequantise().view(70, 3, 32) - blocks).abs()
    # Half a step; a scale that float16 rounded down leaves the largest number a little further away.
    assert (off <= step * (0.5 + 127 * 2**-11)).all()
    assert off.max() > 0
    assert found.nbytes * 8 / found.numel() == BITS == 8.5
    assert found.shape == (70, 96) and found.dtype == torch.float32


def test_it_is_as_exact_as_ggmls_blocks_of_8_bits() -> None:
    numbers = matrix(64, 128)
    theirs = dequantise(TYPES[8], encode(TYPES[8], numbers)).view(64, 128)
    own, other = ((each - numbers).norm() for each in (held(numbers).dequantise(), theirs))
    assert own <= 1.01 * other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_those_of_the_numbers(dtype: torch.dtype) -> None:
    found = held(matrix(50, 64), dtype)
    ids = torch.tensor([[3, 49, 0], [7, 3, 3]])
    rows = kernels.embed(ids, found)  # type: ignore[arg-type]
    assert rows.dtype == dtype and torch.equal(rows, found.dense(dtype)[ids])
    assert torch.equal(found.dense(dtype, 10, 20), found.dense(dtype)[10:20])


@needs_native
def test_the_kernels_of_inference_get_the_same_numbers() -> None:
    found = held(matrix(48, 64))
    assert np.array_equal(found.native.unpack(), found.dequantise().numpy())


def test_what_does_not_fit_is_left_alone() -> None:
    assert Q8.rounded(torch.randn(8, 40), torch.float32) is None
    assert Q8.rounded(torch.full((2, 32), 1e9), torch.float32) is None  # float16 has no such scale
    assert Q8.rounded(torch.zeros(4, 0), torch.float32) is None
    zeros = held(torch.zeros(4, 32))
    assert torch.equal(zeros.dequantise(), torch.zeros(4, 32))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sliced", [False, True])
def test_the_loss_is_that_of_the_numbers(
    sliced: bool, dtype: torch.dtype, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in several chunks, the vocabulary in slices of 64 and a rest, beside PyTorch in float64."""
    if sliced:
        monkeypatch.setattr(gradients_products, "MADE_AT_ONCE", 2**12)
        monkeypatch.setattr(gradients_products, "LOGITS_AT_ONCE", 2**12)
    head = held(matrix(208, 64, 1) / 8)
    bias = torch.randn(208, generator=torch.Generator().manual_seed(2)).to(dtype) if biased else None
    x = matrix(100, 64, 3).to(dtype).requires_grad_()
    targets = torch.arange(100) * 7 % 208
    losses, sums = kernels.cross_entropy(x, head, bias, targets)
    (2 * losses.sum()).backward()
    wide = x.detach().double().requires_grad_()
    logits = wide @ head.dense(dtype).double().t() + (0 if bias is None else bias.double())
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (2 * expected.sum()).backward()
    assert x.grad is not None and wide.grad is not None
    near = {torch.float32: 2e-5, torch.bfloat16: 4e-2}[dtype]
    assert (losses - expected).abs().max() < near * max(1.0, logits.abs().max().item() / 4)
    assert (sums - logits.logsumexp(-1)).abs().max() < near * max(1.0, logits.abs().max().item() / 4)
    assert (x.grad - wide.grad).norm() < near / 4 * wide.grad.norm()


@needs_native
def test_losses_weighed_one_by_one_go_through_the_slices_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients_products, "MADE_AT_ONCE", 2**12)
    head, targets = held(matrix(208, 64, 1) / 8), torch.arange(30)
    weights = torch.linspace(0.1, 2, 30)
    found = []
    for matrix_ in (head, head.dequantise()):
        x = matrix(30, 64, 3).requires_grad_()
        losses, sums = kernels.cross_entropy(x, matrix_, None, targets)
        ((losses * weights).sum() + sums.square().sum()).backward()
        found.append(x.grad)
    assert found[0] is not None and found[1] is not None
    assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_without_a_gradient_and_on_the_reference_it_is_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    head, targets, x = held(matrix(96, 32)), torch.arange(10), matrix(10, 32, 4)
    expected = torch.nn.functional.cross_entropy(x @ head.dequantise().t(), targets, reduction="none")
    assert torch.allclose(kernels.cross_entropy(x, head, None, targets)[0], expected, atol=1e-4)
    assert torch.allclose(kernels.linear(x, head, None), x @ head.dequantise().t(), atol=1e-4)
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    x.requires_grad_()
    assert torch.allclose(kernels.cross_entropy(x, head, None, targets)[0], expected, atol=1e-4)
