"""Who sees whom, and how near: the one place where masks and distance penalties become what `attend()` takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.model.position import alibi_bias, bucket_of
from paddock.model.spec import Alibi, Attention, Buckets, Full, Mask
from paddock.model.step import Step


@dataclass(frozen=True)
class Visibility:
    """`bias` is boolean (True = seen), float (added to scores) or None; `causal` stands for the plain triangle.

    `starts` (batch, tokens) goes with `causal`: a query sees nothing before this slot, where its document begins.
    """

    bias: Tensor | None
    causal: bool
    starts: Tensor | None = None


def self_visibility(mask: Mask, attention: Attention, step: Step, dtype: torch.dtype) -> Visibility:
    """What the tokens of `step` see of all slots so far.

    A plain causal mask stays a word, not a tensor, so that kernels can skip half the work; a single new token that sees
    everything needs no mask at all.
    """
    if step.ahead is not None:
        return _behind(step.ahead.count, mask, attention, step, dtype)
    penalty = _penalty(attention, step)
    if penalty is None and _only_documents(mask, attention, step):
        return Visibility(None, causal=True, starts=document_starts(step))
    allowed = _allowed(mask, attention.window, step)
    if penalty is None and allowed is None:
        return Visibility(None, causal=not isinstance(mask, Full) and step.tokens > 1)
    if penalty is None:
        return Visibility(allowed, causal=False)
    if allowed is None:
        allowed = _triangle(mask, step)
    if allowed is not None:
        penalty = penalty.masked_fill(~allowed, torch.finfo(dtype).min)
    return Visibility(penalty.to(dtype), causal=False)


def _behind(count: int, mask: Mask, attention: Attention, step: Step, dtype: torch.dtype) -> Visibility:
    """What tokens see where the keys of `count` others stand first: all of those, but for what a window leaves."""
    first = torch.arange(count, device=step.positions.device)
    allowed = _allowed(mask, attention.window, step)
    if allowed is None:
        allowed = _triangle(mask, step)
    alibi = isinstance(attention.position, Alibi)
    if allowed is None and attention.window is None and not alibi:
        return Visibility(None, causal=False)
    if allowed is None:
        allowed = torch.ones(1, 1, step.tokens, step.start + step.tokens, dtype=torch.bool, device=first.device)
    near = torch.ones(1, 1, step.tokens, count, dtype=torch.bool, device=first.device)
    if attention.window is not None:
        near = (step.positions[:, None, :, None] - first < attention.window) & near
    rows = max(len(near), len(allowed))
    seen = torch.cat([each.expand(rows, -1, -1, -1) for each in (near, allowed)], dim=-1)
    if not alibi:
        return Visibility(seen, causal=False)
    keys = _key_positions(step)
    keys = torch.cat((first.expand(len(keys), -1), keys), dim=1)
    assert isinstance(attention.position, Alibi)
    penalty = alibi_bias(attention.position, attention.heads, attention.multiplier, step.positions, keys)
    return Visibility(penalty.masked_fill(~seen, torch.finfo(dtype).min).to(dtype), causal=False)


def memory_visibility(step: Step) -> Visibility:
    """What a decoder sees of its encoder's output: all of it but the padding."""
    padding = step.memory_padding
    return Visibility(None if padding is None else padding[:, None, None, :], causal=False)


def document_starts(step: Step) -> Tensor:
    """(batch, tokens): the slot at which each token's document begins."""
    assert step.documents is not None
    slots = torch.arange(step.tokens, device=step.documents.device).expand_as(step.documents)
    new = torch.ones_like(step.documents, dtype=torch.bool)
    new[:, 1:] = step.documents[:, 1:] != step.documents[:, :-1]
    return torch.where(new, slots, 0).cummax(1).values


def _only_documents(mask: Mask, attention: Attention, step: Step) -> bool:
    """Whether a triangle for each document says it all."""
    if step.documents is None or isinstance(mask, Full) or step.padding is not None or step.prefix is not None:
        return False
    return attention.window is None or step.tokens <= attention.window


def _slots(step: Step) -> tuple[Tensor, Tensor]:
    device = step.positions.device
    keys = torch.arange(step.start + step.tokens, device=device)
    return keys[step.start :].unsqueeze(1), keys.unsqueeze(0)


def _triangle(mask: Mask, step: Step) -> Tensor | None:
    """(1, 1, queries, keys) True where a key is not later than the query; None where that is everything."""
    if isinstance(mask, Full) or step.tokens == 1:
        return None
    queries, keys = _slots(step)
    return (keys <= queries)[None, None]


def _allowed(mask: Mask, window: int | None, step: Step) -> Tensor | None:
    """(batch or 1, 1, queries, keys) bool, or None where the plain triangle (or nothing) says it all."""
    windowed = window is not None and step.start + step.tokens > window
    chunked = step.start > 0 and step.tokens > 1  # later pieces of a prompt: a triangle beside a full block
    if not windowed and not chunked and step.padding is None and step.prefix is None and step.documents is None:
        return None
    queries, keys = _slots(step)
    allowed = torch.ones_like(keys <= queries) if isinstance(mask, Full) else keys <= queries
    result = allowed[None, None]
    if windowed and window is not None:
        result = result & (_distance(step) < window).unsqueeze(1)
    if step.prefix is not None:
        result = result | (keys < step.prefix[:, None])[:, None, None, :].expand(-1, -1, step.tokens, -1)
    if step.documents is not None:
        result = result & (step.documents[:, :, None] == step.documents[:, None, :]).unsqueeze(1)
    if step.padding is not None:
        # A row of padding sees itself: softmax over nothing would be not-a-number and could spread.
        itself = (keys == queries)[None, None]
        result = (result & step.padding[:, None, None, :]) | itself
    return result


def _penalty(attention: Attention, step: Step) -> Tensor | None:
    match attention.position:
        case Alibi():
            keys = _key_positions(step)
            return alibi_bias(attention.position, attention.heads, attention.multiplier, step.positions, keys)
        case Buckets():
            assert step.relative_bias is not None, "a stack with bucketed positions owns their table"
            return step.relative_bias[bucket_of(attention.position, -_distance(step))].permute(0, 3, 1, 2).float()
    return None


def _distance(step: Step) -> Tensor:
    """(batch or 1, queries, keys) how many tokens back a key lies; padding between them does not count."""
    if step.padding is None:
        queries, keys = _slots(step)
        return (queries - keys).unsqueeze(0)
    return step.positions.unsqueeze(2) - _key_positions(step).unsqueeze(1)


def _key_positions(step: Step) -> Tensor:
    """(batch, slots) positions of all slots so far."""
    if step.documents is not None:
        return step.positions
    first = 0 if step.ahead is None else step.ahead.count
    if step.padding is not None:
        return (step.padding.long().cumsum(1) - 1).clamp(min=0) + first
    return torch.arange(first, first + step.start + step.tokens, device=step.positions.device).unsqueeze(0)
