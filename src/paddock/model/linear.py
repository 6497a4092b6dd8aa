"""The modules that hold matrices: they run through `kernels`, whatever form their matrix has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from paddock import kernels
from paddock.kernels import Part
from paddock.kernels.packed import Packed

# What the matrices of a block are called, in every family.
ATTENTION_ROLES, FEEDFORWARD_ROLES = ("q", "k", "v", "out"), ("gate", "up", "down")


class Linear(nn.Linear):
    """x W^T + b: (..., in) to (..., out). The weight is a parameter, or `Packed` once `hold` has put it there."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.linear(x, self.weight, self.bias)

    def part(self) -> Part | None:
        """What it computes, as one of several linears; None where that is not all."""
        plain = type(self) is Linear and not (self._forward_hooks or self._forward_pre_hooks)
        return Part(self.weight, self.bias) if plain else None


def together(x: Tensor, modules: Sequence[nn.Module]) -> Sequence[Tensor]:
    """What each of several linears makes of x: in training together, where linears and low ranks are all there is."""
    parts = [part_of(module) for module in modules]
    known = [part for part in parts if part is not None]
    if len(known) == len(modules):
        if kernels.adapts(x, known):
            return kernels.adapted(x, known)
        if all(part.a is None for part in known):
            return kernels.linears(x, [part.weight for part in known], [part.bias for part in known])
    return [module(x) for module in modules]


def part_of(module: Any) -> Part | None:
    """None for what splits a matrix over processes, for what is heard by a hook, and the like."""
    return module.part() if hasattr(module, "part") else None


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
