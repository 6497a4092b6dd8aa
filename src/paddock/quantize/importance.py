"""How loud each input of each matrix is on a text: the importance that quantisation weighs errors by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paddock.engine.language_model import LanguageModel
from paddock.kernels.threads import threads_for
from paddock.model.step import Step


class _Loudness:
    """Sums of squares per input column, in float64 so that a long text adds up."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.rows: dict[str, int] = {}

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def listen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].detach().flatten(0, -2).double()
            if len(x):
                found = x.square().sum(0).cpu()
                self.sums[name] = self.sums[name] + found if name in self.sums else found
                self.rows[name] = self.rows.get(name, 0) + len(x)

        return listen


@torch.no_grad()
def importance(
    model: LanguageModel, windows: Sequence[Sequence[int]], progress: Callable[[int, int], None] | None = None
) -> dict[str, Tensor]:
    """By module ("blocks.0.attention.q", "head"): the mean square of each input column over the text, (columns,).

    What llama.cpp calls an importance matrix. Experts that no token was sent to have none.
    """
    loudness = _Loudness()
    network = model.model
    listened: dict[str, nn.Module] = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)
    }
    if network.head is not None:
        listened["head"] = network.head
    hooks = [module.register_forward_pre_hook(loudness.hook(name)) for name, module in listened.items()]
    try:
        for done, window in enumerate(windows, 1):
            ids = torch.tensor([list(window)], device=model.device)
            with threads_for(network.weight_bytes):
                network(ids, Step.begin(network.architecture, ids))
            if progress is not None:
                progress(done, len(windows))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / loudness.rows[name]).float() for name, total in loudness.sums.items()}
