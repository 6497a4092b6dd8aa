"""What a saved step holds besides the model, and how a trainer is put back to it, bit for bit.

    training/optimizer.safetensors   the optimizer's tensors as `parameter/key`, and the random generator's
    training/state.json              everything else: `State`

A step is the same however many processes it comes from: the main one writes a tensor at a time as `parallel` puts it
together, and reads it so again.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock import __version__
from paddock.checkpoint import safetensors
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.safetensors import Planned
from paddock.errors import CheckpointError
from paddock.model.transformer import Transformer
from paddock.training.main_process import together
from paddock.training.parallel import Alone

FOLDER, TENSORS, STATE = "training", "optimizer.safetensors", "state.json"
RANDOM = "random"  # PyTorch's generator; NumPy's are made anew for each sample, from the seed and its place
Publish = Callable[[Path, Transformer], None]  # writes config, float32 weights and tokenizer into a folder
Read = Callable[[Path], Mapping[str, Tensor]]  # what was trained, read again, by the names of parameters


@dataclass(frozen=True)
class State:
    """A run after `step` steps, without its tensors.

    trainer: what `Trainer.state` gave. recipe, data: SHA-256 of the resolved recipe and of the data. ranks: over how
    many shares of the rows. scalars: of the optimizer, by parameter.
    """

    step: int
    trainer: Mapping[str, Any]
    recipe: str
    data: str
    seed: int
    ranks: int
    scalars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    format: int = 1


def versions() -> dict[str, str]:
    """What a result may depend on besides recipe and data."""
    return {
        "paddock": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def write(
    folder: Path,
    publish: Publish,
    model: Transformer,
    moments: Mapping[str, Mapping[str, Any]],
    state: State,
) -> None:
    """Fills the folder of a step. moments: the optimizer's whole state by parameter; tensors of it may be planned.

    Raises OSError or ResourceError where the disk refuses.
    """
    publish(folder, model)
    tensors, scalars = _parted(moments)
    tensors[RANDOM] = torch.get_rng_state()
    state = dataclasses.replace(state, scalars=scalars)
    (folder / FOLDER).mkdir()
    safetensors.save(folder / FOLDER / TENSORS, tensors)
    text = json.dumps(dataclasses.asdict(state), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / FOLDER / STATE).write_text(text + "\n", encoding="utf-8")


def _parted(moments: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor | Planned], dict[str, dict[str, Any]]]:
    """Tensors under one name each, and what is no tensor."""
    tensors: dict[str, Tensor | Planned] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for name, state in moments.items():
        for key, value in state.items():
            if isinstance(value, Tensor | Planned):
                tensors[f"{name}/{key}"] = value
            else:
                scalars.setdefault(name, {})[key] = value
    return tensors, scalars


def read_state(folder: Path) -> State:
    """The state of a saved step. Raises CheckpointError for what is none, or of a format to come."""
    path = folder / FOLDER / STATE
    table = read_json(path)
    if table.get("format") != 1:
        raise CheckpointError(f"{path} has the format {str(table.get('format'))[:40]}", expected="1")
    kinds = {"step": int, "trainer": dict, "recipe": str, "data": str, "seed": int, "ranks": int}
    kinds |= {"scalars": dict, "versions": dict, "format": int}
    if table.keys() != kinds.keys() or any(type(table[name]) is not kind for name, kind in kinds.items()):
        raise CheckpointError(f"{path} is not the state of a run", expected=", ".join(kinds))
    return State(**table)


def restore(
    folder: Path,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    parallel: Alone,
    read: Read | None = None,
    learns: Collection[str] | None = None,
) -> State:
    """Weights, optimizer and random generators as they were when the step was saved; gives the rest of the state.

    read, learns: how the weights of those parameters are read; by default of all of them, as a whole model.
    Every process takes part, and the main one reads the folder: the others may be machines that do not have it. Raises
    CheckpointError where the step is that of another model.
    """
    found = together(parallel, lambda: _Stored.read(folder, read or read_weights)) or _Stored.nothing()
    optimizer.state.clear()
    parallel.restore(model, optimizer, found.weights, found.moments, learns)
    state, random = parallel.told([dataclasses.asdict(found.state), found.random.hex()] if found.state else None)
    try:
        torch.set_rng_state(torch.tensor(list(bytes.fromhex(random)), dtype=torch.uint8))
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{folder} holds no state of random numbers: {str(error)[:80]}") from None
    return State(**state)


@dataclass(frozen=True)
class _Stored:
    """What a saved step holds, as the main process has read it; the others have nothing."""

    state: State | None
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Any]]
    random: bytes

    @staticmethod
    def nothing() -> _Stored:
        return _Stored(None, {}, {}, b"")

    @staticmethod
    def read(folder: Path, read: Read) -> _Stored:
        state, path = read_state(folder), folder / FOLDER / TENSORS
        moments = {name: dict(scalars) for name, scalars in state.scalars.items()}
        stored = safetensors.read(path)
        if RANDOM not in stored or stored[RANDOM].load().dtype != torch.uint8:
            raise CheckpointError(f"{path} holds no state of random numbers")
        for full, tensor in stored.items():
            name, _, key = full.rpartition("/")
            if full != RANDOM:
                moments.setdefault(name, {})[key] = tensor.load()
        return _Stored(state, read(folder), moments, bytes(stored[RANDOM].load().flatten().tolist()))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a published folder by the names of parameters, every float32 bit as it was saved."""
    return dict(open_checkpoint(folder).model("float32").named_parameters())
