"""LoRA from outside, by role: low-rank matrices beside those of a model that stays as it is (arXiv 2106.09685).

An adapted model is a second Transformer whose modules hold the first one's very parameters, so it costs the adapter's
own size. It runs, and is recorded for the native kernels, like any other: the adapter is two more linears and a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paddock import kernels
from paddock.errors import UsageError
from paddock.kernels import Part
from paddock.kernels.packed import Packed
from paddock.model.linear import Linear, part_of, weights_of
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one matrix W (out, in): scale * b a, with a (rank, in) and b (out, rank).

    Matrices that a family publishes as one share one `a`, the very same tensor. magnitude: (out,), DoRA's (arXiv
    2402.09353): rows of the sum are scaled to have these lengths.
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None


class Adapted(nn.Module):
    """x W^T + bias + (scale * x A^T) B^T: (..., in) to (..., out). Scaled where the numbers are fewest.

    With a magnitude m, rows of W + scale B A are scaled to those lengths, whose gradient takes the present lengths for
    constants as the paper does. `dropout` of what A sees, in training only.
    """

    def __init__(self, base: nn.Module, delta: LowRank, dropout: float = 0.0, seen: Seen | None = None) -> None:
        super().__init__()
        self.base, self.scale, self.dropout = base, delta.scale, dropout
        self.a, self.b = _parameter(delta.a), _parameter(delta.b)
        self.magnitude = None if delta.magnitude is None else _parameter(delta.magnitude)
        self.seen = Seen(1) if seen is None else seen
        self._lengths: tuple[Any, Tensor] | None = None

    def part(self) -> Part | None:
        """What it computes, as one of several linears that share x; None where that is not all."""
        base = part_of(self.base)
        if base is None or base.a is not None or self.magnitude is not None or self._forward_hooks:
            return None
        rate = self.dropout if self._dropping else 0.0
        return Part(base.weight, base.bias, self.a, self.b, self.scale, rate)

    @property
    def _dropping(self) -> bool:
        """No gradients, no dropout: a sample drawn while a model trains is drawn from what it is."""
        return self.dropout > 0 and self.training and torch.is_grad_enabled()

    def forward(self, x: Tensor) -> Tensor:
        part = self.part()
        if part is not None and (self.seen.sharers < 2 or not part.dropout) and kernels.adapts(x, [part]):
            return kernels.adapted(x, [part])[0]
        dropping = self._dropping
        inner = self.seen.dropped(x, self.dropout) if dropping else x
        if isinstance(inner, Tensor) and inner.dtype != self.a.dtype and not torch.is_autocast_enabled(x.device.type):
            inner = inner.to(self.a.dtype)
        low = kernels.linear(inner, self.a, None) * self.scale
        if self.magnitude is not None:
            return self._scaled(x, inner, low, dropping)
        y, more = self.base(x), kernels.linear(low, self.b, None)
        return y + (more.to(y.dtype) if isinstance(more, Tensor) else more)

    def _scaled(self, x: Tensor, inner: Tensor, low: Tensor, dropping: bool) -> Tensor:
        assert isinstance(self.base, Linear) and self.magnitude is not None
        weight, bias = self.base.weight, self.base.bias
        factor = self.magnitude / self.lengths()
        if not isinstance(x, Tensor):  # recorded, where there is no product with a vector but one of rows
            rows = kernels.linear(low, torch.zeros_like(self.b), factor)
            folded = (self.b * factor[:, None]).contiguous()
            return kernels.linear(x, weight, None) * rows + kernels.linear(low, folded, bias)
        more = kernels.linear(low, self.b, None)
        if dropping:
            y = self.base(x)
            return y + ((factor - 1) * kernels.linear(inner, weight, None) + factor * more).to(y.dtype)
        y = kernels.linear(x, weight, None)
        result = ((y + more) * factor).to(y.dtype)
        return result if bias is None else result + bias.to(y.dtype)

    def lengths(self) -> Tensor:
        """(out,): of the rows of W + scale B A. Kept while nothing trains them, and nobody writes to B or A."""
        if torch.is_grad_enabled() and self.b.requires_grad:
            self._lengths = None  # fused optimizers write without counting it
            return self._measured()
        key = [(part.data_ptr(), part._version) for part in (self.a, self.b)]
        if self._lengths is None or self._lengths[0] != key:
            self._lengths = (key, self._measured())
        return self._lengths[1]

    @torch.no_grad()
    def _measured(self) -> Tensor:
        weight: Any = self.base.weight
        plain = weight.dequantise() if isinstance(weight, Packed) else weight
        return torch.linalg.vector_norm(self._sum(plain, self.a.dtype), dim=1)

    def merged(self) -> Tensor:
        """(out, in): the one matrix that does the same, in float64. Raises UsageError for a packed base."""
        weight: Any = self.base.weight
        if isinstance(weight, Packed):
            raise UsageError(
                "this base is quantised: with an adapter's numbers in it, it would have to be rounded again",
                fix='load the base with dtype="float32" or "bfloat16", and merge into that',
            )
        whole = self._sum(weight, torch.float64)
        if self.magnitude is None:
            return whole
        return whole * (self.magnitude.detach().double() / torch.linalg.vector_norm(whole, dim=1))[:, None]

    def _sum(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """W + scale B A, its rows not yet scaled to a magnitude."""
        base, a, b = (part.detach().to(dtype) for part in (weight, self.a, self.b))
        return torch.addmm(base, b, a, alpha=self.scale)


class Seen:
    """What of an input dropout leaves: the same for all `sharers`, the matrices that are published as one."""

    def __init__(self, sharers: int) -> None:
        self.sharers, self._left = sharers, 0
        self._x: Tensor | None = None
        self._result: Tensor | None = None

    def dropped(self, x: Tensor, rate: float, plain: Tensor | None = None) -> Tensor:
        """plain: x as it is dropped from, where x is not itself (it lies on several processes)."""
        if self._x is not x or self._result is None:
            self._x, self._left = x, self.sharers
            self._result = nn.functional.dropout(x if plain is None else plain, rate)
        result, self._left = self._result, self._left - 1
        if self._left <= 0:
            self._x = self._result = None
        return result


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


def adaptable(model: Transformer) -> dict[str, tuple[int, int]]:
    """Paths of the matrices that an adapter may be put on, with their (out, in). An adapted one has its plain path."""
    found = dict(adapted(model))
    return {
        plain: (module.out_features, module.in_features)
        for path, module in model.named_modules()
        if isinstance(module, Linear)
        for plain in [path.removesuffix(".base") if path.removesuffix(".base") in found else path]
    }


def adapt(
    model: Transformer,
    deltas: Mapping[str, LowRank],
    *,
    dtype: torch.dtype | None = None,
    dropout: float = 0.0,
) -> Transformer:
    """A Transformer like `model` with `deltas`, by the paths of their matrices; everything else is shared with it.

    dtype: of the adapter's numbers, by default what the model computes in.
    """
    like = model.embedding.tokens.weight
    made: dict[int, nn.Parameter] = {}
    seen: dict[int, Seen] = {}

    def own(tensor: Tensor) -> nn.Parameter:
        """One parameter for one tensor, however many matrices share it."""
        if id(tensor) not in made:
            made[id(tensor)] = _parameter(tensor.to(device=like.device, dtype=dtype or like.dtype).contiguous())
        return made[id(tensor)]

    twin = twin_of(model)
    for path, delta in deltas.items():
        parent_path, _, leaf = path.rpartition(".")
        parent = twin.get_submodule(parent_path)
        held = LowRank(
            own(delta.a), own(delta.b), delta.scale, None if delta.magnitude is None else own(delta.magnitude)
        )
        sharers = seen.setdefault(id(delta.a), Seen(0))
        sharers.sharers += 1
        parent._modules[leaf] = Adapted(parent.get_submodule(leaf), held, dropout, sharers)
    return twin


def merged(model: Transformer) -> Transformer:
    """A plain Transformer that computes what an adapted one does; what is not adapted is shared with it.

    Sums are made in float64, and rounded to the base's type once. Raises UsageError for a packed base.
    """
    twin: Transformer = twin_of(model)
    for path, module in list(adapted(model)):
        parent_path, _, leaf = path.rpartition(".")
        base = module.base
        assert isinstance(base, Linear)
        plain: Linear = twin_of(base)
        plain._parameters["weight"] = _parameter(module.merged().to(base.weight.dtype).contiguous())
        twin.get_submodule(parent_path)._modules[leaf] = plain
    return twin


def summed(parts: Sequence[tuple[float, Mapping[str, LowRank]]]) -> dict[str, LowRank]:
    """Adapters as one, each times its weight: their ranks side by side, which is the sum of what they add, exactly.

    Raises UsageError where one of several has magnitudes, which do not add.
    """
    if len(parts) == 1 and parts[0][0] == 1:
        return dict(parts[0][1])
    if any(delta.magnitude is not None for _, deltas in parts for delta in deltas.values()):
        raise UsageError("an adapter with magnitudes (DoRA) cannot be weighed or added to others", fix="merge it alone")
    made: dict[tuple[int, ...], Tensor] = {}
    found: dict[str, LowRank] = {}
    for path in dict.fromkeys(path for _, deltas in parts for path in deltas):
        held = [(weight, deltas[path]) for weight, deltas in parts if path in deltas]
        key = tuple(id(delta.a) for _, delta in held)
        if key not in made:  # matrices that are published as one go on sharing it
            made[key] = torch.cat([delta.a for _, delta in held])
        b = torch.cat([delta.b * (weight * delta.scale) for weight, delta in held], dim=1)
        found[path] = LowRank(made[key], b, 1.0)
    return found


def adapted(model: Transformer) -> Iterator[tuple[str, Adapted]]:
    """The adapted matrices by their paths in the plain model."""
    return ((path, module) for path, module in model.named_modules() if isinstance(module, Adapted))


def plain_weights(model: Transformer) -> dict[str, Tensor | Packed]:
    """`weights_of` the model below an adapter, by the names they have there."""
    on = dict(adapted(model))
    found: dict[str, Tensor | Packed] = {}
    for name, weight in weights_of(model).items():
        path, _, leaf = name.rpartition(".")
        if path not in on:  # else it is the adapter's own
            home = path.removesuffix(".base")
            found[f"{home if home in on else path}.{leaf}"] = weight
    return found


def is_adapted(model: Transformer) -> bool:
    """Whether parts of it are an adapter's."""
    return any(True for _ in adapted(model))
