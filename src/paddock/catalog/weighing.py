"""What a model's parts weigh, known from descriptions alone: no tensor is read."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from paddock.checkpoint.checkpoint import Checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.weights import TIED, Placed, place, sketch
from paddock.model.families import family
from paddock.model.spec import Architecture, Experts

WEIGHT_FILES = {".safetensors", ".bin", ".gguf"}


@dataclass(frozen=True)
class Part:
    """All parameters of one role, over all layers. `bytes`: in memory, in the stored types."""

    name: str
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Weights:
    """parameters: tied ones counted once. active: those that one token passes through, all but idle experts.

    bytes: in memory. dtypes: bytes by type. missing: canonical names that no tensor holds.
    """

    parameters: int
    active: int
    bytes: int
    parts: tuple[Part, ...]
    dtypes: dict[str, int]
    missing: tuple[str, ...]
    cache_bytes_per_token: int


def weigh(checkpoint: Checkpoint) -> Weights:
    """Counts parameters and bytes by part. Raises CheckpointError for tensors that have no place in the model."""
    architecture = checkpoint.architecture
    model = sketch(architecture, len(checkpoint.tensors))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    types = _types(checkpoint, shapes)
    parts: dict[str, list[int]] = {}
    dtypes: dict[str, int] = {}
    for name, shape in shapes.items():
        count, dtype = torch.Size(shape).numel(), types.get(name, torch.float32)
        row = parts.setdefault(part_of(name), [0, 0, 0])
        for place_, value in enumerate((1, count, count * dtype.itemsize)):
            row[place_] += value
        label = str(dtype).removeprefix("torch.")
        dtypes[label] = dtypes.get(label, 0) + count * dtype.itemsize
    per_token = architecture.cache_values_per_token() if architecture.generates else 0
    return Weights(
        sum(row[1] for row in parts.values()),
        sum(torch.Size(shape).numel() for name, shape in shapes.items() if not _idle(name, architecture)),
        sum(row[2] for row in parts.values()),
        tuple(Part(name, *row) for name, row in parts.items()),
        dtypes,
        tuple(name for name in shapes if name not in types),
        per_token * types.get("embedding.tokens.weight", torch.float32).itemsize,
    )


def _idle(name: str, architecture: Architecture) -> bool:
    """Whether a parameter belongs to an expert beyond the number that a token is sent to."""
    match = re.match(r"blocks\.(\d+)\.feedforward\.experts\.(\d+)\.", name)
    if match is None:
        return False
    part = architecture.layer(int(match[1])).feedforward
    return isinstance(part, Experts) and int(match[2]) >= part.active


def _types(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.dtype]:
    """The stored type of every canonical parameter that the checkpoint holds."""
    return {own: item.stored.dtype for own, item in homes(checkpoint, shapes).items()}


def homes(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> dict[str, Placed]:
    """The published tensor that holds each canonical parameter. Raises CheckpointError for one that has no place."""
    architecture = checkpoint.architecture
    rules = [rule for rule in family(checkpoint.config).RULES if rule.when(architecture)]
    found: dict[str, Placed] = {}
    for name, stored in checkpoint.tensors.items():
        item = place(name, stored, rules, architecture, shapes)
        for own in item.ours:
            found[own if own in shapes else TIED[own]] = item
    return found


def part_of(name: str) -> str:
    """A parameter's role: `blocks.3.attention.q.weight` is `attention.q`, all norms are `norms`."""
    side, name = ("encoder.", name.removeprefix("encoder.")) if name.startswith("encoder.") else ("", name)
    role = re.sub(r"\b(blocks|experts)\.\d+\.", "", name).rpartition(".")[0]
    return side + ("norms" if "norm" in role.split(".")[-1] else role or name)


def stored_as(checkpoint: Checkpoint) -> dict[str, int]:
    """How many tensors lie in the files in each number type."""
    if checkpoint.kind == "gguf":
        names = [info.type.name for info in GGUFFile(checkpoint.path).tensors.values()]
    else:
        names = [
            stored.codes.format if stored.codes else str(stored.dtype).removeprefix("torch.")
            for stored in checkpoint.tensors.values()
        ]
    return {name: names.count(name) for name in sorted(set(names), key=names.count, reverse=True)}


def files_of(checkpoint: Checkpoint) -> dict[str, int]:
    """The files that hold the weights, and their sizes."""
    path = checkpoint.path
    if path.is_file():
        return {path.name: path.stat().st_size}
    found = sorted(p for p in path.iterdir() if p.suffix in WEIGHT_FILES and p.is_file() and p.name != "tokenizer.bin")
    return {p.name: p.stat().st_size for p in found}
