"""A model's tensors in groups of equals, counted by formula: 80 layers cost no more than one, and nothing is built.

Names, shapes and numbers are those of `Transformer.named_parameters`; a test compares them for every family.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from paddock.catalog.fit import formats
from paddock.catalog.weighing import part_of
from paddock.model.rules import Row, Rule, attention_at
from paddock.model.spec import (
    Architecture,
    Attention,
    Block,
    Buckets,
    Experts,
    FeedForward,
    LastToken,
    LayerNorm,
    Learned,
    Norm,
)

LARGEST = 2**62  # numbers of a tensor: PyTorch's own limit, asked before it is asked


@dataclass(frozen=True)
class Group:
    """`count` tensors of one role and shape.

    name: the canonical name of the first. kind: how they are stored (`formats`). by_rows: a published tensor's rows are
    ours, so that codes can be kept as they are. view: the loader hands over the file's own pages; else it makes a copy.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    kind: str = "bf16"
    by_rows: bool = True
    view: bool = True

    @property
    def role(self) -> str:
        """What it is for, all layers alike: "attention.q", "norms"."""
        return part_of(self.name)

    @property
    def matrix(self) -> bool:
        """Whether it is used through kernels alone, which may hold it in a form of their own."""
        return len(self.shape) == 2 and not self.name.endswith("relative_bias.weight")

    @property
    def numbers(self) -> int:
        """Of all its tensors."""
        return self.count * math.prod(self.shape)

    @property
    def rows(self) -> int:
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def stored(self) -> int:
        """Bytes in the files."""
        return self.count * formats.file_bytes(self.kind, self.rows, self.columns)


def of(
    architecture: Architecture, kind: str, rules: Iterable[Rule] = (), inner: str | None = None
) -> tuple[Group, ...]:
    """Every group, stored as `kind`; matrices inside of blocks as `inner` where that is said."""
    groups = [Group(name, shape, count, kind) for name, shape, count in tensors(architecture)]
    known = [rule for rule in rules if rule.when(architecture)]
    shapes = {group.name: group.shape for group in groups}
    made = [_published(group, known, shapes, architecture) for group in groups]
    if inner is None:
        return tuple(made)
    return tuple(replace(group, kind=inner) if _quantisable(group, inner) else group for group in made)


def _quantisable(group: Group, kind: str) -> bool:
    inside = "blocks." in group.name and group.matrix and not group.name.endswith("router.weight")
    return inside and formats.fits_kernels(kind, group.columns)


def _published(group: Group, rules: list[Rule], shapes: Mapping[str, tuple[int, ...]], model: Architecture) -> Group:
    """With what the family's rules say about how the tensor is published."""
    answers = ((rule, found) for rule in rules if (found := rule.write(group.name)) is not None)
    rule, found = next(answers, (None, None))
    if rule is None or found is None or any(name not in shapes for name in found[1]):
        return group
    by_rows = not getattr(rule, "transpose", False) and not isinstance(rule, Row)
    if sum(math.prod(shapes[name]) for name in found[1]) > LARGEST:
        return replace(group, by_rows=by_rows)
    whole = torch.empty(rule.shape([torch.Size(shapes[name]) for name in found[1]]), device="meta")
    part = rule.split(whole, attention_at(model, group.name))[found[1].index(group.name)]
    same = part is whole or part._base is whole
    return replace(group, by_rows=by_rows, view=same and part.is_contiguous())


def tensors(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Canonical name of the first, shape, how many there are."""
    width, vocabulary, part = architecture.width, architecture.vocabulary, architecture.embedding
    yield "embedding.tokens.weight", (vocabulary, width), 1
    if isinstance(part.positions, Learned):
        yield "embedding.positions.weight", (part.positions.count, width), 1
    if part.segments:
        yield "embedding.segments.weight", (part.segments, width), 1
    yield from _norm("embedding.norm", part.norm, width, 1)
    for first, block, count in distinct(architecture):
        yield from _block(f"blocks.{first}", block, architecture, count)
    yield from _norm("norm", architecture.final_norm, width, 1)
    position = architecture.layer(0).attention.position
    if isinstance(position, Buckets):
        yield "relative_bias.weight", (position.count, architecture.layer(0).attention.heads), 1
    yield from _ends(architecture)
    if architecture.encoder is not None:
        for name, shape, count in tensors(architecture.encoder):
            if not (architecture.shared_embedding and name == "embedding.tokens.weight"):
                yield f"encoder.{name}", shape, count


def distinct(architecture: Architecture) -> list[tuple[int, Block, int]]:
    """Each kind of block: the first layer that has it, the block, how many layers there are of it."""
    if isinstance(architecture.block, Block):
        return [(0, architecture.block, architecture.blocks)]
    found: dict[Block, list[int]] = {}
    for layer, block in enumerate(architecture.block):
        found.setdefault(block, [layer, 0])[1] += 1
    return [(first, block, count) for block, (first, count) in found.items()]


def idle(architecture: Architecture, found: Iterable[Group]) -> int:
    """Numbers of the experts beyond those that one token is sent to."""
    total = 0
    sparse = [block.feedforward for _, block, _ in distinct(architecture) if isinstance(block.feedforward, Experts)]
    for group in found if sparse else ():
        if ".experts." in group.name:
            total += group.numbers // sparse[0].count * (sparse[0].count - sparse[0].active)
    return total


def _ends(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...], int]]:
    width, head, pooler = architecture.width, architecture.head, architecture.pooler
    if head is not None:
        if not head.tied:
            yield "head.weight", (architecture.vocabulary, width), 1
        if head.bias:
            yield "head.bias", (architecture.vocabulary,), 1
        if head.transform is not None:
            yield from _linear("head.transform", width, width, True, 1)
            yield from _norm("head.norm", head.transform.norm, width, 1)
    if isinstance(pooler, LastToken):
        yield from _linear("pooler.classes", pooler.labels, width, False, 1)
    elif pooler is not None:
        yield from _linear("pooler.dense", width, width, True, 1)
        if pooler.labels:
            yield from _linear("pooler.classes", pooler.labels, width, True, 1)
        if pooler.next_sentence:
            yield from _linear("pooler.next_sentence", 2, width, True, 1)


def _block(at: str, block: Block, architecture: Architecture, count: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    width = architecture.width
    yield from _norm(f"{at}.attention_norm", block.norm, width, count)
    yield from _attention(f"{at}.attention", block.attention, width, width, count)
    if block.cross is not None:
        assert architecture.encoder is not None, "cross-attention needs an encoder"
        yield from _norm(f"{at}.cross_norm", block.norm, width, count)
        yield from _attention(f"{at}.cross", block.cross, width, architecture.encoder.width, count)
    if not block.shared_norm:
        yield from _norm(f"{at}.feedforward_norm", block.norm, width, count)
    if isinstance(block.feedforward, Experts):
        experts = block.feedforward
        yield from _linear(f"{at}.feedforward.router", experts.count, width, False, count)
        yield from _feedforward(f"{at}.feedforward.experts.0", experts.each, width, count * experts.count)
    else:
        yield from _feedforward(f"{at}.feedforward", block.feedforward, width, count)


def _attention(
    at: str, part: Attention, width: int, memory: int, count: int
) -> Iterator[tuple[str, tuple[int, ...], int]]:
    own, kept = part.heads * part.head_dim, part.kv_heads * part.head_dim
    yield from _linear(f"{at}.q", own, width, part.qkv_bias, count)
    yield from _linear(f"{at}.k", kept, memory, part.qkv_bias, count)
    yield from _linear(f"{at}.v", kept, memory, part.qkv_bias, count)
    yield from _linear(f"{at}.out", width, own, part.out_bias, count)


def _feedforward(at: str, part: FeedForward, width: int, count: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    if part.gated:
        yield from _linear(f"{at}.gate", part.hidden, width, part.bias, count)
    yield from _linear(f"{at}.up", part.hidden, width, part.bias, count)
    yield from _linear(f"{at}.down", width, part.hidden, part.bias, count)


def _linear(at: str, rows: int, columns: int, bias: bool, count: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    yield f"{at}.weight", (rows, columns), count
    if bias:
        yield f"{at}.bias", (rows,), count


def _norm(at: str, part: Norm | None, width: int, count: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    if part is None:
        return
    yield f"{at}.weight", (width,), count
    if isinstance(part, LayerNorm) and part.bias:
        yield f"{at}.bias", (width,), count
