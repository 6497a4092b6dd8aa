"""What is logged of a run besides what the loop itself reports: rates, validation, sample texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.distributed

from paddock.errors import UsageError
from paddock.model.transformer import Transformer
from paddock.training import rates
from paddock.training.loop import StepReport, Trainer

Record = Mapping[str, Any]
Sink = Callable[[Record], None]
Measure = Callable[[Trainer], Record]  # on what is kept back: `loss` and whatever else a stage measures
# Keys of a record that say how the machine did, not what was computed: the only ones in which two equal runs differ.
TIMED = ("seconds", "tokens_per_second", "mfu", "memory")


class Metrics:
    """Called after each step; gives what the step's record has besides the report, and shows the whole to `sinks`.

    loss_hex, norm_hex: the same numbers to the last bit. tokens_per_second: over all processes. mfu: the operations
    that the step's tokens need, over what the matrix units of all processes could have done in its time. memory: peak
    bytes of this process. validation: what `measure` found, where it was due. samples: texts, where they were due.

    Every process must call it. Raises UsageError for sample texts of a model in shards, which no process
    has to write with.
    """

    def __init__(
        self,
        trainer: Trainer,
        sinks: Sequence[Sink] = (),
        *,
        measure: Measure | None = None,
        sampler: Callable[[Transformer], Sequence[str]] | None = None,
    ) -> None:
        if sampler is not None and trainer.recipe.sample_every and trainer.parallel.in_shards:
            raise UsageError(
                "sample texts are written by a whole model, and here each process has shards",
                fix="training.sample_every=0; the saved steps are whole: paddock chat tries one",
            )
        self.trainer, self.sinks = trainer, sinks
        self.measure, self.sampler = measure, sampler

    def __call__(self, report: StepReport) -> dict[str, Any]:
        extra = self._rates(report)
        recipe = self.trainer.recipe
        if self.measure is not None and self._due(report.step, recipe.evaluate_every):
            extra["validation"] = timeless(self.measure(self.trainer))
        if self.sampler is not None and self._due(report.step, recipe.sample_every):
            extra["samples"] = list(self.sampler(self.trainer.model))
        record = {**dataclasses.asdict(report), **extra}
        for sink in self.sinks:
            sink(record)
        return extra

    def _due(self, step: int, every: int) -> bool:
        return bool(every) and (step % every == 0 or step == self.trainer.recipe.steps)

    def _rates(self, report: StepReport) -> dict[str, Any]:
        device = self.trainer.parallel.device
        most = rates.matrix_rate(device, self.trainer.precision.type) * _processes()
        return {
            "loss_hex": report.loss.hex(),
            "norm_hex": report.norm.hex(),
            "tokens_per_second": report.tokens / report.seconds,
            "mfu": report.flops / report.seconds / most,
            "memory": rates.peak_memory(device),
        }


def timeless(record: Record) -> dict[str, Any]:
    """A record without what differs between two equal runs."""
    return {key: value for key, value in record.items() if key not in TIMED}


def _processes() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1
