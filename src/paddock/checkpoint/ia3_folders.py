"""(IA)^3 adapters at rest, in PEFT's folders.

A tensor `base_model.model.<module>.ia3_l` goes with the matrix that the base publishes as `<module>.weight`: of shape
(out, 1) it multiplies what comes out, of shape (1, in) what goes in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from paddock.checkpoint.adapter_writing import put_files, saved_whole, task_type
from paddock.checkpoint.adapters import (
    CONFIG,
    PREFIX,
    SAVED,
    WEIGHTS,
    Adapter,
    check_keys,
    home,
    named_whole,
    replaced,
    stored_in,
)  # fmt: skip
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.matrices import matrices, suffixes
from paddock.checkpoint.own_adapters import finite, with_replaced
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.families import family
from paddock.model.lora import adaptable
from paddock.model.scaling import Scales, scaled, with_scales, without_scales
from paddock.model.transformer import Transformer

KIND = "IA3"
NAME = re.compile(re.escape(PREFIX) + r"(?P<module>.+)\.ia3_l(?:\.default)?")
# What the tensors say themselves, and how they were made.
_KNOWN = """
    peft_type task_type base_model_name_or_path revision auto_mapping inference_mode peft_version target_modules
    exclude_modules feedforward_modules fan_in_fan_out modules_to_save init_ia3_weights
    """
KNOWN = frozenset(_KNOWN.split())


def write_ia3(
    folder: Path, model: Transformer, config: Mapping[str, Any], base: str, fresh: Collection[str] = ()
) -> None:
    """Writes the vectors beside `model`'s linears, which family and `config` publish, in float32, and the whole of its
    parameters `fresh`. base: the model's name."""
    rules = [rule for rule in family(dict(config)).RULES if rule.when(model.architecture)]
    on = dict(scaled(model))
    every = matrices(without_scales(model), rules)
    mine = [matrix for matrix in every if matrix.paths[0] in on]
    tensors: dict[str, Tensor] = {}
    forward = set()
    for matrix in mine:
        parts = [on[path] for path in matrix.paths]
        name = PREFIX + matrix.module + ".ia3_l"
        if parts[0].scale_in is not None:
            tensors[name] = parts[0].scale_in.detach().float()[None]
            forward.add(matrix.module)
        else:
            scales = [part.scale_out.detach().float()[:, None] for part in parts if part.scale_out is not None]
            tensors[name] = matrix.joined(scales, model.architecture)
    saved = dict(saved_whole(model, rules, fresh))
    names = {matrix.module for matrix in every}
    ends = [suffixes(some, names) for some in ({matrix.module for matrix in mine} - forward, forward)]
    values = {
        "peft_type": KIND,
        "task_type": task_type(model),
        "base_model_name_or_path": base,
        "target_modules": sorted({*ends[0], *ends[1]}),
        "feedforward_modules": ends[1],
        "fan_in_fan_out": any(matrix.transposed for matrix in mine),
        "modules_to_save": [name.rpartition(".")[0].rpartition(".")[2] for name in saved] or None,
        "init_ia3_weights": True,
        "inference_mode": True,
    }
    put_files(folder, values, {WEIGHTS: tensors | {PREFIX + name: tensor for name, tensor in saved.items()}})


def read_ia3(
    folder: Path, model: Transformer, config: Mapping[str, Any]
) -> tuple[dict[str, Scales], dict[str, Tensor]]:
    """The vectors by the paths of `model`'s linears, and the tensors that take the place of its own, float32.

    Raises CheckpointError for what is corrupt or was made for another model, UnsupportedError for settings that change
    what it does.
    """
    said = read_json(folder / CONFIG)
    check_keys(said, KNOWN, "plain (IA)^3")
    if said.get("peft_type") != KIND:
        raise UnsupportedError(f"{CONFIG} says peft_type {str(said.get('peft_type'))[:40]!r}", expected=repr(KIND))
    rules = [rule for rule in family(dict(config)).RULES if rule.when(model.architecture)]
    known = adaptable(model)
    base = said.get("base_model_name_or_path")
    whole = named_whole(said)
    found: dict[str, Scales] = {}
    saved: dict[str, Stored] = {}
    for name, stored in stored_in(folder).items():
        match, kept = NAME.fullmatch(name), SAVED.fullmatch(name)
        if match is None and (kept is None or not any(f".{kept['module']}".endswith("." + end) for end in whole)):
            raise UnsupportedError(f"adapter tensor {name[:120]!r} is not one of (IA)^3", expected="...ia3_l")
        if match is None:
            assert kept is not None
            saved[f"{kept['module']}.{kept['leaf']}"] = stored
            continue
        matrix = home(match["module"], rules, known)
        out, into = sum(known[path][0] for path in matrix.paths), known[matrix.paths[0]][1]
        if tuple(stored.shape) == (1, into) and into > 1:
            found |= dict.fromkeys(matrix.paths, Scales(scale_in=finite(stored, name)[0]))
        elif tuple(stored.shape) == (out, 1):
            rows = matrix.cut(finite(stored, name), model.architecture)
            found |= {path: Scales(scale_out=part[:, 0].contiguous())
                      for path, part in zip(matrix.paths, rows, strict=True)}  # fmt: skip
        else:
            raise CheckpointError(
                f"the adapter's {name[:120]!r} has the shape {list(stored.shape)}",
                expected=f"{[out, 1]} or {[1, into]}, for this model's matrix",
                fix=f"use it with the model it was trained on ({str(base)[:120]})",
            )
    if not found:
        raise CheckpointError("the adapter holds no vectors of (IA)^3")
    adapter = Adapter(folder, base if isinstance(base, str) else None, {}, saved)
    return found, replaced(adapter, model, rules)


def with_ia3(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model`, whose configuration is `config`, with the adapter of a folder on it."""
    scales, whole = read_ia3(folder, model, config)
    like = model.embedding.tokens.weight

    def own(vector: Tensor | None) -> Tensor | None:
        return None if vector is None else vector.to(device=like.device, dtype=like.dtype)

    put = {path: Scales(own(each.scale_in), own(each.scale_out)) for path, each in scales.items()}
    return with_replaced(with_scales(model, put), whole)
