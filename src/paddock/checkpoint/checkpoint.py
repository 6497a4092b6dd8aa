"""One way to open a model at rest, whatever it lies in: a folder, a GGUF file or a llama2.c file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint import folder as hf
from paddock.checkpoint import gguf_families, llama2c
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import build
from paddock.errors import CheckpointError, UsageError
from paddock.model.families import describe, family
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A model at rest: what it is, where its numbers lie, what was published beside them. Nothing is read yet.

    `config` is a Hugging Face configuration whatever the file was; `tensors` are under Hugging Face names;
    `generation` are the sampling defaults published with the model.
    """

    path: Path
    kind: str  # "folder", "gguf" or "llama2.c"
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    architecture: Architecture
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stored_bytes(self) -> int:
        """Size of the weights once in memory in their own type."""
        total = 0
        for stored in self.tensors.values():
            total += torch.Size(stored.shape).numel() * stored.dtype.itemsize
        return total

    def model(
        self, dtype: str | torch.dtype = "auto", device: torch.device | str = "cpu", check_finite: bool = True
    ) -> Transformer:
        """The Transformer with its weights. `dtype` "auto" keeps the stored types."""
        chosen = None if dtype == "auto" else dtype if isinstance(dtype, torch.dtype) else _dtype(dtype)
        rules = family(self.config).RULES
        return build(self.architecture, self.tensors, rules, dtype=chosen, device=device, check_finite=check_finite)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}", expected="auto, " + ", ".join(DTYPES))
    return DTYPES[name]


def open_checkpoint(path: str | Path, ignore_config: Collection[str] = ()) -> Checkpoint:
    """Opens a model folder, a `.gguf` file or a llama2.c `.bin`. Reads descriptions only.

    Raises CheckpointError for what is corrupt, UnsupportedError for what Paddock does not run. `ignore_config` names
    configuration keys to be passed over.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        config, tensors = hf.read_config(path), hf.read_tensors(path)
        generation = hf.read_generation(path)
        kind = "folder"
    elif path.is_file():
        kind, (config, tensors) = _read_file(path)
        generation = {}
    else:
        raise CheckpointError(f"{path} is missing", expected="a model folder, a .gguf file or a llama2.c .bin file")
    architecture = describe(config, tensors.keys(), ignore_config)
    return Checkpoint(path, kind, config, tensors, architecture, generation)


def _read_file(path: Path) -> tuple[str, tuple[dict[str, Any], dict[str, Stored]]]:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF" or path.suffix == ".gguf":
        return "gguf", gguf_families.read(path)
    if magic[:2] == b"PK" or path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path.name} holds weights without their description", fix="name the folder that has its config.json"
        )
    return "llama2.c", llama2c.read(path)
