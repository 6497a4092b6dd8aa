"""Learned prompts from outside: vectors that every token of some layers reads besides the text.

LLaMA-Adapter (arXiv 2303.16199): a layer's own k and v, which stay as they are, make keys and values of its prompts;
they have no position. A softmax over them alone, apart from that over the text, is gated by tanh of a number for each
head that begins at 0, so that the model begins as it was.

    heads(x) = softmax(q K^T / sqrt(d)) V  +  tanh(gate) * softmax(q Kp^T / sqrt(d)) Vp
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paddock import kernels
from paddock.errors import UsageError
from paddock.kernels.record import NotRecordable
from paddock.model.attention import SelfAttention
from paddock.model.initialise import drawn
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of


@dataclass(frozen=True, eq=False)
class LayerPrompts:
    """What one layer has. vectors: (count, width). gate: (heads,).

    bounded: whether tanh of the gate is what counts, or the gate itself (PEFT's, which has one for all heads).
    """

    vectors: Tensor
    gate: Tensor
    bounded: bool = True


class Prompts(nn.Module):
    """What a layer's tokens read of its prompts: q (batch, heads, tokens, head_dim) to the same.

    While they are trained, keys and values are made in every forward, once for all of its tokens; `settle` keeps them.
    """

    def __init__(self, given: LayerPrompts) -> None:
        super().__init__()
        self.vectors = nn.Parameter(given.vectors, requires_grad=False)
        self.gate = nn.Parameter(given.gate, requires_grad=False)
        self.bounded = given.bounded
        self.settled: tuple[Tensor, Tensor] | None = None

    def forward(self, q: Tensor, attention: SelfAttention) -> Tensor:
        if not isinstance(q, Tensor):
            raise NotRecordable("prompts beside the text")
        k, v = self.keys_and_values(attention, q.dtype) if self.settled is None else self.settled
        k, v = (each.to(q.dtype).expand(len(q), -1, -1, -1) for each in (k, v))
        read = kernels.attend(q, k, v, None, False, attention.part.multiplier)
        gate = self.gate.tanh() if self.bounded else self.gate
        return read * gate.to(read.dtype)[:, None, None]

    def keys_and_values(self, attention: SelfAttention, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return attention.keys_and_values(self.vectors.to(dtype)[None])


def prompts_at(layer: int) -> str:
    """Where the prompts of a layer are in a model, and what their parameters' names begin with."""
    return f"blocks.{layer}.attention.prompts"


def with_prompts(model: Transformer, prompts: Mapping[int, LayerPrompts]) -> Transformer:
    """A Transformer like `model` whose layers of these numbers have prompts; everything else is shared with it."""
    twin = twin_of(model)
    for layer, given in prompts.items():
        twin.blocks[layer].attention.prompts = Prompts(given)
    return twin


def fresh_prompts(model: Transformer, count: int, layers: Sequence[int], seed: int) -> dict[int, LayerPrompts]:
    """`count` normal random vectors for each of `layers`, and gates that are shut, as published: float32."""
    device, width = model.embedding.tokens.weight.device, model.architecture.width
    return {
        layer: LayerPrompts(
            torch.randn(count, width, generator=drawn(seed, prompts_at(layer))).to(device),
            torch.zeros(model.architecture.layer(layer).attention.heads, device=device),
        )
        for layer in layers
    }


def top_layers(model: Transformer, count: int | None) -> range:
    """The numbers of the highest `count` layers; by default all but the lowest two, as published (30 of 32).

    Raises UsageError for more layers than there are.
    """
    blocks = model.architecture.blocks
    if count is not None and count > blocks:
        raise UsageError(f"prompts in {count} layers of a model that has {blocks}", expected=f"at most {blocks}")
    return range(blocks - (max(blocks - 2, 1) if count is None else count), blocks)


@torch.no_grad()
def settle(model: Transformer) -> None:
    """Keeps the prompts' keys and values, for a model that is not trained: no forward computes them again."""
    for module in model.modules():
        if isinstance(module, SelfAttention) and isinstance(module.prompts, Prompts):
            module.prompts.settled = module.prompts.keys_and_values(module, model.embedding.tokens.weight.dtype)
