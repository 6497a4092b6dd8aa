"""A larger model that begins as the same function: training goes on from what the small one knows.

Every old number is kept at its place in larger matrices, and of every new path one end is zero: new features of the
residual stream are not written, new feed-forward units and heads are not added, new layers are copies whose outputs
are zero. The other ends are drawn, so that every new number has a gradient within a few steps. Sources: Net2Net
(arXiv 1511.05641), composable function-preserving expansions (arXiv 2308.06103), LLaMA Pro (arXiv 2401.02415).

    width D to W   RMSNorm's root mean square over W is sqrt(D/W) of that over D, as what is new is zero: weights are
                   multiplied by sqrt(D/W) and eps by D/W, and it gives what it gave
    head h to r*h  feature pair i turns at theta^(-2i/h), which is pair r*i of the larger head; scores are divided by
                   sqrt(r*h) now, so queries are multiplied by sqrt(r)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.checkpoint import Checkpoint, understand
from paddock.checkpoint.weights import sketch
from paddock.errors import UnsupportedError, UsageError, did_you_mean
from paddock.model.initialise import blank, drawn
from paddock.model.spec import Architecture, FeedForward, RMSNorm, Rope
from paddock.model.transformer import Transformer

MOST = 64  # times each size
ROTATES = ("q", "k")


def grown(checkpoint: Checkpoint, asked: object, seed: int) -> tuple[Transformer, dict[str, Any]]:
    """The model of a checkpoint in float32, larger, and its config.json: logits equal to rounding.

    asked: sizes in the words of config.json (`hidden_size`, `num_hidden_layers`, `num_attention_heads`, `head_dim`,
    `intermediate_size`); key-value heads grow with the query heads. seed: of the numbers that are drawn.
    Raises UsageError for sizes that do not follow from the model's own, UnsupportedError for a model of another kind.
    """
    config = larger(checkpoint, asked)
    return enlarged(checkpoint.model(torch.float32), understand(config), seed), config


def larger(checkpoint: Checkpoint, asked: object) -> dict[str, Any]:
    """config.json of the larger model. Raises what `grown` raises."""
    part = checkpoint.architecture
    _check_kind(part)
    block = part.layer(0)
    attention, feedforward, norm = block.attention, block.feedforward, block.norm
    assert isinstance(feedforward, FeedForward) and isinstance(norm, RMSNorm)
    now = {
        "hidden_size": part.width,
        "num_hidden_layers": part.blocks,
        "num_attention_heads": attention.heads,
        "head_dim": attention.head_dim,
        "intermediate_size": feedforward.hidden,
    }
    sizes = now | _sizes(asked, now)
    for key, unit, why in (
        ("num_attention_heads", attention.heads // attention.kv_heads, "as many share a key-value head"),
        ("head_dim", attention.head_dim, "its rotary frequencies lie among the new ones"),
    ):
        if sizes[key] % unit:
            raise UsageError(f"model.grow: {key} {sizes[key]}", expected=f"a multiple of the model's {unit}: {why}")
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        what = f"{sizes['hidden_size']}, which {sizes['num_attention_heads']} heads cannot share evenly"
        raise UsageError(f"model.grow: hidden_size {what}", expected="a multiple of them, as transformers asks for")
    shared = {"num_key_value_heads": sizes["num_attention_heads"] * attention.kv_heads // attention.heads}
    eps = {"rms_norm_eps": norm.eps * part.width / sizes["hidden_size"]}
    return dict(checkpoint.config) | sizes | shared | eps


def _sizes(asked: object, now: Mapping[str, int]) -> dict[str, int]:
    """The sizes asked for, checked against the model's own."""
    if not isinstance(asked, Mapping) or not asked:
        raise UsageError(f"model.grow is {str(asked)[:40]!r}", expected=f"some of {', '.join(now)}")
    for key, size in asked.items():
        if key not in now:
            hint = did_you_mean(str(key), now) or f"one of {', '.join(now)}"
            raise UsageError(f"model.grow has no {str(key)[:40]!r}", fix=hint)
        if isinstance(size, bool) or not isinstance(size, int) or not now[key] <= size <= now[key] * MOST:
            expected = f"from {now[key]}, the model's, to {now[key] * MOST}"
            raise UsageError(f"model.grow: {key} {str(size)[:40]}", expected=expected)
    return {str(key): int(size) for key, size in asked.items()}


def enlarged(small: Transformer, architecture: Architecture, seed: int) -> Transformer:
    """`small` within the larger sizes of `architecture`: the same function."""
    large = blank(sketch(architecture)).to(small.embedding.tokens.weight.dtype)
    sources = _sources(small.architecture.blocks, architecture.blocks)
    old = dict(small.named_parameters())
    kept = _Places(small.architecture, architecture)
    with torch.no_grad():
        for name, parameter in large.named_parameters():
            source, fresh = _source(name, sources)
            kept.fill(parameter, old[source], name, seed, fresh)
    return large.eval()


def _sources(before: int, after: int) -> list[tuple[int, bool]]:
    """For each layer of the larger model the old layer it comes from, and whether it is a new copy behind that one."""
    found: list[tuple[int, bool]] = []
    for layer in range(before):
        copies = (layer + 1) * after // before - layer * after // before
        found += [(layer, copy > 0) for copy in range(copies)]
    return found


def _source(name: str, sources: list[tuple[int, bool]]) -> tuple[str, bool]:
    """The old parameter that `name` comes from, and whether its layer is a new one."""
    parts = name.split(".")
    if parts[0] != "blocks":
        return name, False
    layer, fresh = sources[int(parts[1])]
    return ".".join(["blocks", str(layer), *parts[2:]]), fresh


class _Places:
    """Where old rows and columns lie in the larger matrices, and what stands beside them."""

    def __init__(self, small: Architecture, large: Architecture) -> None:
        old, new = small.layer(0).attention, large.layer(0).attention
        self.width, self.wide = small.width, large.width
        self.ratio = new.head_dim // old.head_dim
        self.old_dim, self.new_dim = old.head_dim, new.head_dim
        self.heads = {"q": old.heads, "k": old.kv_heads, "v": old.kv_heads, "out": old.heads}

    def fill(self, large: Tensor, small: Tensor, name: str, seed: int, fresh: bool) -> None:
        """The numbers of one larger parameter. `fresh`: of a layer that is to add nothing at first."""
        if small.dim() == 1:
            shrink = math.sqrt(self.width / self.wide)
            large.fill_(float(small.float().mean()) * shrink)
            large[: len(small)] = small * shrink
            return
        role = name.split(".")[-2]
        if role in ("tokens", "out", "down"):  # what writes to the residual stream
            large.zero_()
        else:
            large.normal_(0.0, float(small.float().std()), generator=drawn(seed, name))
        if fresh and role in ("out", "down"):
            return
        rows, columns = (torch.arange(size) for size in small.shape)
        if role == "out":
            columns = self.features(role)
        elif role in self.heads:
            rows = self.features(role)
        if role == "q" and self.ratio > 1:  # new features of old heads add nothing to their scores
            large[: self.heads["q"] * self.new_dim] = 0
        scale = math.sqrt(self.ratio) if role == "q" else 1.0
        large[rows[:, None], columns[None, :]] = small * scale

    def features(self, role: str) -> Tensor:
        """Where the features of the old heads lie among those of the new ones."""
        within = torch.arange(self.old_dim)
        if role in ROTATES:
            half = self.old_dim // 2
            within = within % half * self.ratio + within // half * (self.new_dim // 2)
        return (torch.arange(self.heads[role])[:, None] * self.new_dim + within).flatten()


def _check_kind(part: Architecture) -> None:
    """Refuses what is no plain LLaMA: these rules were worked out, and tested, for its norms, positions and wiring."""
    block = part.layer(0)
    attention, feedforward = block.attention, block.feedforward
    plain = part.family == "llama" and part.head is not None and isinstance(feedforward, FeedForward)
    if (
        not plain
        or attention.qkv_bias
        or attention.out_bias
        or (isinstance(feedforward, FeedForward) and feedforward.bias)
    ):
        raise UnsupportedError(
            f"this {part.family} cannot be grown", expected="a LLaMA with a head over the vocabulary and no biases"
        )
    rope = attention.position
    if not isinstance(rope, Rope) or rope.scaling is not None or rope.width != attention.head_dim:
        raise UnsupportedError("the model's rotary positions are scaled or partial", expected="plain ones to grow from")
