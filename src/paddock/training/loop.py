"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from paddock.data.batch import Batch
from paddock.model.transformer import Transformer
from paddock.training import optimizers, schedules
from paddock.training.losses import Loss, Sums
from paddock.training.parallel import Alone
from paddock.training.recipe import Training


class Batches(Protocol):
    """Where batches come from: `data.stream.BatchStream`, or anything else that knows batch `step` by its number."""

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch: ...


@dataclass(frozen=True)
class StepReport:
    """What one step did. loss: nats per target, over all ranks. norm: of the gradient, before clipping."""

    step: int
    loss: float
    targets: int
    norm: float
    learning_rate: float


class Trainer:
    """A model and its optimizer at some step. `run` goes on from there; `step` is the number of steps done."""

    def __init__(
        self, model: Transformer, batches: Batches, loss: Loss, recipe: Training, parallel: Alone, step: int = 0
    ) -> None:
        self.model = parallel.spread(model.to(parallel.device))
        self.optimizer = optimizers.make(self.model, recipe.optimizer)
        self.batches, self.loss, self.recipe, self.parallel, self.step = batches, loss, recipe, parallel, step

    def run(self, after: Callable[[StepReport], None]) -> None:
        """Every step that is left; `after` hears of each and may raise to stop."""
        with training(self.model):
            while self.step < self.recipe.steps:
                after(self._advance())

    def _advance(self) -> StepReport:
        recipe, rank = self.recipe, self.parallel.data_rank
        batch = self.batches.at(self.step, rank, self.parallel.data_ranks)
        (targets,) = self.parallel.totals([batch.supervised])
        # Every random number of a step is drawn from the seed and the step, so that a resumed run draws the same.
        torch.manual_seed(hash((recipe.seed, self.step, rank)) % 2**63)
        total = self._accumulate(batch, targets)
        (summed,) = self.parallel.totals([total])
        weights = [p for p in self.model.parameters() if p.grad is not None]
        norm = self.parallel.gradient_norm(weights)
        if recipe.clip:
            scale = (recipe.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([p.grad for p in weights if p.grad is not None], scale)
        rate = recipe.optimizer.learning_rate * schedules.share(recipe.schedule, self.step, recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return StepReport(self.step, summed / targets, int(targets), float(norm), rate)

    def _accumulate(self, batch: Batch, targets: float) -> float:
        """Gradients of the whole step: sums over targets, divided by the targets of all micro-batches and ranks."""
        pieces = list(batch.split(self.recipe.micro_batch or batch.rows))
        total = 0.0
        for number, piece in enumerate(pieces):
            with self.parallel.accumulating(self.model, last=number == len(pieces) - 1):
                sums = self._forward(piece.to(self.parallel.device))
                (sums.total / targets).backward()
            total += float(sums.total.detach())
        return total

    def _forward(self, piece: Batch) -> Sums:
        recipe = self.recipe
        step = piece.step(self.model.architecture, dropout=recipe.dropout, recompute=recipe.recompute)
        with torch.autocast(self.parallel.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            return self.loss(self.model, piece, step)


@contextmanager
def training(model: Transformer) -> Iterator[None]:
    """Weights that take gradients, for as long as it lasts."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
