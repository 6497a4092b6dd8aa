"""A checkpoint as the metadata and tensors of a GGUF file: the inverse of `gguf_families`.

Nothing is taken on trust: before a weight is read, the outline goes through Paddock's own GGUF reader, and what that
understands must be the model that went in. So a setting that the format cannot say is refused, not dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import gguf_families
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.checkpoint import Checkpoint, understand
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_header import TensorInfo
from paddock.checkpoint.gguf_saving import keys, labels, names
from paddock.checkpoint.gguf_write import NUMBERS, Value
from paddock.checkpoint.rows import interleaved_rotation
from paddock.checkpoint.weights import TIED, Placed, place, sketch
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.families import family
from paddock.model.position import frequencies
from paddock.model.rules import attention_at
from paddock.model.spec import Architecture, Pooler, Rope

ROPE_FREQS = "rope_freqs.weight"


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor to be written: `load()` gives them, (rows, columns) or (values,), `release()` lets go."""

    load: Callable[[], Tensor]
    release: Callable[[], None]


@dataclass(frozen=True)
class Outgoing:
    """A tensor of the file to be, not read yet. `ours` are the parameters in it; the pieces' rows follow each other."""

    name: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Outline:
    """`metadata` without vocabulary and general remarks; `dropped` names parameters that GGUF has no place for."""

    architecture: str
    metadata: dict[str, Value]
    tensors: list[Outgoing]
    dropped: list[str]


def outline(checkpoint: Checkpoint) -> Outline:
    """The GGUF file of a checkpoint. Raises UnsupportedError, with the reason, for a model that GGUF cannot say."""
    part = checkpoint.architecture
    metadata = keys.described(part, checkpoint.config) | labels.described(part, checkpoint.config)
    name = str(metadata["general.architecture"])
    sources = _sources(checkpoint)
    dropped = _without_place(part, sources)
    tensors = [
        _outgoing(group, sources, part, name) for group in names.grouped(name, [n for n in sources if n not in dropped])
    ]
    table = keys.divisors(part)
    if table is not None:
        piece = Piece(lambda: table, _nothing)
        tensors.insert(0, Outgoing(ROPE_FREQS, (len(table),), (), (piece,)))
    _check_meaning(checkpoint, metadata, tensors, table)
    return Outline(name, metadata, tensors, dropped)


def _nothing() -> None:
    pass


def _without_place(part: Architecture, sources: Mapping[str, Any]) -> list[str]:
    """A BERT's pooler without classes, which llama.cpp leaves out as retrieval does not use it."""
    if part.pooler is None or part.pooler != Pooler() or part.head is not None:
        return []
    return [own for own in sources if own.startswith("pooler.")]


@dataclass(frozen=True)
class _Source:
    """Where a canonical parameter comes from, and its shape."""

    item: Placed
    own: str
    shape: tuple[int, ...]
    architecture: Architecture

    def load(self) -> Tensor:
        parts = self.item.rule.split(self.item.stored.load(), attention_at(self.architecture, self.item.ours[0]))
        return parts[self.item.ours.index(self.own)]


def _sources(checkpoint: Checkpoint) -> dict[str, _Source]:
    """Every canonical parameter, in the model's order; a tied one only under the name it is tied to."""
    part = checkpoint.architecture
    expected = {name: tuple(p.shape) for name, p in sketch(part, len(checkpoint.tensors)).named_parameters()}
    rules = [rule for rule in family(checkpoint.config).RULES if rule.when(part)]
    found: dict[str, _Source] = {}
    for name, stored in checkpoint.tensors.items():
        item = place(name, stored, rules, part, expected)
        for own in item.ours:
            home = own if own in expected else TIED[own]
            if own in expected or home not in found:
                found[home] = _Source(item, own, expected[home], part)
    if missing := [name for name in expected if name not in found]:
        raise CheckpointError(f"the weights lack {', '.join(missing[:6])}", fix="download or copy the model's files")
    return {name: found[name] for name in expected}


def _outgoing(group: names.Group, sources: Mapping[str, _Source], part: Architecture, name: str) -> Outgoing:
    held = [sources[own] for own in group.ours]
    first = held[0].shape
    rows = sum(source.shape[0] for source in held)
    shape = (len(held), *first) if group.experts else (rows, *first[1:])
    return Outgoing(
        group.name,
        shape,
        group.ours,
        tuple(_piece(source, own, part, name) for source, own in zip(held, group.ours, strict=True)),
    )


def _piece(source: _Source, own: str, part: Architecture, name: str) -> Piece:
    """Queries and keys of `llama` are stored in the order of interleaved rotation, and only of `llama`."""
    release = source.item.stored.release
    role = own.split(".")[-2]
    attention = attention_at(part, own)
    if name != "llama" or role not in ("q", "k") or attention is None:
        return Piece(source.load, release)
    heads = attention.heads if role == "q" else attention.kv_heads
    return Piece(lambda: interleaved_rotation(source.load(), heads), release)


class _Draft(GGUFFile):
    """A GGUF file that is not written yet, for the reader to look at."""

    def __init__(self, metadata: dict[str, Any], tensors: list[Outgoing], table: Tensor | None) -> None:
        self.metadata = metadata
        self.file: Any = SimpleNamespace(name="the GGUF file to be", forget=lambda offset, size: None)
        kind = TYPES[NUMBERS["F32"]]
        self.tensors = {t.name: TensorInfo(t.name, kind, t.shape, 0, 4 * math.prod(t.shape)) for t in tensors}
        self._table = table

    def tensor(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        assert name == ROPE_FREQS and self._table is not None
        return self._table.to(dtype)


def _check_meaning(
    checkpoint: Checkpoint, metadata: Mapping[str, Value], tensors: list[Outgoing], table: Tensor | None
) -> None:
    """Refuses what would come back as another model."""
    config, found = gguf_families.read(_Draft(dict(metadata), tensors, table))
    before, after = checkpoint.architecture, understand(config, found.keys())
    change = difference(before, after)
    if change:
        raise UnsupportedError(
            f"a GGUF file cannot say {change[0]}: it would come back as {change[2]}",
            expected=f"{change[1]}",
            fix="write a Hugging Face folder",
        )


def difference(before: Architecture, after: Architecture) -> tuple[str, str, str] | None:
    """The first part in which two architectures compute otherwise: its name and both values.

    Family names do not count (GGUF's `llama` is several), nor the context of a Falcon, which files never state, nor a
    pooler without classes; rotary frequencies count as equal within float32.
    """
    unlike: dict[str, Any] = {"family": after.family}
    if before.pooler == Pooler():
        unlike["pooler"] = after.pooler
    if before.family == "falcon" or before.context is None:
        unlike["context"] = after.context
    return _differs("", replace(before, **unlike), after)


def _differs(where: str, one: Any, two: Any) -> tuple[str, str, str] | None:
    if isinstance(one, Rope) and isinstance(two, Rope) and _same_angles(one, two):
        return None
    if type(one) is type(two) and is_dataclass(one):
        pairs = [(f"{where}.{f.name}", getattr(one, f.name), getattr(two, f.name)) for f in fields(one)]
        skip = ".encoder.family"
        return next((d for name, a, b in pairs if name != skip and (d := _differs(name, a, b))), None)
    return None if one == two else (where.removeprefix("."), str(one)[:120], str(two)[:120])


def _same_angles(one: Rope, two: Rope) -> bool:
    """Whether both turn alike; YaRN's sharpening and the growth of dynamic scaling are no matter of frequencies."""
    if (one.width, one.interleaved) != (two.width, two.interleaved):
        return False
    if getattr(one.scaling, "attention", 1.0) != getattr(two.scaling, "attention", 1.0):
        return False
    here = torch.device("cpu")
    return torch.allclose(frequencies(one, 0, here), frequencies(two, 0, here), rtol=1e-5, atol=0)
