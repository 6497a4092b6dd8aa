"""What training makes small: sums over the targets of a batch, to be divided by the targets of the whole step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from paddock.data.batch import IGNORED, Batch
from paddock.model.step import Step
from paddock.model.transformer import Transformer


@dataclass(frozen=True, eq=False)
class Sums:
    """`total`: a scalar with a gradient, summed over `count` targets. `parts`: further sums for the log, by name."""

    total: Tensor
    count: int
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """What a stage passes to the loop."""

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums: ...


def token_loss(model: Transformer, batch: Batch, step: Step) -> Sums:
    """Cross-entropy in nats, summed over the targets that are asked for. The loss of every objective on tokens."""
    rows, columns = (batch.targets != IGNORED).nonzero(as_tuple=True)
    hidden = hidden_states(model, batch, step)[rows, columns]
    losses, _ = model.losses(hidden, batch.targets[rows, columns])
    return Sums(losses.sum(), len(rows))


def hidden_states(model: Transformer, batch: Batch, step: Step) -> Tensor:
    """(rows, tokens, width) after the last norm; of an encoder-decoder, the decoder's."""
    if batch.source is not None:
        step = replace(step, memory=model.encode(batch.source, batch.source_padding))
    return model.hidden(batch.ids, step)
