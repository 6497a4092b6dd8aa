"""Adapters that PEFT has no folder for, in folders like its: adapter_config.json beside adapter_model.safetensors.

peft_type   PADDOCK_LLAMA_ADAPTER (V1, V2), PADDOCK_BITFIT: no kind of PEFT's, which refuses them by that name
tensors     by the names that parameters have in Paddock (model/transformer.py): one of the model's own, which takes
            its place; `blocks.I.attention.prompts.{vectors,gate}`; a linear's `.{scale_in,scale_out,shift}`
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paddock.checkpoint import safetensors
from paddock.checkpoint.adapters import CONFIG, WEIGHTS
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.writing import write_text
from paddock.errors import CheckpointError, nearest
from paddock.model.lora import adaptable
from paddock.model.prompts import LayerPrompts, settle, with_prompts
from paddock.model.scaling import PARTS, Scales, with_scales
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of

PREFIX = "PADDOCK_"
KINDS = (PREFIX + "LLAMA_ADAPTER", PREFIX + "BITFIT")
MOST_TENSORS, MOST_PROMPTS = 100_000, 1024
PROMPT = re.compile(r"blocks\.(?P<layer>\d{1,5})\.attention\.prompts\.(?P<part>vectors|gate)")


@dataclass(frozen=True)
class Own:
    """What is written: its kind without the prefix, the base's name, what else its configuration says, and which
    parameters of the model."""

    kind: str
    base: str
    settings: Mapping[str, Any]
    names: frozenset[str]


def write_own(own: Own, folder: Path, model: Transformer) -> None:
    """Writes the adapter's parameters, in float32, and its configuration."""
    config = {"peft_type": PREFIX + own.kind, "base_model_name_or_path": own.base, "format": 1, **own.settings}
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model.named_parameters())
    safetensors.write(folder / WEIGHTS, {name: parameters[name].detach().float() for name in sorted(own.names)})
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def read_numbers(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder by the names of parameters, every bit. Raises CheckpointError."""
    return {name: finite(stored, name) for name, stored in safetensors.read(folder / WEIGHTS).items()}


def with_own(model: Transformer, folder: Path) -> Transformer:
    """A Transformer like `model` with the adapter in a folder, whose other parameters are shared with it.

    Raises CheckpointError for what is corrupt, or was made for another model.
    """
    config = read_json(folder / CONFIG)
    if config.get("peft_type") not in KINDS or config.get("format") != 1:
        said = f"{str(config.get('peft_type'))[:40]!r}, format {str(config.get('format'))[:40]}"
        raise CheckpointError(f"{folder / CONFIG} says {said}", expected=f"{' or '.join(KINDS)}, format 1")
    stored = safetensors.read(folder / WEIGHTS)
    if not 0 < len(stored) <= MOST_TENSORS:
        raise CheckpointError(f"the adapter holds {len(stored)} tensors", expected=f"1 to {MOST_TENSORS}")
    fit = _Fit(model, folder, str(config.get("base_model_name_or_path") or ""))
    prompts = {name: each for name, each in stored.items() if PROMPT.fullmatch(name)}
    beside = {name: each for name, each in stored.items() if name.rpartition(".")[2] in PARTS}
    rest = {name: each for name, each in stored.items() if name not in prompts and name not in beside}
    twin = with_replaced(model, fit.whole(rest))
    twin = with_prompts(twin, fit.prompts(prompts, config.get("bounded", True) is not False))
    twin = with_scales(twin, fit.scales(beside))
    settle(twin)
    return twin


def with_replaced(model: Transformer, tensors: Mapping[str, Tensor]) -> Transformer:
    """A Transformer like `model`, of whose parameters some are others; everything else is shared with it."""
    twin = twin_of(model)
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        module = twin.get_submodule(path)
        like = module.get_parameter(leaf)
        new = tensor.to(device=like.device, dtype=like.dtype)
        module._parameters[leaf] = nn.Parameter(new, requires_grad=False)
    return twin


@dataclass(frozen=True)
class _Fit:
    """An adapter's tensors held against the model it is to go on."""

    model: Transformer
    folder: Path
    base: str

    def prompts(self, stored: Mapping[str, Stored], bounded: bool) -> dict[int, LayerPrompts]:
        parts: dict[int, dict[str, Tensor]] = {}
        architecture = self.model.architecture
        for name, each in stored.items():
            match = PROMPT.fullmatch(name)
            assert match is not None
            layer, part = int(match["layer"]), match["part"]
            if layer >= architecture.blocks:
                raise self.foreign(f"has prompts in layer {layer}", f"layers below {architecture.blocks}, this model's")
            count = each.shape[0] if part == "vectors" and each.shape and each.shape[0] <= MOST_PROMPTS else 1
            wanted = (count, architecture.width) if part == "vectors" else (architecture.layer(layer).attention.heads,)
            parts.setdefault(layer, {})[part] = self.tensor(each, name, wanted)
        for layer, found in parts.items():
            if found.keys() != {"vectors", "gate"}:
                raise CheckpointError(f"layer {layer} of the adapter has only {next(iter(found))}", expected="both")
        return {layer: LayerPrompts(found["vectors"], found["gate"], bounded) for layer, found in parts.items()}

    def scales(self, stored: Mapping[str, Stored]) -> dict[str, Scales]:
        linears = adaptable(self.model)
        found: dict[str, dict[str, Tensor]] = {}
        for name, each in stored.items():
            path, _, part = name.rpartition(".")
            if path not in linears:
                hint = nearest(path, list(linears))
                raise self.foreign(
                    f"has a {part} beside {path[:120]!r}", f"matrices like {hint!r}" if hint else "others"
                )
            out, into = linears[path]
            found.setdefault(path, {})[part] = self.tensor(each, name, (into if part == "scale_in" else out,))
        return {path: Scales(**parts) for path, parts in found.items()}

    def whole(self, stored: Mapping[str, Stored]) -> dict[str, Tensor]:
        """Tensors that take the place of the model's own."""
        known = dict(self.model.named_parameters())
        found: dict[str, Tensor] = {}
        for name, each in stored.items():
            if name not in known:
                hint = nearest(name, list(known))
                raise self.foreign(f"has {name[:120]!r}", f"names like {hint!r}" if hint else "this model's names")
            found[name] = self.tensor(each, name, tuple(known[name].shape))
        return found

    def tensor(self, stored: Stored, name: str, shape: tuple[int, ...]) -> Tensor:
        if tuple(stored.shape) != shape:
            raise self.foreign(f"has {name[:120]!r} of the shape {list(stored.shape)}", f"{list(shape)}, this model's")
        like = self.model.embedding.tokens.weight
        return finite(stored, name).to(device=like.device, dtype=like.dtype)

    def foreign(self, what: str, expected: str) -> CheckpointError:
        made_for = f" ({self.base[:120]})" if self.base else ""
        return CheckpointError(
            f"the adapter in {self.folder} {what}",
            expected=expected,
            fix=f"use it with the model it was trained on{made_for}",
        )


def finite(stored: Stored, name: str) -> Tensor:
    """An adapter's numbers, float32, in memory of their own. Raises CheckpointError where they are none."""
    if math.prod(stored.shape) == 0 or not stored.dtype.is_floating_point:
        raise CheckpointError(f"the adapter's {name[:120]!r} is {list(stored.shape)} of {stored.dtype}")
    tensor = stored.load().to(torch.float32, copy=True)
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(f"the adapter's {name[:120]!r} holds values that are not numbers")
    return tensor
