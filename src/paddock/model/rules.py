"""Published tensor names and layouts, and canonical ones: rules that run both ways.

A rule's patterns name layers `{i}`, experts `{e}` and parameters `{p}` (weight or bias; old files say gamma and beta).
`[transformer.]` may be absent on load and is written on save. Where two rules of a family can produce the same
canonical name, the first is the spelling that is saved. The rules live in the model room because each family's
file states its own; the checkpoint room applies them. PyTorch is imported where tensors are joined, so that what a
model is can be told from its config.json without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from paddock.model.spec import Architecture, Attention

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HOLES = {"i": r"\d{1,5}", "e": r"\d{1,5}", "p": "weight|bias|gamma|beta"}
OLD_NAMES = {"gamma": "weight", "beta": "bias"}


def pattern(template: str) -> re.Pattern[str]:
    """A template as a regular expression with a group per hole."""
    parts = re.split(r"(\{\w\}|\[[^]]*\]|\*)", template)
    text = ""
    for part in parts:
        if part.startswith("{"):
            text += f"(?P<{part[1]}>{HOLES[part[1]]})"
        elif part.startswith("["):
            text += f"(?:{re.escape(part[1:-1])})?"
        elif part == "*":
            text += ".*"
        else:
            text += re.escape(part)
    return re.compile(text)


def fill(template: str, holes: dict[str, str]) -> str:
    """A template with its holes filled and its optional parts written."""
    text = template.replace("[", "").replace("]", "")
    for hole, value in holes.items():
        text = text.replace("{" + hole + "}", OLD_NAMES.get(value, value))
    return text


@dataclass(frozen=True)
class Rule:
    """One published tensor, `theirs`, holds one or more canonical ones, `ours`, in architectures where `when` holds."""

    theirs: str
    when: Callable[[Architecture], bool] = field(default=lambda architecture: True, kw_only=True)

    @property
    def ours(self) -> tuple[str, ...]:
        return ()

    @cached_property
    def _theirs(self) -> re.Pattern[str]:
        return pattern(self.theirs)

    @cached_property
    def _ours(self) -> tuple[re.Pattern[str], ...]:
        return tuple(pattern(name) for name in self.ours)

    def read(self, name: str) -> tuple[str, ...] | None:
        """The canonical names held by the published tensor `name`; None if the rule is not about it."""
        match = self._theirs.fullmatch(name)
        return tuple(fill(ours, match.groupdict()) for ours in self.ours) if match else None

    def write(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """The published name that holds canonical `name`, and all canonical names it holds; None if not this rule's."""
        for mine in self._ours:
            match = mine.fullmatch(name)
            if match:
                holes = match.groupdict()
                return fill(self.theirs, holes), tuple(fill(ours, holes) for ours in self.ours)
        return None

    def split(self, tensor: Tensor, attention: Attention | None) -> tuple[Tensor, ...]:
        """The published tensor as canonical ones. `attention` is the layer's, for fused projections."""
        return (tensor,)

    def join(self, tensors: Sequence[Tensor], attention: Attention | None) -> Tensor:
        """The inverse of split."""
        return tensors[0]

    def shape(self, shapes: Sequence[torch.Size]) -> tuple[int, ...]:
        """The published shape, from the canonical ones."""
        return tuple(shapes[0])


@dataclass(frozen=True)
class Rename(Rule):
    """The same numbers under another name; `transpose` for matrices stored (in, out), as GPT-2 does."""

    name: str = ""
    transpose: bool = False

    @property
    def ours(self) -> tuple[str, ...]:
        return (self.name,)

    def split(self, tensor: Tensor, attention: Attention | None) -> tuple[Tensor, ...]:
        return (self._turn(tensor),)

    def join(self, tensors: Sequence[Tensor], attention: Attention | None) -> Tensor:
        return self._turn(tensors[0])

    def shape(self, shapes: Sequence[torch.Size]) -> tuple[int, ...]:
        return tuple(reversed(shapes[0])) if self.transpose else tuple(shapes[0])

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.T if self.transpose and tensor.dim() == 2 else tensor


@dataclass(frozen=True)
class SplitQKV(Rule):
    """One fused projection, rows cut into q, k, v.

    layout      rows                                       families
    concat      [all q | all k | all v]                    GPT-2, MPT, ChatGLM2
    grouped     per key-value head: [its q heads | k | v]  BLOOM, Pythia, ChatGLM-6B, Falcon (all three)
    codegen     four parts, each [q | v | k]               CodeGen, MOSS
    """

    layout: Literal["concat", "grouped", "codegen"] = "concat"
    at: str = "blocks.{i}.attention"
    transpose: bool = False
    parts: int = 4  # codegen: how many devices it was trained on

    @property
    def ours(self) -> tuple[str, ...]:
        suffix = ".{p}" if "{p}" in self.theirs else ".weight"
        return tuple(f"{self.at}.{role}{suffix}" for role in "qkv")

    def split(self, tensor: Tensor, attention: Attention | None) -> tuple[Tensor, ...]:
        assert attention is not None
        rows = tensor.T if self.transpose and tensor.dim() == 2 else tensor
        rest = rows.shape[1:]
        q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        if self.layout == "concat":
            return rows.split((q, kv, kv))
        if self.layout == "grouped":
            each = attention.heads // attention.kv_heads
            groups = rows.view(attention.kv_heads, each + 2, attention.head_dim, *rest)
            cut = groups.split((each, 1, 1), dim=1)
            return tuple(part.reshape(-1, *rest) for part in cut)
        query, value, key = rows.view(self.parts, 3, -1, *rest).unbind(1)
        return tuple(part.reshape(-1, *rest) for part in (query, key, value))

    def join(self, tensors: Sequence[Tensor], attention: Attention | None) -> Tensor:
        import torch

        assert attention is not None
        rest = tensors[0].shape[1:]
        if self.layout == "concat":
            rows = torch.cat(tuple(tensors))
        elif self.layout == "grouped":
            view = (attention.kv_heads, -1, attention.head_dim, *rest)
            rows = torch.cat([t.reshape(view) for t in tensors], dim=1).reshape(-1, *rest)
        else:
            q, k, v = (t.reshape(self.parts, -1, *rest) for t in tensors)
            rows = torch.stack((q, v, k), dim=1).reshape(-1, *rest)
        return rows.T if self.transpose and rows.dim() == 2 else rows

    def shape(self, shapes: Sequence[torch.Size]) -> tuple[int, ...]:
        rows = (sum(s[0] for s in shapes), *shapes[0][1:])
        return tuple(reversed(rows)) if self.transpose else rows


@dataclass(frozen=True)
class Stack(Rule):
    """Several canonical matrices, one above the other in the order given: [gate | up], or [k | v]."""

    names: tuple[str, ...] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        return self.names

    def split(self, tensor: Tensor, attention: Attention | None) -> tuple[Tensor, ...]:
        return tensor.chunk(len(self.names))

    def join(self, tensors: Sequence[Tensor], attention: Attention | None) -> Tensor:
        import torch

        return torch.cat(tuple(tensors))

    def shape(self, shapes: Sequence[torch.Size]) -> tuple[int, ...]:
        return (sum(s[0] for s in shapes), *shapes[0][1:])


@dataclass(frozen=True)
class Row(Rename):
    """A vector stored as a matrix of one row."""

    def split(self, tensor: Tensor, attention: Attention | None) -> tuple[Tensor, ...]:
        return (tensor[0],)

    def join(self, tensors: Sequence[Tensor], attention: Attention | None) -> Tensor:
        return tensors[0].unsqueeze(0)

    def shape(self, shapes: Sequence[torch.Size]) -> tuple[int, ...]:
        return (1, *shapes[0])


@dataclass(frozen=True)
class Drop(Rule):
    """A buffer that is recomputed (causal masks, rotary tables): read past, never written."""


def attention_at(architecture: Architecture, name: str) -> Attention | None:
    """The attention that the canonical parameter `name` belongs to, if it belongs to one."""
    if name.startswith("encoder.") and architecture.encoder is not None:
        return attention_at(architecture.encoder, name.removeprefix("encoder."))
    match = re.match(r"blocks\.(\d+)\.(attention|cross)\.", name)
    if not match or int(match[1]) >= architecture.blocks:
        return None
    block = architecture.layer(int(match[1]))
    return block.attention if match[2] == "attention" else block.cross
