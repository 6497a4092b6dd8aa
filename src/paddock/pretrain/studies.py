"""Studies over the saved steps of a run: what is asked of each model, and in which order sequences were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import UsageError
from paddock.model.transformer import Transformer
from paddock.pretrain.memorization import Agreement, agreement, scores
from paddock.pretrain.stage import Prepared
from paddock.training.run import RunFolder

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Checkpointed:
    """What one saved step knows by heart. seen: how many of the sequences it had read by then."""

    step: int
    sequences: int
    seen: int
    mean_score: float
    agreement: Agreement  # with the model whose knowledge is foretold


def models(run: RunFolder) -> Iterator[tuple[int, Transformer]]:
    """The models of a run's saved steps, in float32, in order; a damaged step is refused (CheckpointError)."""
    steps = run.steps()
    if not steps:
        raise UsageError(f"{run.path} has no saved steps", fix="train it with training.checkpoints=log2+every:100")
    for step in steps:
        run.check(step)
        yield step, open_checkpoint(run.step(step)).model(torch.float32)


def final(run: RunFolder) -> Transformer:
    """The last model of a run."""
    return open_checkpoint(run.final).model(torch.float32)


def read_in_order(prepared: Prepared, count: int, length: int) -> np.ndarray:
    """The first `length` tokens of the first `count` sequences of the training order that have so many, (n, length).

    Only the first epoch counts: a sequence met again would be counted twice. Raises UsageError where none is so long.
    """
    stream, kept = prepared.train, []
    for place in range(len(stream.table)):
        ids = np.concatenate(stream.sample(place).texts)[:length]
        if len(ids) == length:
            kept.append(ids)
        if len(kept) == count:
            break
    if not kept:
        raise UsageError(f"no training sequence has {length} tokens", fix="make --k and --l smaller")
    return np.stack(kept)


def memorised(
    run: RunFolder, later: np.ndarray, sequences: np.ndarray, k: int, batch: int, tell: Tell
) -> list[Checkpointed]:
    """Each saved step beside `later`, the scores of the model that is foretold. `batch`: rows that a step reads."""
    rows = []
    count = len(run.steps())
    for number, (step, model) in enumerate(models(run)):
        found = scores(model, sequences, k)
        seen = min(len(sequences), step * batch)
        rows.append(Checkpointed(step, len(sequences), seen, float(found.mean()), agreement(found, later)))
        tell(number + 1, count)
    return rows
