"""What training makes small where a text has a class or a number: sums over texts, to be divided by all of a step."""

from __future__ import annotations

from collections.abc import Callable
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
    """Cross-entropy of the right class, in nats. smoothing: the share of it spread evenly over all classes. weights:
    what a text of each class counts (None: 1); the sum is divided by the number of texts, not by that of weights.

    `parts`: `accuracy`, how many were right.
    """

    smoothing: float = 0.0
    weights: tuple[float, ...] | None = None

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        assert batch.labels is not None, "these batches have no classes"
        scores = text_scores(model, batch, step)
        total = F.cross_entropy(
            scores,
            batch.labels,
            weight=_like(scores, self.weights),
            reduction="sum",
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
        )
        right = (scores.detach().argmax(-1) == batch.labels).sum()
        return Sums(total, batch.supervised, {"accuracy": right})


@dataclass(frozen=True)
class LabelsLoss:
    """Binary cross-entropy of each class that may apply beside others, in nats a class. weights: what it counts that a
    class applies, beside that it does not (None: the same).

    `parts`: `accuracy`, how many classes were told rightly.
    """

    weights: tuple[float, ...] | None = None

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        assert batch.labels is not None, "these batches have no classes"
        scores, there = text_scores(model, batch, step), asked(batch.labels)
        truth = torch.where(there, batch.labels, 0.0).to(scores.dtype)
        losses = F.binary_cross_entropy_with_logits(
            scores, truth, reduction="none", pos_weight=_like(scores, self.weights)
        )
        right = ((scores.detach() > 0) == (truth > 0))[there].sum()
        return Sums(losses[there].sum(), int(there.sum()), {"accuracy": right})


def _like(scores: Tensor, weights: tuple[float, ...] | None) -> Tensor | None:
    return None if weights is None else scores.new_tensor(weights)


def number_loss(model: Transformer, batch: Batch, step: Step) -> Sums:
    """The squared difference from the right number."""
    assert batch.labels is not None, "these batches have no numbers"
    told = text_scores(model, batch, step)[:, 0]
    there = asked(batch.labels)
    return Sums((told - batch.labels)[there].square().sum(), int(there.sum()))


@dataclass(frozen=True)
class ContrastiveLoss:
    """Cross-entropy of each query's own answer among all answers of its group (InfoNCE, arXiv 1807.03748; in-batch
    negatives, arXiv 1705.00652), by the cosine over `temperature`.

    size: pairs of a group, each a row of `data.preparing.contrastive`. pool: token vectors (texts, tokens, width) and
    which are real (texts, tokens) to a vector for each text. `parts`: `accuracy`, how many found theirs first;
    `reciprocal_rank`, the sum of 1 / its place.
    """

    size: int
    temperature: float
    pool: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        assert batch.labels is not None and batch.padding is not None, "these batches have no groups"
        vectors = self._vectors(model, batch, step)
        with torch.autocast(vectors.device.type, enabled=False):  # cosines are divided: they need their digits
            queries, answers = F.normalize(vectors, dim=-1).split(self.size, dim=1)
            scores = (queries @ answers.transpose(1, 2) / self.temperature).flatten(0, 1)
        labels = batch.labels.flatten()
        total = F.cross_entropy(scores, labels, reduction="sum", ignore_index=IGNORED)
        there = asked(labels)
        found = scores.detach()[there]
        own = found.gather(1, labels[there].unsqueeze(1))
        places = 1 + (found > own).sum(1)
        parts = {"accuracy": (places == 1).sum(), "reciprocal_rank": (1 / places).sum()}
        return Sums(total, int(there.sum()), parts)

    def _vectors(self, model: Transformer, batch: Batch, step: Step) -> Tensor:
        """A vector for each text of each group: (rows, 2 * size, width), float32 or wider."""
        assert batch.padding is not None
        texts = 2 * self.size
        ids, real = (part.unflatten(1, (texts, -1)).flatten(0, 1) for part in (batch.ids, batch.padding))
        full = isinstance(model.architecture.mask, spec.Full)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
        alone = replace(step, positions=positions, padding=real if full else None, length=ids.shape[1])
        return self.pool(model.hidden(ids, alone), real).unflatten(0, (batch.rows, texts))
