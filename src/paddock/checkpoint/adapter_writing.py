"""LoRA adapters as PEFT writes them: every number in float32, under the names of the published matrices."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import safetensors
from paddock.checkpoint.adapters import CONFIG, PREFIX, WEIGHTS
from paddock.checkpoint.matrices import Matrix, matrices, suffixes
from paddock.checkpoint.writing import atomic_write
from paddock.model.families import family
from paddock.model.lora import adapted, plain_weights
from paddock.model.rules import Rule, attention_at
from paddock.model.transformer import Transformer


@dataclass(frozen=True)
class Settings:
    """What adapter_config.json says besides which matrices: `base` is the model's name, `layers` those meant, if not
    all."""

    base: str
    rank: int
    alpha: float
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    layers: tuple[int, ...] | None = None


def write_adapter(
    folder: Path, model: Transformer, config: Mapping[str, Any], settings: Settings, fresh: Collection[str] = ()
) -> None:
    """Writes what was put on `model`, whose configuration is `config`, and the whole of its parameters `fresh` (PEFT's
    modules_to_save). Raises ResourceError where the disk is full."""
    rules = [rule for rule in family(dict(config)).RULES if rule.when(model.architecture)]
    on = dict(adapted(model))
    mine = [matrix for matrix in matrices(model, rules) if matrix.paths[0] in on]
    saved = dict(saved_whole(model, rules, fresh))
    values = _described(settings, model, config, rules, mine, sorted(_module(name) for name in saved))
    tensors = {name: tensor for matrix in mine for name, tensor in _tensors(matrix, model)}
    tensors |= {PREFIX + name: tensor for name, tensor in saved.items()}
    put_files(folder, values, {WEIGHTS: tensors})


def put_files(folder: Path, values: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes adapter_config.json, and tensors by the names of their files: all of them, or none."""
    with contextlib.ExitStack() as renaming:
        described = renaming.enter_context(atomic_write(folder / CONFIG))
        described.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, tensors in files.items():
            safetensors.save(renaming.enter_context(atomic_write(folder / name)), tensors)


def _tensors(matrix: Matrix, model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """An adapter's tensors of one published matrix."""
    on = dict(adapted(model))
    parts, name = [on[path] for path in matrix.paths], PREFIX + matrix.module
    yield name + ".lora_A.weight", parts[0].a.detach().float()
    yield name + ".lora_B.weight", matrix.joined([part.b.detach().float() for part in parts], model.architecture)
    magnitudes = [part.magnitude.detach().float() for part in parts if part.magnitude is not None]
    if magnitudes:
        yield name + ".lora_magnitude_vector", matrix.joined(magnitudes, model.architecture)


def saved_whole(model: Transformer, rules: Collection[Rule], fresh: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The parameters that are saved whole, under their published names."""
    own = plain_weights(model)
    for name in sorted(fresh):
        rule, (theirs, ours) = next((rule, answer) for rule in rules if (answer := rule.write(name)) is not None)
        parts = [own[part] for part in ours]
        assert all(isinstance(part, Tensor) for part in parts), "what was added to a model is not quantised"
        joined = rule.join(parts, attention_at(model.architecture, name))  # type: ignore[arg-type]
        yield theirs, joined.detach().to(torch.float32)


def _described(
    settings: Settings,
    model: Transformer,
    config: Mapping[str, Any],
    rules: Collection[Rule],
    mine: Collection[Matrix],
    saved: list[str],
) -> dict[str, Any]:
    """adapter_config.json."""
    names = {
        _module(answer[0])
        for name in plain_weights(model)
        for rule in rules
        if (answer := rule.write(name)) is not None
    }
    wanted = {matrix.module for matrix in mine}
    if settings.layers is not None:  # the names are meant in those layers only, and say nothing of the others
        roles = {path.rpartition(".")[2] for matrix in mine for path in matrix.paths}
        wanted |= {m.module for m in matrices(model, rules) if m.paths[0].rpartition(".")[2] in roles}
    return {
        "peft_type": "LORA",
        "task_type": task_type(model),
        "base_model_name_or_path": settings.base,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": suffixes(wanted, names),
        "layers_to_transform": None if settings.layers is None else list(settings.layers),
        "modules_to_save": [name.rpartition(".")[2] for name in dict.fromkeys(saved)] or None,
        **_patterns(settings, model, mine),
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "fan_in_fan_out": any(matrix.transposed for matrix in mine),
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _patterns(settings: Settings, model: Transformer, mine: Collection[Matrix]) -> dict[str, dict[str, Any]]:
    """The ranks and alphas of matrices that have others than the rest."""
    on = dict(adapted(model))
    ranks: dict[str, Any] = {}
    alphas: dict[str, Any] = {}
    for matrix in mine:
        module = on[matrix.paths[0]]
        rank = module.a.shape[0]
        alpha = module.scale * (math.sqrt(rank) if settings.rslora else rank)
        if rank != settings.rank:
            ranks[matrix.module] = rank
        if not math.isclose(alpha, settings.alpha, rel_tol=1e-9):
            alphas[matrix.module] = alpha
    return {"rank_pattern": ranks, "alpha_pattern": alphas}


def task_type(model: Transformer) -> str | None:
    """PEFT's word for what the model does."""
    a = model.architecture
    if a.encoder is not None:
        return "SEQ_2_SEQ_LM"
    if a.pooler is not None and a.pooler.labels:
        return "SEQ_CLS"
    return "CAUSAL_LM" if a.generates else "FEATURE_EXTRACTION" if a.head is None else None


def _module(name: str) -> str:
    return name.rpartition(".")[0]
