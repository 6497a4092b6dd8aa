"""Attention by role: q, k, v, out. Over the same text with a cache, or over an encoder's output."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from paddock import kernels
from paddock.model import spec
from paddock.model.linear import Linear, together
from paddock.model.position import rotation
from paddock.model.step import Step
from paddock.model.visibility import memory_visibility, self_visibility


class SelfAttention(nn.Module):
    """(batch, tokens, width) to the same. Grouped heads: kv_heads = heads (multi-head), 1 (multi-query) or between.

    q heads   0 1 2 3 4 5 6 7        head h reads key-value head h // (heads / kv_heads)
    kv heads  0   1   2   3
    """

    def __init__(self, part: spec.Attention, width: int, mask: spec.Mask, layer: int) -> None:
        super().__init__()
        self.part, self.mask, self.layer = part, mask, layer
        self.of_heads: Callable[[Tensor], Tensor] | None = None  # cuts a bias to the heads here, if not all are
        self.prompts: Callable[[Tensor, SelfAttention], Tensor] | None = None  # what an adapter's tokens add
        self.q = Linear(width, part.heads * part.head_dim, bias=part.qkv_bias)
        self.k = Linear(width, part.kv_heads * part.head_dim, bias=part.qkv_bias)
        self.v = Linear(width, part.kv_heads * part.head_dim, bias=part.qkv_bias)
        self.out = Linear(part.heads * part.head_dim, width, bias=part.out_bias)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = (split_heads(each, self.part) for each in together(x, (self.q, self.k, self.v)))
        if self.part.clip is not None:
            q, k, v = (t.clamp(-self.part.clip, self.part.clip) for t in (q, k, v))
        q, k = rotate(self.part, q, k, step)
        if step.cache is not None:
            k, v = step.cache.put(self.layer, k, v)
        if step.ahead is not None:
            k, v = step.ahead.before(self.layer, k, v)
        seen = step.memo.get((self.part, q.dtype))
        if seen is None:  # equal parts see equally: the first layer computes it for all
            seen = self_visibility(self.mask, self.part, step, q.dtype)
            # What is learned (T5's distances) belongs to the block that will compute it again for its own gradient.
            if not (step.recompute and seen.bias is not None and seen.bias.requires_grad):
                step.memo[self.part, q.dtype] = seen
        bias = seen.bias if self.of_heads is None or seen.bias is None else self.of_heads(seen.bias)
        y = kernels.attend(q, k, v, bias, seen.causal, self.part.multiplier, seen.starts)
        if self.prompts is not None:
            y = y + self.prompts(q, self)
        return self.out(merge_heads(y))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of vectors (batch, count, width) that have no position: (batch, kv_heads, count, head_dim) each."""
        k, v = (split_heads(each, self.part) for each in together(x, (self.k, self.v)))
        if self.part.clip is not None:
            k, v = (t.clamp(-self.part.clip, self.part.clip) for t in (k, v))
        return k, v


class CrossAttention(nn.Module):
    """Queries from the decoder; keys and values from the encoder's output, computed once per source."""

    def __init__(self, part: spec.Attention, width: int, memory_width: int, layer: int) -> None:
        super().__init__()
        self.part, self.layer = part, layer
        self.q = Linear(width, part.heads * part.head_dim, bias=part.qkv_bias)
        self.k = Linear(memory_width, part.kv_heads * part.head_dim, bias=part.qkv_bias)
        self.v = Linear(memory_width, part.kv_heads * part.head_dim, bias=part.qkv_bias)
        self.out = Linear(part.heads * part.head_dim, width, bias=part.out_bias)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q = split_heads(self.q(x), self.part)
        k, v = self.keys_and_values(step)
        seen = memory_visibility(step)
        y = kernels.attend(q, k, v, seen.bias, seen.causal, self.part.multiplier)
        return self.out(merge_heads(y))

    def keys_and_values(self, step: Step) -> tuple[Tensor, Tensor]:
        if step.cache is not None and self.layer in step.cache.cross:
            return step.cache.cross[self.layer]
        assert step.memory is not None, "a decoder with cross-attention needs its encoder's output in the step"
        k, v = split_heads(self.k(step.memory), self.part), split_heads(self.v(step.memory), self.part)
        if step.cache is not None:
            step.cache.cross[self.layer] = (k, v)
        return k, v


def split_heads(x: Tensor, part: spec.Attention) -> Tensor:
    """(batch, tokens, heads * head_dim) to (batch, heads, tokens, head_dim)."""
    return x.unflatten(-1, (-1, part.head_dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of split_heads."""
    return x.transpose(1, 2).flatten(-2)


def rotate(part: spec.Attention, q: Tensor, k: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Applies rotary positions, if the part has them; the angles are computed once per step."""
    rope = part.position
    if not isinstance(rope, spec.Rope | spec.Rope2D):
        return q, k
    if rope not in step.memo:
        step.memo[rope] = rotation(rope, step.positions, step.length)
    if isinstance(rope, spec.Rope):
        cos, sin = step.memo[rope]
        return tuple(kernels.rotate(x, cos, sin, rope.interleaved) for x in (q, k))  # type: ignore[return-value]
    cos1, sin1, cos2, sin2 = step.memo[rope]
    q, k = (kernels.rotate(x, cos1, sin1, interleaved=False) for x in (q, k))
    return tuple(kernels.rotate(x, cos2, sin2, False, first=rope.width) for x in (q, k))  # type: ignore[return-value]
