"""What training makes small: sums over the targets of a batch, to be divided by the targets of the whole step.

Every part is a sum of what single documents give. So none of them depends on how rows are split into micro-batches and
over ranks, or on which documents share a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.data.batch import IGNORED, Batch
from paddock.model.routing import Routing
from paddock.model.step import Step
from paddock.model.transformer import Pooler, Transformer


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


@dataclass(frozen=True)
class WeightedLoss:
    """The token loss and what is added to it, each with its weight; 0 leaves a part out.

    z: log^2 of the softmax's divisor (PaLM, arXiv 2204.02311; 1e-4 there), which keeps logits from drifting.
    smoothing: the share of a target that is spread evenly over the vocabulary (0.1 in arXiv 1706.03762).
    next_sentence: cross-entropy of "B follows A"; a row's counts as much as its masked tokens together (BERT).
    balance: experts x sum over experts of (choices of it per token) x (mean probability of it), 1 x `active` where all
    are used alike (Switch, arXiv 2101.03961; Mixtral), of each document by itself, so that it is a sum; the mean over
    layers. router_z: log^2 of the router's divisor (ST-MoE, arXiv 2202.08906), the mean over layers.
    token_gradient: the share of the gradient that reaches the token table through the lookup (GLM-130B: 0.1).

    `parts` of its sums are unweighted: `tokens` is the plain token loss in nats, whatever else is trained.
    """

    z: float = 0.0
    smoothing: float = 0.0
    next_sentence: float = 0.0
    balance: float = 0.0
    router_z: float = 0.0
    token_gradient: float = 1.0

    def __call__(self, model: Transformer, batch: Batch, step: Step) -> Sums:
        routing = Routing() if self.balance or self.router_z else None
        whole = hidden_states(model, batch, replace(step, token_gradient=self.token_gradient, routing=routing))
        asked = batch.targets != IGNORED
        hidden = whole[asked]
        losses, log_sums = model.losses(hidden, batch.targets[asked])
        parts = {"tokens": losses.sum()}
        total = parts["tokens"]
        if self.smoothing:
            # (1 - s) of the target's loss and s of the mean loss over the vocabulary
            total = total + self.smoothing * (log_sums - losses - model.mean_logits(hidden)).sum()
        if self.z:
            parts["z"] = log_sums.square().sum()
            total = total + self.z * parts["z"]
        if self.next_sentence:
            parts["next_sentence"] = next_sentence(model, whole, batch, asked.sum(1))
            total = total + self.next_sentence * parts["next_sentence"]
        for name, part, weight in self._routed(routing, batch, asked):
            parts[name] = part
            total = total + weight * part
        return Sums(total, len(hidden), {name: part.detach() for name, part in parts.items()})

    def _routed(self, routing: Routing | None, batch: Batch, asked: Tensor) -> list[tuple[str, Tensor, float]]:
        taken = routing.take() if routing is not None else []
        if not taken:
            return []
        number = document_numbers(batch)[asked]
        layers = [(_wide(scores[asked]), active) for scores, active in taken]
        found = []
        if self.balance:
            sums = [balance(scores, active, number) for scores, active in layers]
            found.append(("balance", torch.stack(sums).mean(), self.balance))
        if self.router_z:
            sums = [scores.logsumexp(-1).square().sum() for scores, _ in layers]
            found.append(("router_z", torch.stack(sums).mean(), self.router_z))
        return found


def next_sentence(model: Transformer, hidden: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """Cross-entropy of whether B follows A (class 0, as published), summed over rows of the given weights (rows,)."""
    assert isinstance(model.pooler, Pooler) and model.pooler.next_sentence is not None, "no head for the next sentence"
    assert batch.follows is not None, "these batches do not say what follows"
    scores = _wide(model.pooler.next_sentence(model.pooler(hidden)))
    return (F.cross_entropy(scores, 1 - batch.follows.long(), reduction="none") * weights).sum()


def balance(scores: Tensor, active: int, documents: Tensor) -> Tensor:
    """How unevenly each document's tokens use the experts, summed over documents, each counting its tokens.

    scores (tokens, experts); documents (tokens,): a number for each document, below the number of tokens.
    """
    experts = scores.shape[-1]
    probabilities = scores.softmax(-1)
    chosen = F.one_hot(probabilities.topk(active, dim=-1).indices, experts).sum(1).to(scores.dtype)
    _, number = documents.unique(return_inverse=True)
    count = int(number.max()) + 1 if len(number) else 0
    empty = scores.new_zeros(count, experts)
    tokens = scores.new_zeros(count).index_add(0, number, scores.new_ones(len(number)))
    used, likely = empty.index_add(0, number, chosen), empty.index_add(0, number, probabilities)
    return experts * ((used * likely).sum(-1) / tokens).sum()


def document_numbers(batch: Batch) -> Tensor:
    """(rows, tokens): a number for every document of the batch; a row that is one text is one document."""
    rows, tokens = batch.ids.shape
    first = torch.arange(rows, device=batch.ids.device)[:, None] * tokens
    return first.expand(rows, tokens) if batch.documents is None else first + batch.documents


def hidden_states(model: Transformer, batch: Batch, step: Step) -> Tensor:
    """(rows, tokens, width) after the last norm; of an encoder-decoder, the decoder's."""
    if batch.source is not None:
        own = {name: getattr(step, name) for name in ("dropout", "recompute", "token_gradient", "noise")}
        step = replace(step, memory=model.encode(batch.source, batch.source_padding, **own))
    return model.hidden(batch.ids, step)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
