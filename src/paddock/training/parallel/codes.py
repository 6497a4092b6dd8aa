"""A base in NF4 that lies in shards: its codes are parameters that fsdp gathers with their block, as it does weights.

The token table and the head in 8 bits (`kernels.q8`) are no linears of a block: each process has them whole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from paddock.kernels import Part
from paddock.kernels.nf4 import Nf4, Scales
from paddock.model.linear import Linear


class CodesInShards(Linear):
    """A linear whose matrix is NF4, of which this process holds some of the codes and some of the scales.

    Between a block's gathering and its freeing `weight` is the whole matrix, as codes: bytes are sent, never numbers.
    """

    def __init__(self, plain: Linear) -> None:
        nn.Module.__init__(self)
        held: Any = plain.weight
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        self.matrix, self.block = held.shape, held.block
        self.codes = _kept(held.codes)
        self.levels: Tensor | None = None
        if isinstance(held.scales, Scales):
            self.scales, self.coarse = _kept(held.scales.codes), _kept(held.scales.coarse)
            self.levels, self.offset = held.scales.levels, held.scales.offset
        else:
            self.scales = _kept(held.scales)

    @property
    def weight(self) -> Any:  # type: ignore[override]
        scales: Any = self.scales
        if self.levels is not None:
            scales = Scales(scales, self.coarse, self.levels, self.offset)
        return Nf4(self.codes, scales, self.matrix, self.block)

    def part(self) -> Part | None:
        hooked = self._forward_hooks or self._forward_pre_hooks
        return None if hooked else Part(self.weight, self.bias)


def in_shards(model: nn.Module) -> None:
    """Makes parameters of every NF4 matrix of a model's linears, in place, to be cut like others."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if holds_nf4(child):
                module.add_module(name, CodesInShards(child))  # type: ignore[arg-type]


def holds_nf4(module: nn.Module) -> bool:
    return isinstance(module, Linear) and isinstance(vars(module).get("weight"), Nf4)


def _kept(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
