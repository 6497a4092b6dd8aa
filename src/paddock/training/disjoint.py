"""Joint training of parameters that never meet: rows of one kind move one group, and no other (LLaMA-Adapter V2, arXiv
2304.15010: captions train what sees, instructions train what speaks)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.data.batch import Batch
from paddock.errors import UsageError
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training.losses import Loss, Sums


@dataclass(frozen=True)
class Disjoint:
    """A loss whose rows of each kind give gradients to the parameters of their own group only.

    kinds: a batch's rows to numbers of groups (rows,), counted from 0 in the order of `groups`. A parameter in no group
    learns of all rows. Where a step has no row of a kind, its group's gradients are None, not zero: so neither momentum
    nor decay moves them, and they stay bit for bit.
    """

    loss: Loss
    groups: Mapping[str, frozenset[str]]
    kinds: Callable[[Batch], Tensor]

    def __post_init__(self) -> None:
        """Raises UsageError for a parameter in two groups."""
        seen: set[str] = set()
        for name, group in self.groups.items():
            if both := seen & group:
                raise UsageError(f"group {name!r} shares {min(both)!r} with another", expected="disjoint groups")
            seen |= group

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        kinds, names = self.kinds(batch), list(self.groups)
        if not bool(((kinds >= 0) & (kinds < len(names))).all()):
            raise UsageError("a row is of no kind", expected=f"numbers from 0 to {len(names) - 1}")
        if step.recompute:
            raise UsageError("recompute runs blocks again when every group learns", fix="training.recompute=false")
        found: list[Sums] = []
        for number, name in enumerate(names):
            rows = (kinds == number).nonzero().flatten()
            if len(rows):
                with self._only(model, name):
                    piece = batch.take(rows)
                    own = piece.step(model.architecture, dropout=step.dropout, noise=step.noise)
                    found.append(self.loss(model, piece, own))
        parts = {name for sums in found for name in sums.parts}
        return Sums(
            torch.stack([sums.total for sums in found]).sum(),
            sum(sums.count for sums in found),
            {name: torch.stack([sums.parts[name] for sums in found if name in sums.parts]).sum() for name in parts},
        )

    @contextmanager
    def _only(self, model: Transformer, name: str) -> Iterator[None]:
        """While a forward is noted down, the other groups' parameters take no gradient."""
        others = {each for other, group in self.groups.items() if other != name for each in group}
        shut = [p for each, p in model.named_parameters() if each in others and p.requires_grad]
        for parameter in shut:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in shut:
                parameter.requires_grad_(True)
