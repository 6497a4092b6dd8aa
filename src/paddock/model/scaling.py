"""Vectors beside linears, from outside and by role: what (IA)^3 (arXiv 2205.05638) and LLaMA-Adapter V2 (arXiv
2304.15010) learn. All begin as they change nothing: scales as ones, shifts as zeros.

    y = scale_out * (W (scale_in * x) + bias + shift)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paddock.errors import UnsupportedError
from paddock.kernels.packed import Packed
from paddock.kernels.record import NotRecordable
from paddock.model.linear import Linear
from paddock.model.transformer import Norm, Transformer
from paddock.model.twin import twin_of

PARTS = ("scale_in", "scale_out", "shift")


@dataclass(frozen=True, eq=False)
class Scales:
    """What stands beside one linear: scale_in (in,), scale_out and shift (out,)."""

    scale_in: Tensor | None = None
    scale_out: Tensor | None = None
    shift: Tensor | None = None


class Scaled(nn.Module):
    """A linear with vectors beside it: (..., in) to (..., out)."""

    def __init__(self, base: nn.Module, given: Scales) -> None:
        super().__init__()
        self.base = base
        self.scale_in, self.scale_out, self.shift = (
            None if value is None else nn.Parameter(value, requires_grad=False)
            for value in (given.scale_in, given.scale_out, given.shift)
        )

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise NotRecordable("a product with a vector")
        y = self.base(x if self.scale_in is None else x * self.scale_in.to(x.dtype))
        if self.shift is not None:
            y = y + self.shift.to(y.dtype)
        return y if self.scale_out is None else y * self.scale_out.to(y.dtype)


def with_scales(model: Transformer, given: Mapping[str, Scales]) -> Transformer:
    """A Transformer like `model` with vectors beside the linears at these paths; everything else is shared with it."""
    twin = twin_of(model)
    for path, scales in given.items():
        parent, _, leaf = path.rpartition(".")
        holder = twin.get_submodule(parent)
        holder._modules[leaf] = Scaled(holder.get_submodule(leaf), scales)
    return twin


def scaled(model: Transformer) -> Iterator[tuple[str, Scaled]]:
    """The linears with vectors beside them, by their paths in the plain model."""
    return ((path, module) for path, module in model.named_modules() if isinstance(module, Scaled))


def without_scales(model: Transformer) -> Transformer:
    """The model below the vectors; everything is shared with it."""
    twin = twin_of(model)
    for path, module in list(scaled(twin)):
        parent, _, leaf = path.rpartition(".")
        twin.get_submodule(parent)._modules[leaf] = module.base
    return twin


def norms(model: Transformer) -> set[str]:
    """Names of the norms' parameters, an encoder's too."""
    held = ((path, module) for path, module in model.named_modules() if isinstance(module, Norm))
    return {f"{path}.{name}" for path, module in held for name, _ in module.named_parameters(recurse=False)}


def with_copies(model: Transformer, names: Iterable[str]) -> Transformer:
    """A Transformer like `model` whose parameters of these names are copies, so that training them leaves `model` as it
    is; everything else is shared with it. A norm of which some are has copies of all, in float32, as it is trained in:
    no kernel takes a weight and a bias of two types."""
    twin = twin_of(model)
    for name in names:
        path, _, leaf = name.rpartition(".")
        module = twin.get_submodule(path)
        for each in module._parameters if isinstance(module, Norm) else (leaf,):
            own = module._parameters[each]
            if own is not None:
                wide = torch.promote_types(own.dtype, torch.float32) if isinstance(module, Norm) else own.dtype
                module._parameters[each] = nn.Parameter(own.detach().to(wide, copy=True), requires_grad=False)
    return twin


@torch.no_grad()
def folded(model: Transformer) -> Transformer:
    """A plain Transformer that computes what `model` does, its vectors multiplied into the matrices beside them.

    A linear with a shift has a bias then, whether or not the architecture says so. Raises UnsupportedError for a matrix
    that is quantised.
    """
    twin = twin_of(model)
    for path, module in scaled(model):
        parent, _, leaf = path.rpartition(".")
        twin.get_submodule(parent)._modules[leaf] = _folded(path, module)
    return twin


def _folded(path: str, module: Scaled) -> Linear:
    base = module.base
    assert isinstance(base, Linear)
    if isinstance(base.weight, Packed):
        raise UnsupportedError(
            f"{path} is quantised: nothing can be multiplied into it", fix="merge into plain weights"
        )
    weight, bias = base.weight.detach().float(), None if base.bias is None else base.bias.detach().float()
    if module.scale_in is not None:
        weight = weight * module.scale_in.float()
    if module.shift is not None:
        bias = module.shift.float() if bias is None else bias + module.shift.float()
    if module.scale_out is not None:
        weight = weight * module.scale_out.float()[:, None]
        bias = None if bias is None else bias * module.scale_out.float()
    plain: Linear = twin_of(base)
    plain._parameters["weight"] = nn.Parameter(weight.to(base.weight.dtype), requires_grad=False)
    if bias is not None:
        plain._parameters["bias"] = nn.Parameter(bias.to(base.weight.dtype), requires_grad=False)
    return plain
