"""LoRA adapters at rest, in PEFT's folders: adapter_config.json beside adapter_model.safetensors.

A tensor `base_model.model.<module>.lora_A.weight` goes with the matrix that the base model publishes as
`<module>.weight`, and the family's own rule for that matrix says which roles it holds: where q, k and v are published
as one, A serves all three and the rows of B are cut like those of the matrix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import safetensors, torchbin
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError, nearest
from paddock.model.lora import LowRank, adaptable
from paddock.model.rules import Drop, Rename, Rule, SplitQKV, attention_at
from paddock.model.transformer import Transformer

CONFIG, WEIGHTS, OLD_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_RANK, MAX_TENSORS = 256, 100_000
NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# Keys that change what the tensors mean; every other key may only say nothing (null, false, empty) unless listed below.
READ = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"})
# How it was made, or which matrices it was put on, which its tensors say themselves.
_HARMLESS = """
    auto_mapping base_model_name_or_path revision task_type inference_mode lora_dropout target_modules exclude_modules
    init_lora_weights layers_to_transform layers_pattern peft_version loftq_config corda_config eva_config
    runtime_config qalora_group_size megatron_config megatron_core ensure_weight_tying
    """
HARMLESS = frozenset(_HARMLESS.split())


@dataclass(frozen=True)
class Adapter:
    """An adapter described, not yet read. `modules`: by published module, its two tensors and their scale."""

    path: Path
    base: str | None
    modules: Mapping[str, tuple[Stored, Stored, float]]


def read_adapter(path: str | Path) -> Adapter:
    """Opens a folder of PEFT's. Raises CheckpointError for what is corrupt or incomplete, UnsupportedError for
    adapters of other kinds than plain LoRA."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise CheckpointError(f"{str(path)[:300]!r} is no folder", expected=f"a folder with {CONFIG}")
    config = read_json(path / CONFIG)
    _check_config(config)
    tensors = safetensors.read(path / WEIGHTS) if (path / WEIGHTS).exists() else torchbin.read(path / OLD_WEIGHTS)
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"the adapter holds {len(tensors)} tensors", expected=f"at most {MAX_TENSORS}")
    sides: dict[str, dict[str, Stored]] = {}
    for name, stored in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise UnsupportedError(
                f"adapter tensor {name[:120]!r} is not one of plain LoRA",
                expected="...lora_A.weight or ...lora_B.weight",
            )
        sides.setdefault(match["module"], {})[match["side"]] = stored
    if not sides:
        raise CheckpointError("the adapter holds no tensors")
    modules = {module: _pair(module, pair, config) for module, pair in sides.items()}
    base = config.get("base_model_name_or_path")
    return Adapter(path, base if isinstance(base, str) else None, modules)


def deltas(adapter: Adapter, model: Transformer, rules: Iterable[Rule]) -> dict[str, LowRank]:
    """The adapter's matrices by the canonical paths of those that `model` has, by its family's `rules`.

    Raises CheckpointError naming a module that the model does not have, a shape that does not go with it, or numbers
    that are none.
    """
    known = adaptable(model)
    rules = [rule for rule in rules if rule.when(model.architecture)]
    found: dict[str, LowRank] = {}
    for module, (a, b, scale) in adapter.modules.items():
        rule, paths = _home(module, rules, known)
        out, columns = sum(known[path][0] for path in paths), known[paths[0]][1]
        if (a.shape[1], b.shape[0]) != (columns, out):
            raise CheckpointError(
                f"the adapter's {module[:120]!r} is made for a matrix of {[b.shape[0], a.shape[1]]}",
                expected=f"{[out, columns]}, this model's",
                fix=f"use it with the model it was trained on{f' ({adapter.base[:120]})' if adapter.base else ''}",
            )
        low = _numbers(a, module)
        parts = rule.split(_numbers(b, module), attention_at(model.architecture, paths[0] + ".weight"))
        for path, part in zip(paths, parts, strict=True):
            found[path] = LowRank(low, part, scale)
    return found


def _home(module: str, rules: Iterable[Rule], known: Mapping[str, tuple[int, int]]) -> tuple[Rule, list[str]]:
    """The rule about a module's matrix, as it cuts rows, and the paths of the matrices it holds."""
    for rule in rules:
        ours = rule.read(module + ".weight")
        if ours is None or isinstance(rule, Drop):
            continue
        paths = [name.removesuffix(".weight") for name in ours]
        if all(path in known for path in paths):
            # B has a row for each output, also where the matrix itself is published the other way round.
            turned = isinstance(rule, Rename | SplitQKV) and rule.transpose
            return (replace(rule, transpose=False) if turned else rule), paths  # type: ignore[call-arg]
    hint = nearest(module, [rule.theirs.removesuffix(".{p}").removesuffix(".weight") for rule in rules])
    raise CheckpointError(
        f"this model has no matrix {module[:120]!r} that the adapter could go on"
        + (f"; the nearest is {hint!r}" if hint else ""),
        fix="use the adapter with the model it was trained on",
    )


def _check_config(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise UnsupportedError(f"{CONFIG} says peft_type {str(config.get('peft_type'))[:40]!r}", expected="'LORA'")
    if config.get("bias") not in (None, "none"):
        raise UnsupportedError(f"{CONFIG} says bias {str(config['bias'])[:40]!r}", expected="'none'")
    for key, value in config.items():
        if key not in READ | HARMLESS | {"bias"} and value not in (None, False, 0, "", [], {}):
            raise UnsupportedError(
                f"{CONFIG} sets {key[:80]!r}, which changes what the adapter does", expected="plain LoRA"
            )


def _pair(module: str, pair: Mapping[str, Stored], config: Mapping[str, Any]) -> tuple[Stored, Stored, float]:
    if pair.keys() != {"A", "B"}:
        raise CheckpointError(f"the adapter's {module[:120]!r} has only lora_{next(iter(pair))}", expected="A and B")
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise CheckpointError(f"the adapter's {module[:120]!r} has the shapes {list(a.shape)} and {list(b.shape)}")
    if not (a.dtype.is_floating_point and b.dtype.is_floating_point):
        raise CheckpointError(f"the adapter's {module[:120]!r} is stored as {a.dtype} and {b.dtype}")
    rank = _of_module(config, "rank_pattern", module, config.get("r"))
    alpha = _of_module(config, "alpha_pattern", module, config.get("lora_alpha"))
    if isinstance(rank, bool) or not isinstance(rank, int) or rank != a.shape[0] or not 0 < rank <= MAX_RANK:
        raise CheckpointError(
            f"{CONFIG} says rank {str(rank)[:40]} for {module[:120]!r}",
            expected=f"{a.shape[0]}, its tensors' rank, and at most {MAX_RANK}",
        )
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise CheckpointError(f"{CONFIG} says lora_alpha {str(alpha)[:40]}", expected="a number")
    return a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _of_module(config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """What a pattern table says of a module: its keys are ends of module names (PEFT also takes regular expressions,
    which are refused: they would be programs)."""
    table = config.get(key) or {}
    if not isinstance(table, dict):
        raise CheckpointError(f"{CONFIG} has {key} of type {type(table).__name__}", expected="an object")
    for name, value in table.items():
        if not re.fullmatch(r"\^?[\w.]+\$?", name):
            raise UnsupportedError(f"{CONFIG} has the pattern {name[:80]!r} in {key}", expected="a plain module name")
        plain = name.strip("^$")
        if module == plain or module.endswith("." + plain):
            return value
    return default


def _numbers(stored: Stored, module: str) -> Tensor:
    tensor = stored.load().float()
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"the adapter's {module[:120]!r} holds values that are not numbers")
    return tensor
