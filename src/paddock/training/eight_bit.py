"""AdamW whose two moments are kept in 8 bits each (arXiv 2110.02861): a quarter of their memory.

In blocks of 256 numbers, each the nearest of 256 levels times the block's largest magnitude (`kernels.levels`). A step
computes in float32 and rounds what it keeps, so no error is carried but that of rounding, at most 0.71 % of the block's
largest number. A square above zero never rounds to zero, unlike in bitsandbytes: its weight would move by average / eps
where a gradient is absent for once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from paddock.kernels.levels import dynamic_levels, in_blocks, nonzero

BLOCK = 256
SMALL = 4096  # parameters with fewer numbers keep float32 moments, which cost next to nothing
AT_ONCE = 2**20  # numbers that are float32 at a time
MOMENTS = ("average", "square")


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (arXiv 1711.05101) with moments as `<moment>` uint8 (n,) and `<moment>_scale` float32 (blocks,)."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        levels = [dynamic_levels(), dynamic_levels(signed=False)]
        self._levels = dict(zip(MOMENTS, levels, strict=True))
        self._edges = {name: (each[1:] + each[:-1]) / 2 for name, each in self._levels.items()}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """PyTorch casts what it loads to the parameter's type; a code is a whole number there too."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            if "average_scale" in state:
                for name in MOMENTS:
                    state[name] = state[name].to(torch.uint8)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            self._begin(weight, state)
        state["step"] += 1
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        numbers, slopes = weight.view(-1), gradient.reshape(-1)
        for first in range(0, len(numbers), AT_ONCE):
            part = slice(first, min(first + AT_ONCE, len(numbers)))
            average, square = (self._read(state, name, part) for name in MOMENTS)
            average.lerp_(slopes[part], 1 - group["betas"][0])
            square.mul_(group["betas"][1]).addcmul_(slopes[part], slopes[part], value=1 - group["betas"][1])
            _move(numbers[part], average, square, float(state["step"]), group)
            for name, values in zip(MOMENTS, (average, square), strict=True):
                self._write(state, name, part, values)

    def _begin(self, weight: Tensor, state: dict[str, Any]) -> None:
        # A tensor, as PyTorch's own optimizers have it; float32, as `load_state_dict` leaves a "step" alone.
        state["step"] = torch.zeros((), dtype=torch.float32)
        count, wide = weight.numel(), weight.numel() < SMALL
        for name in MOMENTS:
            zero = 0 if wide else int((self._levels[name] == 0).nonzero())
            dtype = torch.float32 if wide else torch.uint8
            state[name] = torch.full((count,), zero, dtype=dtype, device=weight.device)
            if not wide:
                state[f"{name}_scale"] = torch.zeros(-(-count // BLOCK), device=weight.device)

    def _read(self, state: dict[str, Any], name: str, part: slice) -> Tensor:
        codes = state[name][part]
        if codes.dtype != torch.uint8:
            return codes
        values = self._levels[name].to(codes.device)[codes.int()]
        return values.mul_(_scales(state, name, part).repeat_interleave(BLOCK)[: len(values)])

    def _write(self, state: dict[str, Any], name: str, part: slice, values: Tensor) -> None:
        kept = state[name][part]
        if kept.dtype != torch.uint8:
            return  # the numbers themselves, which have been changed already
        blocks = in_blocks(values, BLOCK)
        scales = _scales(state, name, part).copy_(blocks.abs().amax(1))
        shares = (blocks / nonzero(scales)[:, None]).view(-1)[: len(values)]
        codes = torch.bucketize(shares, self._edges[name].to(shares.device), out_int32=True)
        if name == "square":
            codes = torch.where(values > 0, codes.clamp_(min=1), codes)
        kept.copy_(codes)


def _scales(state: dict[str, Any], name: str, part: slice) -> Tensor:
    return state[f"{name}_scale"][part.start // BLOCK : -(-part.stop // BLOCK)]


def _move(weight: Tensor, average: Tensor, square: Tensor, done: float, group: dict[str, Any]) -> None:
    first, second = group["betas"]
    below = square.sqrt().div_(math.sqrt(1 - second**done)).add_(group["eps"])
    weight.addcdiv_(average, below, value=-group["lr"] / (1 - first**done))
