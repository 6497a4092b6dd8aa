"""How well texts that belong together find each other, of pairs that a model was not trained on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from paddock.data.stream import BatchStream
from paddock.training.loop import Trainer
from paddock.training.losses import Loss
from paddock.training.metrics import Measure
from paddock.training.validation import share


def on_pairs(batches: BatchStream, loss: Loss, size: int) -> Measure:
    """Over every group of `batches` once: the loss (nats a query), accuracy (how often the query's own answer is the
    nearest of its group) and the mean reciprocal rank, beside `chance`, the accuracy of guessing. Every process must
    call it."""

    def measure(trainer: Trainer) -> dict[str, Any]:
        started, parallel = time.perf_counter(), trainer.parallel
        found = np.zeros(4)
        with torch.no_grad():
            for whole in batches.once():
                batch = share(whole, parallel.data_rank, parallel.data_ranks)
                for piece in batch.split(trainer.recipe.micro_batch or batch.rows):
                    sums = trainer.sums(piece, train=False, loss=loss)
                    parts = (sums.total, *sums.parts.values())
                    found += [*(float(part) for part in parts), sums.count]
        total, right, ranks, count = parallel.totals(found.tolist())
        return {
            "loss": total / count,
            "accuracy": right / count,
            "reciprocal_rank": ranks / count,
            "chance": 1 / size,
            "targets": int(count),
            "seconds": time.perf_counter() - started,
        }

    return measure
