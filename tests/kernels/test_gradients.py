"""Operations of training on the native kernels: against finite differences in float64, and against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils.checkpoint import checkpoint

from paddock.kernels import gradients, gradients_products, native, operations, reference

WIDE = torch.float64
KINDS = sorted(gradients.KINDS)
Operation = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def _native(kernels: ModuleType) -> Iterator[None]:
    """Every test here runs once for each variant of this machine. PyTorch's part is too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, dtype: torch.dtype = WIDE) -> Tensor:
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def heads(batch: int, count: int, tokens: int, width: int, dtype: torch.dtype = WIDE) -> Tensor:
    """(batch, count, tokens, width) out of a wider product, as a model has them: strides everywhere."""
    whole = torch.randn(batch, tokens, count * width + 3, dtype=dtype)
    return whole[..., 1:-2].unflatten(-1, (count, width)).transpose(1, 2).requires_grad_()


def starts(batch: int, tokens: int) -> Tensor:
    """Where the document of each token begins; another place in every row."""
    new = torch.rand(batch, tokens) < 0.2
    return torch.where(new, torch.arange(tokens), 0).cummax(1).values


def agree(ours: Operation, theirs: Operation, inputs: Sequence[Tensor], bound: float) -> None:
    """Results and gradients, to `bound` of the largest number there, or of 1."""
    copies = [each.detach().clone().requires_grad_() for each in inputs]
    first, second = ours(*inputs), theirs(*copies)
    down = torch.randn_like(second)
    found = [first, *torch.autograd.grad(first, inputs, down)]
    expected = [second, *torch.autograd.grad(second, copies, down)]
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert (one - other).abs().max() <= bound * other.abs().max().clamp(min=1)


@pytest.mark.parametrize(("batch", "shared", "tokens", "width"), [(1, 1, 1, 1), (2, 2, 5, 3), (1, 3, 18, 17)])
def test_attention_against_differences(batch: int, shared: int, tokens: int, width: int) -> None:
    q, k, v = (heads(batch, count, tokens, width) for count in (2 * shared, 2, 2))
    for first in (None, starts(batch, tokens)):
        assert gradcheck(
            lambda *x, s=first: gradients.attend(x[0], x[1], x[2], True, 0.4, s), (q, k, v), fast_mode=tokens > 9
        )


def test_attention_without_a_triangle_against_differences() -> None:
    q, k, v = heads(2, 4, 3, 5), heads(2, 2, 7, 5), heads(2, 2, 7, 5)
    assert gradcheck(lambda *x: gradients.attend(x[0], x[1], x[2], False, 0.4, None), (q, k, v))


@pytest.mark.parametrize(
    ("tokens", "width", "kv_heads"), [(64, 64, 2), (131, 80, 1), (200, 24, 4), (1, 8, 4), (67, 33, 2)]
)
@pytest.mark.parametrize("packed", [False, True])
def test_attention_against_the_reference(tokens: int, width: int, kv_heads: int, packed: bool) -> None:
    first = starts(2, tokens) if packed else None
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
        given = [heads(2, count, tokens, width, dtype) for count in (4, kv_heads, kv_heads)]
        agree(
            lambda *x: operations.attend(x[0], x[1], x[2], None, True, 0.2, first),
            lambda *x: reference.attend(x[0], x[1], x[2], None, True, 0.2, first),
            given,
            bound,
        )


def test_documents_that_share_a_row_are_each_as_if_alone() -> None:
    lengths = [3, 70, 1, 90]
    first = torch.cat([torch.full((n,), sum(lengths[:i])) for i, n in enumerate(lengths)])[None]
    q, k, v = (heads(1, 2, sum(lengths), 16, torch.float32) for _ in range(3))
    together = gradients.attend(q, k, v, True, 0.3, first)
    pieces = zip(*(each.split(lengths, 2) for each in (q, k, v)), strict=True)
    alone = torch.cat([gradients.attend(piece[0], piece[1], piece[2], True, 0.3, None) for piece in pieces], 2)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [1, 19, 48])
def test_norms_against_differences(width: int) -> None:
    x, weight, bias = numbers(2, 3, width), numbers(width), numbers(width)
    assert gradcheck(lambda x, w: gradients.norm(x, w, None, 1e-5, True, False), (x, weight))
    assert gradcheck(lambda x, w, b: gradients.norm(x, w, b, 0.1, False, False), (x, weight, bias))
    assert gradcheck(lambda x, w: gradients.norm(x, w, None, 0.1, False, False), (x, weight))


@pytest.mark.parametrize(("rows", "width"), [(1, 7), (67, 130), (3, 512)])
def test_norms_against_the_reference(rows: int, width: int) -> None:
    given = [numbers(*shape, dtype=torch.float32) for shape in ((rows, width), (width,), (width,))]
    agree(lambda x, w: operations.rms_norm(x, w, 1e-6), lambda x, w: reference.rms_norm(x, w, 1e-6), given[:2], 2e-5)
    ours, theirs = operations.layer_norm, reference.layer_norm
    agree(lambda x, w, b: ours(x, w, b, 1e-5), lambda x, w, b: theirs(x, w, b, 1e-5), given, 2e-5)


def test_a_norm_that_only_matrices_read_is_narrow_under_autocast() -> None:
    x, weight = numbers(5, 40, dtype=torch.float32), numbers(40, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = operations.rms_norm(x, weight, 1e-6, narrow=True)
        assert operations.rms_norm(x, weight, 1e-6).dtype == torch.float32
    assert narrow.dtype == torch.bfloat16
    wide = operations.rms_norm(x, weight, 1e-6, narrow=True)
    assert wide.dtype == torch.float32
    down = torch.randn(5, 40).bfloat16()
    found = torch.autograd.grad(narrow, (x, weight), down)
    for one, other in zip(found, torch.autograd.grad(wide, (x, weight), down.float()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_against_differences(kind: str) -> None:
    x, up = numbers(3, 19), numbers(3, 19)
    assert gradcheck(lambda x, up: gradients.gate(kind, x, up), (x, up))
    assert gradcheck(lambda x: gradients.gate(kind, x, None), (x,))


@pytest.mark.parametrize("kind", KINDS)
def test_gates_against_the_reference(kind: str) -> None:
    act = reference.ACTIVATIONS[kind]
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        x, up = (torch.randn(2, 5, 300, dtype=dtype) * 3).requires_grad_().split([100, 200], -1)
        given = [x.detach().requires_grad_(), up[..., 7:107].detach().requires_grad_()]
        agree(lambda x, u: operations.gate(kind, x, u), lambda x, u: act(x) * u, given, bound)
        agree(lambda x: operations.activate(kind, x), act, given[:1], bound)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("angles", [1, 2])
def test_rotation(interleaved: bool, angles: int) -> None:
    cos, sin = torch.randn(2, angles, 1, 5, 3, dtype=WIDE)
    assert gradcheck(lambda x: gradients.rotate(x, cos, sin, interleaved), (heads(2, 3, 5, 9),))
    waves = (torch.randn(angles, 1, 5, 20), torch.randn(angles, 1, 5, 20))
    agree(
        lambda x: operations.rotate(x, *waves, interleaved),
        lambda x: reference.rotate(x, *waves, interleaved),
        [heads(2, 3, 5, 48, torch.float32)],
        1e-6,
    )


def test_linears_of_one_x() -> None:
    x, first, second = numbers(2, 3, 5), numbers(7, 5), numbers(2, 5)
    assert gradcheck(
        lambda *x: gradients_products.linears(x[0], x[1:3], x[3:]), (x, first, second, numbers(7), numbers(2))
    )
    assert gradcheck(lambda *x: gradients_products.linears(x[0], x[1:3], (None, None)), (x, first, second))
    frozen = gradients_products.linears(x, (first.detach(), second), (None, None))
    assert torch.autograd.grad(frozen[0].sum() + frozen[1].sum(), (x, second))[0].shape == x.shape


def test_linears_under_autocast_are_those_of_autocast() -> None:
    given = [numbers(*shape, dtype=torch.float32) for shape in ((2, 9, 32), (24, 32), (40, 32))]

    def ours(x: Tensor, *weights: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat(list(operations.linears(x, weights, (None, None))), -1).float()

    def theirs(x: Tensor, *weights: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat([reference.linear(x, weight, None) for weight in weights], -1).float()

    agree(ours, theirs, given, 2e-2)


@pytest.mark.parametrize("chunk", [1, 100, 2**24])
def test_cross_entropy_against_differences(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients_products, "LOGITS_AT_ONCE", chunk)
    x, weight, bias, targets = numbers(4, 5), numbers(19, 5), numbers(19), torch.tensor([0, 18, 3, 16])
    enter = gradients_products.cross_entropy
    assert gradcheck(lambda x, w, b: enter(x, w, b, targets), (x, weight, bias))
    assert gradcheck(lambda x, w: enter(x, w, None, targets)[0].sum(), (x, weight))
    assert gradcheck(lambda x, w, b: enter(x, w, b, targets)[0].sum(), (x, weight, bias))
    assert gradcheck(lambda x, w: enter(x, w, None, targets)[1].square().sum(), (x, weight))


@pytest.mark.parametrize("autocast", [False, True])
def test_cross_entropy_against_the_reference(autocast: bool) -> None:
    given = [numbers(*shape, dtype=torch.float32) for shape in ((37, 48), (301, 48))]
    targets = torch.randint(0, 301, (37,))

    def through(operation: Callable[..., tuple[Tensor, Tensor]]) -> Operation:
        def run(x: Tensor, weight: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return operation(x, weight, None, targets)[0].sum()

        return run

    agree(through(operations.cross_entropy), through(reference.cross_entropy), given, 2e-2 if autocast else 2e-5)


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    for target in (-100, 7):
        with pytest.raises(ValueError, match=f"target {target} of row 1; expected 0 to 6"):
            gradients_products.cross_entropy(numbers(2, 5), numbers(7, 5), None, torch.tensor([0, target]))


def test_shapes_that_do_not_fit_are_refused() -> None:
    q = numbers(1, 4, 6, 8)
    for k, v in ((numbers(1, 3, 6, 8), numbers(1, 3, 6, 8)), (numbers(1, 2, 6, 8), numbers(1, 2, 5, 8))):
        with pytest.raises(ValueError, match="heads that can share"):
            operations.attend(q, k, v, None, True, 1.0)
    with pytest.raises(ValueError, match="starts"):
        gradients.attend(q, q, q, True, 1.0, torch.zeros(2, 6, dtype=torch.long))
    for bad in (torch.full((1, 6), 3), torch.full((1, 6), -1)):
        with pytest.raises(ValueError, match="starts after its token"):
            gradients.attend(q, q, q, True, 1.0, bad)
    with pytest.raises(ValueError, match="do not fit x"):
        gradients.rotate(q, torch.ones(1, 1, 6, 5), torch.ones(1, 1, 6, 5), False)
    with pytest.raises(ValueError, match="weights of"):
        gradients.norm(q, numbers(9), None, 1e-5, True, False)
    with pytest.raises(ValueError, match="a gate of"):
        gradients.gate("silu", q, numbers(1, 4, 6, 7))
    with pytest.raises(ValueError, match="do not fit"):
        gradients_products.cross_entropy(numbers(2, 5), numbers(7, 4), None, torch.tensor([0, 1]))


def test_what_has_no_numbers_or_wants_no_gradient_is_the_references() -> None:
    assert not gradients.takes(torch.zeros(0, 4, requires_grad=True))
    assert not gradients.takes(torch.zeros(3)) and not gradients.takes(torch.zeros(3, requires_grad=True).half())
    empty = torch.zeros(2, 3, 0, 8, requires_grad=True)
    assert operations.attend(empty, empty, empty, None, True, 1.0).shape == empty.shape
    with torch.no_grad():
        assert not gradients.takes(torch.zeros(3, requires_grad=True))


def test_the_reference_does_it_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.KERNELS, native.REFERENCE)
    assert not gradients.takes(torch.zeros(3, requires_grad=True))


def whole_step(threads: int, module: ModuleType) -> list[Tensor]:
    before = module.threads()
    module.set_threads(threads)
    torch.manual_seed(1)
    x, weight = numbers(150, 64, dtype=torch.float32), numbers(64, dtype=torch.float32)
    q, k, v = (heads(2, 4, 75, 16, torch.float32) for _ in range(3))
    y = gradients.attend(q, k, v, True, 0.3, None).transpose(1, 2).reshape(150, 64)
    z = gradients.gate("silu", gradients.norm(x + y, weight, None, 1e-6, True, False), y)
    losses, _ = gradients_products.cross_entropy(z, numbers(99, 64, dtype=torch.float32), None, torch.arange(150) % 99)
    found = list(torch.autograd.grad(losses.sum(), (x, weight, q, k, v)))
    module.set_threads(before)
    return [losses.detach(), *found]


def test_neither_threads_nor_another_run_change_a_bit(kernels: ModuleType) -> None:
    once = whole_step(1, kernels)
    for threads in (1, 2, 3):
        assert all(torch.equal(a, b) for a, b in zip(once, whole_step(threads, kernels), strict=True))


def test_activations_may_be_computed_again() -> None:
    q, k, v = (heads(1, 2, 9, 8, torch.float32) for _ in range(3))

    def run(*x: Tensor) -> Tensor:
        return gradients.gate("gelu", gradients.attend(x[0], x[1], x[2], True, 0.3, None), None)

    plain = torch.autograd.grad(run(q, k, v).sum(), (q, k, v))
    again = torch.autograd.grad(checkpoint(run, q, k, v, use_reentrant=False).sum(), (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_second_derivatives_are_refused() -> None:
    x = numbers(3, 4)
    y = gradients.gate("silu", x, None).sum() + x.square().sum()
    with pytest.raises(RuntimeError, match="no second derivatives; PADDOCK_KERNELS=reference"):
        torch.autograd.grad(y, x, create_graph=True)
