"""The one Transformer. It runs any `Architecture`; families only describe, kernels only replace operations.

Parameters carry the same names in every family:

    embedding.{tokens,positions,segments}.weight   embedding.norm.{weight,bias}
    blocks.I.attention.{q,k,v,out}                 blocks.I.attention_norm
    blocks.I.cross.{q,k,v,out}                     blocks.I.cross_norm
    blocks.I.feedforward.{gate,up,down}            blocks.I.feedforward_norm
    blocks.I.feedforward.router                    blocks.I.feedforward.experts.E.{gate,up,down}
    norm    relative_bias    head    head.transform    head.norm    pooler.{dense,classes,next_sentence}
    encoder.(all of this)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paddock import kernels
from paddock.kernels.packed import Packed
from paddock.model import spec
from paddock.model.attention import CrossAttention, SelfAttention
from paddock.model.feedforward import feedforward
from paddock.model.linear import Linear, Table, weights_of
from paddock.model.position import sinusoids
from paddock.model.step import Step
from paddock.model.wiring import WIRINGS


class Norm(nn.Module):
    """RMSNorm or LayerNorm over the last axis. `inward`: only matrices read the result, never a residual."""

    def __init__(self, part: spec.Norm, width: int, inward: bool = False) -> None:
        super().__init__()
        self.part, self.inward = part, inward
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if isinstance(part, spec.LayerNorm) and part.bias else None

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.part, spec.RMSNorm):
            return kernels.rms_norm(x, self.weight, self.part.eps, self.inward)
        return kernels.layer_norm(x, self.weight, self.bias, self.part.eps, self.inward)


class Embedding(nn.Module):
    """Token ids (batch, tokens) to vectors (batch, tokens, width)."""

    def __init__(self, part: spec.Embedding, vocabulary: int, width: int) -> None:
        super().__init__()
        self.part, self.width = part, width
        self.tokens = Table(vocabulary, width)
        table = part.positions
        self.positions = Table(table.count, width) if isinstance(table, spec.Learned) else None
        self.segments = Table(part.segments, width) if part.segments else None
        self.norm = Norm(part.norm, width) if part.norm else None

    def forward(self, ids: Tensor, step: Step) -> Tensor:
        x = self.tokens(ids)
        if step.token_gradient != 1.0:  # the same numbers, and a smaller gradient
            x = x.detach() + step.token_gradient * (x - x.detach())
        if step.noise:
            x = x + noise(x, step)
        if self.part.scale != 1.0:
            x = x * self.part.scale
        return self.placed(x, step)

    def placed(self, x: Tensor, step: Step) -> Tensor:
        """Token vectors (batch, tokens, width) with all that depends on where they stand."""
        if self.segments is not None:
            first = torch.zeros_like(step.positions) if step.segments is None else step.segments
            x = x + self.segments(first)
        if self.positions is not None:
            x = x + self.positions(step.positions)
        elif isinstance(self.part.positions, spec.Sinusoidal):
            if self.part.positions not in step.memo:
                step.memo[self.part.positions] = sinusoids(self.part.positions, step.positions, self.width)
            x = x + step.memo[self.part.positions].to(x.dtype)
        return dropped(x if self.norm is None else self.norm(x), step)


def noise(x: Tensor, step: Step) -> Tensor:
    """NEFTune's: uniform up to alpha / sqrt(tokens * width) for x (batch, tokens, width), counting the tokens of the
    text or the document; padding has none."""
    real = torch.ones(x.shape[:2], device=x.device) if step.padding is None else step.padding.to(x.device).float()
    documents = torch.zeros_like(real, dtype=torch.long) if step.documents is None else step.documents
    lengths = torch.zeros_like(real).scatter_add(1, documents, real).gather(1, documents)
    edges = step.noise * real / (lengths.clamp(min=1) * x.shape[-1]).sqrt()
    return ((2 * torch.rand(x.shape, device=x.device) - 1) * edges[..., None]).to(x.dtype)


def dropped(x: Tensor, step: Step) -> Tensor:
    """What is left of x where the step asks for dropout (arXiv 1207.0580)."""
    return nn.functional.dropout(x, step.dropout) if step.dropout else x


class Block(nn.Module):
    """One layer: (norm, sublayer) pairs and their wiring."""

    def __init__(self, part: spec.Block, architecture: spec.Architecture, layer: int) -> None:
        super().__init__()
        width = architecture.width
        self.part = part
        inward = part.wiring in ("pre", "parallel")
        self.attention_norm = Norm(part.norm, width, inward)
        self.attention = SelfAttention(part.attention, width, architecture.mask, layer)
        if part.cross is not None:
            assert architecture.encoder is not None, "cross-attention needs an encoder"
            self.cross_norm = Norm(part.norm, width, inward)
            self.cross = CrossAttention(part.cross, width, architecture.encoder.width, layer)
        if not part.shared_norm:
            self.feedforward_norm = Norm(part.norm, width, inward)
        self.feedforward = feedforward(part.feedforward, width)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        pairs: list[Any] = [(self.attention_norm, lambda h: dropped(self.attention(h, step), step))]
        if self.part.cross is not None:
            pairs.append((self.cross_norm, lambda h: dropped(self.cross(h, step), step)))
        last = self.attention_norm if self.part.shared_norm else self.feedforward_norm
        pairs.append((last, lambda h: dropped(self.feedforward(h, step), step)))
        return WIRINGS[self.part.wiring](x, pairs, self.part.residual_scale)


class Head(nn.Module):
    """Hidden states to logits over the vocabulary. A tied head has no matrix: it is given the embedding's."""

    def __init__(self, part: spec.Head, vocabulary: int, width: int) -> None:
        super().__init__()
        self.part = part
        if part.transform is not None:
            self.transform = Linear(width, width)
            self.norm = Norm(part.transform.norm, width)
        self.weight = None if part.tied else nn.Parameter(torch.empty(vocabulary, width))
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if part.bias else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return kernels.linear(self.prepare(x), embedding if self.weight is None else self.weight, self.bias)

    def losses(self, x: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`kernels.cross_entropy` of hidden states (rows, width) against targets (rows,), the logits never whole."""
        weight = embedding if self.weight is None else self.weight
        return kernels.cross_entropy(self.prepare(x), weight, self.bias, targets)

    def mean_logits(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The mean of the logits over the vocabulary, (rows,) float32, from hidden states (rows, width)."""
        weight = embedding if self.weight is None else self.weight
        wide = torch.promote_types(x.dtype, torch.float32)
        numbers = weight.dense(wide) if isinstance(weight, Packed) else weight.to(wide)
        mean = (self.prepare(x).to(wide) * numbers.mean(0)).sum(-1)  # a product that autocast leaves alone
        return mean if self.bias is None else mean + self.bias.to(wide).mean()

    def prepare(self, x: Tensor) -> Tensor:
        """What the vocabulary's matrix is applied to."""
        if self.part.transform is not None:
            x = self.norm(kernels.activate(self.part.transform.activation, self.transform(x)))
        return x if self.part.scale == 1.0 else x * self.part.scale


class Pooler(nn.Module):
    """The first token's vector, through tanh, and on to class scores if there are classes."""

    def __init__(self, part: spec.Pooler, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)
        self.classes = Linear(width, part.labels) if part.labels else None
        self.next_sentence = Linear(width, 2) if part.next_sentence else None

    def forward(self, hidden: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, tokens, width) to (batch, width). A text's first token is never padding."""
        return self.dense(hidden[:, 0]).tanh()


class LastToken(nn.Module):
    """The vector of each text's last token, and class scores of it."""

    next_sentence = None

    def __init__(self, part: spec.LastToken, width: int) -> None:
        super().__init__()
        self.classes = Linear(width, part.labels, bias=False)

    def forward(self, hidden: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, tokens, width) to (batch, width); `real` (batch, tokens) bool marks what is no padding, which may
        stand at either side."""
        if real is None:
            return hidden[:, -1]
        places = torch.arange(hidden.shape[1], device=hidden.device)
        last = torch.where(real, places, -1).amax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]


def pooler(part: spec.Pooler | spec.LastToken, width: int) -> Pooler | LastToken:
    """What makes one vector of a text."""
    return LastToken(part, width) if isinstance(part, spec.LastToken) else Pooler(part, width)


class Transformer(nn.Module):
    """Runs the model that `architecture` describes. Make it under `torch.device("meta")`, then give it weights."""

    def __init__(self, architecture: spec.Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, vocabulary = architecture.width, architecture.vocabulary
        self.embedding = Embedding(architecture.embedding, vocabulary, width)
        self.blocks = nn.ModuleList(Block(part, architecture, i) for i, part in enumerate(architecture.layers))
        self.norm = Norm(architecture.final_norm, width) if architecture.final_norm else None
        position = architecture.layer(0).attention.position
        heads = architecture.layer(0).attention.heads
        self.relative_bias = nn.Embedding(position.count, heads) if isinstance(position, spec.Buckets) else None
        self.head = Head(architecture.head, vocabulary, width) if architecture.head else None
        self.pooler = pooler(architecture.pooler, width) if architecture.pooler else None
        self.encoder = Transformer(architecture.encoder) if architecture.encoder else None
        if self.encoder is not None and architecture.shared_embedding:
            self.encoder.embedding.tokens = self.embedding.tokens
        self.ahead: Callable[[Transformer, Step], Step] | None = None  # an adapter's tokens before every text

    @cached_property
    def weight_bytes(self) -> int:
        """What the weights take in memory; asked once they are all in place."""
        return sum(weight.nbytes for weight in weights_of(self).values())

    def hidden(self, ids: Tensor, step: Step) -> Tensor:
        """(batch, tokens) ids to (batch, tokens, width), after the last norm. Advances the step's cache."""
        if self.relative_bias is not None:
            step = replace(step, relative_bias=self.relative_bias.weight)
        if self.ahead is not None:
            step = self.ahead(self, step)
        x = self.embedding(ids, step)
        for block in self.blocks:
            x = checkpoint(block, x, step, use_reentrant=False) if step.recompute else block(x, step)
        if step.cache is not None:
            step.cache.advance(step.tokens)
        return x if self.norm is None else self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) to (..., vocabulary)."""
        assert self.head is not None, f"{self.architecture.family} has no head over the vocabulary"
        return self.head(hidden, self.embedding.tokens.weight)

    def losses(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, width) and (rows,) ids to each row's cross-entropy and log sum of exponentials, (rows,) float32."""
        assert self.head is not None, f"{self.architecture.family} has no head over the vocabulary"
        return self.head.losses(hidden, self.embedding.tokens.weight, targets)

    def mean_logits(self, hidden: Tensor) -> Tensor:
        """(rows, width) to the mean of each row's logits over the vocabulary, (rows,) float32."""
        assert self.head is not None, f"{self.architecture.family} has no head over the vocabulary"
        return self.head.mean_logits(hidden, self.embedding.tokens.weight)

    def forward(self, ids: Tensor, step: Step) -> Tensor:
        """(batch, tokens) ids to (batch, tokens, vocabulary) logits."""
        return self.logits(self.hidden(ids, step))

    def pool(self, ids: Tensor, step: Step) -> Tensor:
        """(batch, tokens) ids to one vector per text (batch, width)."""
        assert self.pooler is not None, f"{self.architecture.family} has no pooler"
        return self.pooler(self.hidden(ids, step), step.padding)

    def classify(self, ids: Tensor, step: Step) -> Tensor:
        """(batch, tokens) ids to class scores (batch, labels)."""
        assert self.pooler is not None and self.pooler.classes is not None, "no classes"
        return self.pooler.classes(self.pool(ids, step))

    def encode(self, ids: Tensor, padding: Tensor | None = None, **rest: Any) -> Tensor:
        """A source text (batch, source) to the memory (batch, source, width) that the decoder attends to.

        `rest`: what else the encoder's step is to say (dropout, recompute).
        """
        assert self.encoder is not None, f"{self.architecture.family} has no encoder"
        return self.encoder.hidden(ids, Step.begin(self.encoder.architecture, ids, padding=padding, **rest))
