"""Tokens before every text that no vocabulary has, from outside: prefix tuning (arXiv 2101.00190, in every layer as in
2110.07602) and prompt tuning (arXiv 2104.08691).

As what stands first sees nothing of what comes after, all that a text reads of such tokens is their keys and values in
each layer. So they are made once for a forward, whatever its rows and documents, and take no slot of a cache. The
text's positions go on behind them.

    prefix tuning   keys and values are what is learned, in PEFT's layout, or what a small network makes of vectors
    prompt tuning   vectors in place of looked-up tokens are learned, and the model itself makes keys and values of them
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from paddock.errors import ContextLengthError, UnsupportedError, UsageError
from paddock.kernels.record import NotRecordable
from paddock.model.spec import Alibi, Architecture, Causal, DynamicScaling, Learned, Rope
from paddock.model.step import Ahead, Step
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of


class Virtual(nn.Module):
    """Puts `count` tokens before what a step reads. `settle` keeps what they are, for a model that is not trained."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.settled: Ahead | None = None

    def forward(self, model: Transformer, step: Step) -> Step:
        """Raises ContextLengthError where the text goes on past the positions that the model has learned."""
        if not isinstance(step, Step):
            raise NotRecordable("tokens before the text")
        positions = step.positions + self.count
        table = model.embedding.positions
        if table is not None and int(positions.max()) >= table.num_embeddings:
            raise ContextLengthError(
                f"a text of {int(step.positions.max()) + 1} tokens behind {self.count} learned ones",
                expected=f"at most {table.num_embeddings} together, this model's positions",
                fix="make the rows shorter",
            )
        ahead = self.made(model) if self.settled is None else self.settled
        return replace(step, positions=positions, length=step.length + self.count, ahead=ahead, memo={})

    def made(self, model: Transformer) -> Ahead:
        raise AssertionError("one of its kinds says how")


class Prefix(Virtual):
    """Learned keys and values. embedding: (count, layers * 2 * kv_heads * head_dim), a layer's keys, then its values.

    With a network, `embedding` is what that makes them of: outer(tanh(inner(embedding))).
    """

    def __init__(self, embedding: Tensor, network: tuple[nn.Linear, nn.Linear] | None = None) -> None:
        super().__init__(len(embedding))
        self.embedding = nn.Parameter(embedding, requires_grad=False)
        self.inner: nn.Linear | None
        self.outer: nn.Linear | None
        self.inner, self.outer = network or (None, None)

    def flat(self) -> Tensor:
        """(count, layers * 2 * kv_heads * head_dim)."""
        if self.inner is None or self.outer is None:
            return self.embedding
        made: Tensor = self.outer(self.inner(self.embedding).tanh())
        return made

    def made(self, model: Transformer) -> Ahead:
        part = model.architecture.layer(0).attention
        layers = self.flat().view(self.count, model.architecture.blocks, 2, part.kv_heads, part.head_dim)
        keys, values = layers.permute(2, 1, 3, 0, 4)  # (2, layers, kv_heads, count, head_dim)
        return Ahead(tuple(each[None] for each in keys), tuple(each[None] for each in values))


class Prompt(Virtual):
    """Learned vectors (count, width) in place of the token table's."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__(len(vectors))
        self.vectors = nn.Parameter(vectors, requires_grad=False)

    def made(self, model: Transformer) -> Ahead:
        kept = _Kept()
        like = model.embedding.tokens.weight
        positions = torch.arange(self.count, device=self.vectors.device)[None]
        step = Step(positions, cache=kept, length=self.count)  # type: ignore[arg-type]
        x = model.embedding.placed(self.vectors[None].to(like.dtype), step)
        for block in model.blocks:
            x = block(x, step)
        return Ahead(tuple(kept.keys), tuple(kept.values))


class _Kept:
    """Has the interface of a `Cache`: keeps what every layer puts, with its gradient."""

    length = 0

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.keys.append(k)
        self.values.append(v)
        return k, v


def with_virtual(model: Transformer, virtual: Virtual) -> Transformer:
    """A Transformer like `model` with tokens before every text; everything else is shared with it. Its context is
    shorter by as many.

    Raises UnsupportedError for a model where this would mean something else, UsageError where no room is left.
    """
    check_virtual(model.architecture, virtual.count)
    twin: Transformer = twin_of(model)
    twin.ahead = virtual
    a = twin.architecture
    table = a.embedding.positions
    if isinstance(table, Learned):
        a = replace(a, embedding=replace(a.embedding, positions=replace(table, count=table.count - virtual.count)))
    twin.architecture = replace(a, context=None if a.context is None else a.context - virtual.count)
    return twin


def check_virtual(architecture: Architecture, count: int) -> None:
    """Raises as `with_virtual` does."""
    a = architecture
    places = [layer.attention.position for layer in a.layers]
    kinds = {type(place) for place in places} - {type(None), Rope, Alibi}
    moving = any(isinstance(place, Rope) and isinstance(place.scaling, DynamicScaling) for place in places)
    shapes = {(layer.attention.kv_heads, layer.attention.head_dim) for layer in a.layers}
    if a.encoder is not None or not isinstance(a.mask, Causal) or kinds or moving or len(shapes) > 1:
        raise UnsupportedError(
            f"virtual tokens before the text of {a.family}",
            expected="a decoder whose tokens see what came before, with rotary, learned, ALiBi or no positions",
            fix="use adapter-v1, lora or ia3",
        )
    if a.context is not None and count >= a.context:
        raise UsageError(f"{count} virtual tokens in a context of {a.context}", expected="fewer")


@torch.no_grad()
def settle(model: Transformer) -> None:
    """Keeps the keys and values of a model's virtual tokens: no forward makes them again."""
    virtual = model.ahead
    if isinstance(virtual, Virtual):
        made, dtype = virtual.made(model), model.embedding.tokens.weight.dtype
        kept = (tuple(each.to(dtype).contiguous() for each in side) for side in (made.keys, made.values))
        virtual.settled = Ahead(*kept)
