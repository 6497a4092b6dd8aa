"""One way to open a model at rest, whatever it lies in: a folder, a GGUF file or a llama2.c file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint import folder as hf
from paddock.checkpoint import gguf_families, llama2c, quantised_folder
from paddock.checkpoint.ahead import Ahead
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.packing import Packing
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import build, native_dtype
from paddock.errors import CheckpointError, UnsupportedError, UsageError, did_you_mean
from paddock.model.families import describe, family
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COMPUTED = {*DTYPES.values(), torch.float64}  # what every operation is there for; float64 serves comparisons


@dataclass(frozen=True)
class Checkpoint:
    """A model at rest: what it is, where its numbers lie, what was published beside them. Nothing is read yet.

    `config` is a Hugging Face configuration whatever the file was; `tensors` are under Hugging Face names;
    `generation` are the sampling defaults published with the model. `quantization` is the quantization_config of a
    folder whose matrices were packed by GPTQ, AWQ or bitsandbytes; `config` and `tensors` are as if they were plain.
    """

    path: Path
    kind: str  # "folder", "gguf" or "llama2.c"
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    architecture: Architecture
    generation: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What `model()` loads in by default: the stored type, or one of several (see `weights.native_dtype`)."""
        named = self.config.get("dtype", self.config.get("torch_dtype"))
        return native_dtype(self.tensors, DTYPES.get(named) if isinstance(named, str) else None)

    def recast(self, dtype: str | torch.dtype = "auto") -> list[str]:
        """Names of the stored tensors that `model(dtype)` converts to another type."""
        chosen = self._dtype(dtype)
        return [
            name for name, stored in self.tensors.items() if stored.dtype.is_floating_point and stored.dtype != chosen
        ]

    @property
    def quantised(self) -> bool:
        """Whether some matrices were published quantised, in a form that the native kernels compute with."""
        return any(stored.codes is not None for stored in self.tensors.values())

    def _dtype(self, asked: str | torch.dtype) -> torch.dtype:
        if isinstance(asked, torch.dtype) and asked in COMPUTED:
            return asked
        if not isinstance(asked, str) or asked not in {"auto", *DTYPES}:
            raise UsageError(f"unknown dtype {str(asked)[:80]!r}", expected="auto, " + ", ".join(DTYPES))
        return self.dtype if asked == "auto" else DTYPES[asked]

    @property
    def stored_bytes(self) -> int:
        """Size of the weights once in memory in their own type."""
        return sum(math.prod(stored.shape) * stored.dtype.itemsize for stored in self.tensors.values())

    def model(
        self,
        dtype: str | torch.dtype = "auto",
        device: torch.device | str = "cpu",
        check_finite: bool = True,
        packing: Packing | None = None,
    ) -> Transformer:
        """The Transformer with its weights, all in one type; "auto" is `self.dtype`. Raises CheckpointError.

        With `packing`, which goes with the CPU and the native kernels only, quantised matrices are packed for them.
        """
        return build(
            self.architecture,
            self.tensors,
            family(self.config).RULES,
            dtype=self._dtype(dtype),
            device=device,
            check_finite=check_finite,
            packing=packing,
        )


def open_checkpoint(path: str | Path, ignore_config: Collection[str] = (), ahead: Ahead | None = None) -> Checkpoint:
    """Opens a model folder, a `.gguf` file or a llama2.c `.bin`. Reads descriptions only.

    `ignore_config` names keys of config.json or generation_config.json to be passed over: they are as if not there, and
    what is saved later lacks them. `ahead`: what was begun with this very file. Raises CheckpointError for what is
    corrupt, UnsupportedError for what Paddock does not run, UsageError for a key to ignore that no file holds.
    """
    generation: dict[str, Any] = {}
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            kind, config, tensors = "folder", hf.read_config(path), hf.read_tensors(path)
            generation = hf.read_generation(path)
        else:
            kind, (config, tensors) = _read_file(path, ahead)
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home nobody has, a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{str(path)[:300]!r} cannot be opened: {reason}") from None
    _check_ignored(ignore_config, config.keys() | generation.keys())
    config, generation = (_without(table, ignore_config) for table in (config, generation))
    packing = hf.read_quantization(path, config, tensors) if kind == "folder" else None
    if packing is None:
        return Checkpoint(path, kind, config, tensors, understand(config, tensors.keys()), generation)
    config, rules = _without(config, ["quantization_config"]), family(config).RULES
    plain = quantised_folder.read(packing, tensors, rules)
    architecture = understand(config, plain.keys())
    plain = quantised_folder.without_idle_biases(plain, tensors, architecture, rules)
    return Checkpoint(path, kind, config, plain, architecture, generation, packing)


def _check_ignored(keys: Collection[str], known: Collection[str]) -> None:
    if isinstance(keys, str):  # a string is a collection too, of its letters
        raise UsageError(f"ignore_config is the text {keys[:80]!r}", expected="a list of keys")
    for key in keys:
        if key not in known:
            raise UsageError(f"there is no configuration key {key!r} to ignore", fix=did_you_mean(key, known))


def _without(table: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in keys}


def understand(config: Mapping[str, Any], tensors: Collection[str] | None = None) -> Architecture:
    """The architecture that a configuration describes. Raises CheckpointError, whatever it holds."""
    try:
        return describe(config, tensors)
    except (TypeError, ValueError, OverflowError) as error:  # a list where a family expects a word, and the like
        raise CheckpointError(
            f"config.json cannot be understood: {str(error)[:120]}", fix="copy the model's own config.json again"
        ) from error


def _read_file(path: Path, ahead: Ahead | None) -> tuple[str, tuple[dict[str, Any], dict[str, Stored]]]:
    if ahead is not None:
        return "gguf", gguf_families.read(GGUFFile.of(ahead))
    if not path.is_file():
        found = "not a regular file" if path.exists() else "missing"
        raise CheckpointError(f"{path} is {found}", expected="a model folder, a .gguf file or a llama2.c .bin file")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF" or path.suffix == ".gguf":
        return "gguf", gguf_families.read(path)
    if magic[:2] == b"PK" or path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path.name} holds weights without their description", fix="name the folder that has its config.json"
        )
    try:
        return "llama2.c", llama2c.read(path)
    except UnsupportedError:
        raise
    except CheckpointError as error:
        if path.suffix == ".bin" or magic == b"":
            raise
        # Nothing but its numbers tells a llama2.c file of the oldest kind, and nothing says that this is one.
        raise CheckpointError(
            f"{path.name} is no model that Paddock knows (read as a llama2.c file: {error.what})",
            expected="a model folder, a .gguf file or a llama2.c .bin file",
        ) from None
