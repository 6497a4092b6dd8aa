"""The modules that hold matrices: they run through `kernels`, whatever form their matrix has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from paddock import kernels
from paddock.kernels.packed import Packed


class Linear(nn.Linear):
    """x W^T + b: (..., in) to (..., out). The weight is a parameter, or `Packed` once `hold` has put it there."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.linear(x, self.weight, self.bias)


def together(x: Tensor, modules: Sequence[nn.Module]) -> Sequence[Tensor]:
    """What each of several linears makes of x: in training as one product, where they are nothing but linears."""
    plain = [each for each in modules if type(each) is Linear and not (each._forward_hooks or each._forward_pre_hooks)]
    if len(plain) < len(modules):  # an adapter, or what splits a matrix over processes
        return [module(x) for module in modules]
    return kernels.linears(x, [each.weight for each in plain], [each.bias for each in plain])


class Table(nn.Embedding):
    """Rows looked up by number: (...) to (..., width)."""

    def forward(self, ids: Tensor) -> Tensor:
        return kernels.embed(ids, self.weight)


def hold(module: nn.Module, name: str, matrix: Packed) -> None:
    """Puts a packed matrix where `module` has the parameter `name`, which is one no longer."""
    delattr(module, name)
    setattr(module, name, matrix)


def weights_of(model: nn.Module) -> dict[str, Tensor | Packed]:
    """Every parameter by its name, packed ones too, in the order of `named_parameters`; shared ones once."""
    found: dict[str, Tensor | Packed] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        packed = {name: value for name, value in vars(module).items() if isinstance(value, Packed)}
        for name, value in {**packed, **own}.items():
            if id(value) not in seen:
                seen.add(id(value))
                found[f"{path}.{name}" if path else name] = value
    return found
