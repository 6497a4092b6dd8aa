"""What training makes small where a text has a class or a number: sums over texts, to be divided by all of a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.data.batch import IGNORED, Batch, asked
from paddock.model import spec
from paddock.model.step import Step
from paddock.model.transformer import Transformer, dropped
from paddock.training.losses import Sums


def text_scores(model: Transformer, batch: Batch, step: Step) -> Tensor:
    """The scores of each row's text: (rows, classes), float32 or wider.

    An encoder's pooled vector meets the dropout of its blocks (BERT's classifier_dropout); a decoder's does not.
    """
    assert model.pooler is not None and model.pooler.classes is not None, "no classes"
    if not isinstance(model.architecture.mask, spec.Full):
        step = replace(step, padding=None)  # it stands at the end of a row, which nothing before it sees
    pooled = model.pooler(model.hidden(batch.ids, step), batch.padding)
    if isinstance(model.architecture.pooler, spec.Pooler):
        pooled = dropped(pooled, step)
    scores = model.pooler.classes(pooled)
    return scores if scores.dtype == torch.float64 else scores.float()


@dataclass(frozen=True)
class ClassLoss:
    """Cross-entropy of the right class, in nats. smoothing: the share of it spread evenly over all classes.

    `parts`: `accuracy`, how many were right.
    """

    smoothing: float = 0.0

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        assert batch.labels is not None, "these batches have no classes"
        scores = text_scores(model, batch, step)
        total = F.cross_entropy(
            scores, batch.labels, reduction="sum", ignore_index=IGNORED, label_smoothing=self.smoothing
        )
        right = (scores.detach().argmax(-1) == batch.labels).sum()
        return Sums(total, batch.supervised, {"accuracy": right})


def number_loss(model: Transformer, batch: Batch, step: Step) -> Sums:
    """The squared difference from the right number."""
    assert batch.labels is not None, "these batches have no numbers"
    told = text_scores(model, batch, step)[:, 0]
    there = asked(batch.labels)
    return Sums((told - batch.labels)[there].square().sum(), int(there.sum()))
