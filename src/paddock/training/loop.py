"""The one training loop."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from paddock.data.batch import Batch
from paddock.errors import DataError
from paddock.kernels import memory
from paddock.model.initialise import First
from paddock.model.transformer import Transformer
from paddock.training import compiling, optimizers, policies, precision, scale, schedules
from paddock.training.losses import Loss, Sums
from paddock.training.parallel import Alone
from paddock.training.policies import Event, Watch
from paddock.training.recipe import Training

TRIM_EVERY = 10.0  # seconds between two returns of freed memory: what is cleared anew for it costs little of that time


class Batches(Protocol):
    """Where batches come from: `data.stream.BatchStream`, or anything else that knows batch `step` by its number."""

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch: ...


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    step: steps done with this one. loss: nats per target, over all ranks. parts: what else the loss told of, per
    target. targets, tokens: of all ranks (tokens: those of the encoder too). norm: of the gradient, before clipping.
    flops: what the tokens of all ranks need by `scale.flops_per_token`. batch: its number in the stream. digest: of the
    rows this process read. seconds: of the whole step. updated: whether the weights moved; if not, events say why.
    """

    step: int
    loss: float
    targets: int
    norm: float
    learning_rate: float
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    batch: int = 0
    digest: str = ""
    parts: Mapping[str, float] | None = None
    updated: bool = True
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Gradient:
    """What the micro-batches of a step came to, over all ranks, and the samples to name if that is wrong."""

    loss: float
    parts: dict[str, float]
    samples: list[int]


class Trainer:
    """A model and its optimizer at some step. `run` goes on from there; `step` is the number of steps done.

    learns: the names of the parameters that are trained, all of them if None; the others stay as they are, in the type
    they have, and cost no gradient. rates: by what some of those names multiply the learning rate. first: what a model
    on the meta device begins with, drawn where it is held. written: the names of what a saved step holds, all if None.
    """

    def __init__(
        self,
        model: Transformer,
        batches: Batches,
        loss: Loss,
        recipe: Training,
        parallel: Alone,
        step: int = 0,
        *,
        learns: Collection[str] | None = None,
        rates: Mapping[str, float] | None = None,
        first: First | None = None,
        written: Collection[str] | None = None,
    ) -> None:
        parallel.check(recipe.batch)
        if parallel.device.type == "cpu":
            (memory.map_large_blocks if recipe.recompute else memory.keep_freed_memory)()
        self.precision = precision.choose(recipe.precision, parallel.device, model.architecture)
        self.learns = frozenset(name for name, _ in model.named_parameters() if learns is None or name in learns)
        if learns is not None and (strange := set(learns) - self.learns):
            raise ValueError(f"this model has no parameter {min(strange)!r} to train")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.learns)
            if name in self.learns and parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()  # small updates would be lost in the rounding
        if recipe.compile:
            compiling.compile_blocks(model, parallel.device)
        self.model, self.written = parallel.spread(model, first), written
        self.optimizer = optimizers.make(self.model, recipe.optimizer, rates or {})
        self.batches, self.loss, self.recipe, self.parallel, self.step = batches, loss, recipe, parallel, step
        self.watch, self.trimmed = Watch(recipe), time.perf_counter()

    def run(self, *after: Callable[[StepReport], None]) -> None:
        """Every step that is left. Each of `after` hears of a step in turn, and may raise to stop.

        Raises DivergedError where the policies are not to go on, and policies.Rollback where they are to go back: the
        weights are then as they were before the step.
        """
        with learning(self.model, self.learns):
            while self.step < self.recipe.steps:
                report = self._advance()
                for hear in after:
                    hear(report)

    def state(self) -> dict[str, Any]:
        """All that decides how the run goes on besides the model and the optimizer, in JSON's types."""
        return {"step": self.step, "precision": self.precision.name, "watch": self.watch.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave. The precision is the saved one, on whatever machine the run goes on."""
        self.step = int(state["step"])
        self.watch.restore(state["watch"])
        if state["precision"] != self.precision.name:
            self.precision = precision.Precision(str(state["precision"]), "as the run began")

    def pass_over(self, batch: int) -> None:
        """After a rollback: the batches from here up to number `batch` are left out."""
        self.watch.pass_over(self.step, batch)

    def sums(self, piece: Batch, *, train: bool = True, loss: Loss | None = None) -> Sums:
        """The loss of some rows (the run's own, if not said) as the recipe computes it; dropout is for training."""
        recipe, piece = self.recipe, piece.to(self.parallel.device)
        step = piece.step(
            self.model.architecture,
            dropout=recipe.dropout if train else 0.0,
            recompute=recipe.recompute and train,
            noise=recipe.neftune if train else 0.0,
        )
        with self.precision.autocast(self.parallel.device):
            return (loss or self.loss)(self.model, piece, step)

    def _advance(self) -> StepReport:
        started, recipe, rank = time.perf_counter(), self.recipe, self.parallel.data_rank
        number = self.watch.batch(self.step)
        batch = self.batches.at(number, rank, self.parallel.data_ranks)
        counts = [batch.supervised, *self._size(batch)]
        targets, tokens, flops = (int(total) for total in self.parallel.totals(counts))
        if not targets:
            raise DataError(f"batch {number} (step {self.step + 1}) asks for nothing: no row of it has a target")
        torch.manual_seed(_seed(recipe.seed, self.step, rank))
        gradient = self._accumulate(batch, targets)
        weights = [p for p in self.model.parameters() if p.grad is not None]
        norm = float(self.parallel.gradient_norm(weights))
        loss = gradient.loss / targets
        rate = recipe.optimizer.learning_rate * schedules.share(recipe.schedule, self.step, recipe.steps)
        verdict = self.watch.judge(policies.Step(self.step, loss, norm, policies.ranges(gradient.samples)))
        if verdict.update:
            self._update(weights, norm, rate)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if time.perf_counter() - self.trimmed > TRIM_EVERY and self.parallel.device.type == "cpu":
            memory.give_back_freed_memory()
            self.trimmed = time.perf_counter()
        return StepReport(
            self.step,
            loss,
            targets,
            norm,
            rate,
            tokens=tokens,
            flops=flops,
            seconds=time.perf_counter() - started,
            batch=number,
            digest=batch.digest(),
            parts={name: total / targets for name, total in gradient.parts.items()},
            updated=verdict.update,
            events=verdict.events,
        )

    def _size(self, batch: Batch) -> tuple[int, float]:
        """Tokens that are read, and the operations they need."""
        source = None if batch.source is None else batch.source.shape[1]
        each = scale.flops_per_token(self.model.architecture, batch.ids.shape[1], source)
        return batch.ids.numel() + batch.rows * (source or 0), each * batch.ids.numel()

    def _accumulate(self, batch: Batch, targets: int) -> Gradient:
        """Gradients of the whole step: sums over targets, divided by the targets of all micro-batches and ranks."""
        pieces = list(batch.split(self.recipe.micro_batch or batch.rows))
        told: list[Tensor] = []
        names: list[str] = []
        for number, piece in enumerate(pieces):
            with self.parallel.accumulating(self.model, last=number == len(pieces) - 1):
                sums = self.sums(piece)
                (sums.total / targets).backward()
            names = list(sums.parts)
            told.append(torch.stack([each.detach().double() for each in (sums.total, *sums.parts.values())]))
        values = torch.stack(told).cpu()  # waits for the device once in a step
        loss, *parts = self.parallel.totals(values.sum(0).tolist())
        lengths = torch.tensor([piece.rows for piece in pieces])
        bad = (~values[:, 0].isfinite()).repeat_interleave(lengths)
        return Gradient(loss, dict(zip(names, parts, strict=True)), self._samples(batch, bad, math.isfinite(loss)))

    def _samples(self, batch: Batch, bad: Tensor, finite: bool) -> list[int]:
        """Numbers of the step's samples on all ranks; where the loss is not finite, of those that made it so."""
        if batch.samples is None:
            return []
        rank, ranks = self.parallel.data_rank, self.parallel.data_ranks
        first = int(batch.samples[0]) - rank  # a rank reads every ranks-th sample
        marks = torch.ones(batch.rows * ranks, dtype=torch.float64)
        if not finite:  # which is so on every rank
            marks.zero_()[rank::ranks] = bad.double()
            marks = torch.tensor(self.parallel.totals(marks.tolist()))
        return [first + index for index in marks.nonzero().flatten().tolist()]

    def _update(self, weights: list[torch.nn.Parameter], norm: float, rate: float) -> None:
        """Raises DivergedError where the update leaves a weight that is no finite number."""
        clip = self.recipe.clip
        if clip and norm > clip:
            self.parallel.scale_gradients(weights, torch.tensor(clip / norm, device=self.parallel.device))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        if self.parallel.agreed(not _finite(weights)):
            raise policies.spoiled(self.step + 1)


@contextmanager
def learning(model: Transformer, names: Collection[str]) -> Iterator[None]:
    """The weights of these names take gradients, for as long as it lasts."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)


def _seed(seed: int, step: int, rank: int) -> int:
    """Every random number of a step is drawn from these alone, so that a resumed run draws the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}:{rank}".encode()).digest()[:8], "little") >> 1


def _finite(weights: list[torch.nn.Parameter]) -> bool:
    """Whether every weight this process holds is a finite number."""
    with torch.no_grad():
        local = [getattr(weight, "_local_tensor", weight.data) for weight in weights]
        return bool(torch.stack(torch._foreach_norm(local, float("inf"))).isfinite().all())
