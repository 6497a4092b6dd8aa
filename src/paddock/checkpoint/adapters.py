"""LoRA adapters at rest, in PEFT's folders: adapter_config.json beside adapter_model.safetensors.

A tensor `base_model.model.<module>.lora_A.weight` goes with the matrix that the base model publishes as
`<module>.weight`, and the family's own rule for that matrix says which roles it holds: where q, k and v are published
as one, A serves all three and the rows of B are cut like those of the matrix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import safetensors, torchbin
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.matrices import Matrix
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError, nearest
from paddock.model.lora import LowRank, adaptable, plain_weights
from paddock.model.rules import Drop, Rule, attention_at
from paddock.model.transformer import Transformer

CONFIG, WEIGHTS, OLD_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_RANK, MAX_TENSORS = 256, 100_000
PREFIX = "base_model.model."
NAME = re.compile(
    re.escape(PREFIX)
    + r"(?P<module>.+)\."
    + r"(?:lora_(?P<side>[AB])(?:\.default)?\.weight|lora_(?P<length>magnitude)_vector(?:\.default)?(?:\.weight)?)"
)
SAVED = re.compile(re.escape(PREFIX) + r"(?P<module>.+?)(?:\.modules_to_save(?:\.default)?)?\.(?P<leaf>weight|bias)")
# Keys that change what the tensors mean; every other key may only say nothing (null, false, empty) unless listed below.
_READ = "peft_type r lora_alpha use_rslora use_dora rank_pattern alpha_pattern fan_in_fan_out modules_to_save"
READ = frozenset(_READ.split())
# How it was made, or which matrices it was put on, which its tensors say themselves.
_HARMLESS = """
    auto_mapping base_model_name_or_path revision task_type inference_mode lora_dropout target_modules exclude_modules
    init_lora_weights layers_to_transform layers_pattern peft_version loftq_config corda_config eva_config
    runtime_config qalora_group_size megatron_config megatron_core ensure_weight_tying
    """
HARMLESS = frozenset(_HARMLESS.split())
SAYS_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})


@dataclass(frozen=True)
class Part:
    """An adapter's tensors for one published matrix, and their scale."""

    a: Stored
    b: Stored
    scale: float
    magnitude: Stored | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter described, not yet read. modules: by published matrix. saved: whole tensors that take the place of the
    base's, by published name (PEFT's modules_to_save)."""

    path: Path
    base: str | None
    modules: Mapping[str, Part]
    saved: Mapping[str, Stored] = field(default_factory=dict)

    @property
    def made_for(self) -> str:
        """What to do with an adapter that does not go with a model."""
        return f"use it with the model it was trained on{f' ({self.base[:120]})' if self.base else ''}"


def read_adapter(path: str | Path) -> Adapter:
    """Opens a folder of PEFT's. Raises CheckpointError for what is corrupt or incomplete, UnsupportedError for
    adapters of other kinds than LoRA."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise CheckpointError(f"{str(path)[:300]!r} is no folder", expected=f"a folder with {CONFIG}")
    config = read_json(path / CONFIG)
    _check_config(config)
    tensors = stored_in(path)
    whole = named_whole(config)
    sides: dict[str, dict[str, Stored]] = {}
    saved: dict[str, Stored] = {}
    for name, stored in tensors.items():
        match, kept = NAME.fullmatch(name), SAVED.fullmatch(name)
        if match is not None:
            sides.setdefault(match["module"], {})[match["side"] or match["length"]] = stored
        elif kept is not None and any(kept["module"] == end or kept["module"].endswith("." + end) for end in whole):
            saved[f"{kept['module']}.{kept['leaf']}"] = stored
        else:
            raise UnsupportedError(
                f"adapter tensor {name[:120]!r} is not one of LoRA",
                expected="...lora_A.weight, ...lora_B.weight, or what modules_to_save names",
            )
    if not sides:
        raise CheckpointError("the adapter holds no tensors")
    if whole and not saved:
        raise CheckpointError(f"{CONFIG} says modules_to_save {sorted(whole)[:4]}, and the adapter holds none of them")
    modules = {module: _part(module, pair, config) for module, pair in sides.items()}
    base = config.get("base_model_name_or_path")
    return Adapter(path, base if isinstance(base, str) else None, modules, saved)


def stored_in(path: Path) -> dict[str, Stored]:
    """The tensors of an adapter's folder by their names, at most MAX_TENSORS."""
    tensors = safetensors.read(path / WEIGHTS) if (path / WEIGHTS).exists() else torchbin.read(path / OLD_WEIGHTS)
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"the adapter holds {len(tensors)} tensors", expected=f"at most {MAX_TENSORS}")
    return tensors


def deltas(adapter: Adapter, model: Transformer, rules: Iterable[Rule]) -> dict[str, LowRank]:
    """The adapter's matrices by the canonical paths of those that `model` has, by its family's `rules`.

    Raises CheckpointError naming a module that the model does not have, a shape that does not go with it, or numbers
    that are none.
    """
    known = adaptable(model)
    rules = [rule for rule in rules if rule.when(model.architecture)]
    found: dict[str, LowRank] = {}
    for module, part in adapter.modules.items():
        matrix = home(module, rules, known)
        out, columns = sum(known[path][0] for path in matrix.paths), known[matrix.paths[0]][1]
        if (part.a.shape[1], part.b.shape[0]) != (columns, out):
            raise CheckpointError(
                f"the adapter's {module[:120]!r} is made for a matrix of {[part.b.shape[0], part.a.shape[1]]}",
                expected=f"{[out, columns]}, this model's",
                fix=adapter.made_for,
            )
        low = _numbers(part.a, module)
        rows = matrix.cut(_numbers(part.b, module), model.architecture)
        lengths: Sequence[Tensor | None] = [None] * len(rows)
        if part.magnitude is not None:
            lengths = matrix.cut(_numbers(part.magnitude, module), model.architecture)
        for path, b, length in zip(matrix.paths, rows, lengths, strict=True):
            if path in found:
                raise CheckpointError(f"the adapter has {module[:120]!r} under two names")
            found[path] = LowRank(low, b, part.scale, length)
    return found


def replaced(adapter: Adapter, model: Transformer, rules: Iterable[Rule]) -> dict[str, Tensor]:
    """The tensors that take the place of the model's own, by canonical names, in the type they are stored in.

    Raises CheckpointError for one that the model does not have, or has in another shape.
    """
    own = plain_weights(model)
    rules = [rule for rule in rules if rule.when(model.architecture) and not isinstance(rule, Drop)]
    found: dict[str, Tensor] = {}
    for name, stored in adapter.saved.items():
        answers = ((rule, ours) for rule in rules if (ours := rule.read(name)) is not None)
        rule, ours = next(answers, (None, ()))
        if rule is None or any(part not in own for part in ours):
            raise CheckpointError(f"the adapter brings {name[:120]!r}, which this model lacks", fix=adapter.made_for)
        wanted = rule.shape([torch.Size(own[part].shape) for part in ours])
        if stored.shape != wanted:
            raise CheckpointError(
                f"the adapter's {name[:120]!r} has the shape {list(stored.shape)}",
                expected=f"{list(wanted)}, this model's",
                fix=adapter.made_for,
            )
        parts = rule.split(_numbers(stored, name), attention_at(model.architecture, ours[0]))
        found |= dict(zip(ours, parts, strict=True))
    if "embedding.tokens.weight" in found and model.head is not None and model.head.weight is None:
        raise UnsupportedError(
            "the adapter brings a token table of its own, and this model's head is tied to the base's",
            fix='load the base with "tie_word_embeddings": false and a head of its own',
        )
    return found


def home(module: str, rules: Iterable[Rule], known: Mapping[str, tuple[int, int]]) -> Matrix:
    """The matrix of the model that a module's name means."""
    for rule in rules:
        ours = rule.read(module + ".weight")
        if ours is None or isinstance(rule, Drop):
            continue
        paths = tuple(name.removesuffix(".weight") for name in ours)
        if all(path in known for path in paths):
            return Matrix(module, paths, rule)
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
    check_keys(config, READ | HARMLESS | {"bias"}, "plain LoRA")


def check_keys(config: Mapping[str, Any], known: frozenset[str], expected: str) -> None:
    """Raises UnsupportedError for a key that is not known and says something."""
    for key, value in config.items():
        if key not in known and value not in SAYS_NOTHING:
            raise UnsupportedError(
                f"{CONFIG} sets {key[:80]!r}, which changes what the adapter does", expected=expected
            )


def named_whole(config: Mapping[str, Any]) -> list[str]:
    """The modules that are saved whole."""
    names = config.get("modules_to_save") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{CONFIG} has modules_to_save {str(names)[:80]!r}", expected="a list of names")
    return names


def _part(module: str, found: Mapping[str, Stored], config: Mapping[str, Any]) -> Part:
    sides = {"A", "B", "magnitude"} if config.get("use_dora") is True else {"A", "B"}
    if found.keys() != sides:
        raise CheckpointError(
            f"the adapter's {module[:120]!r} has only {', '.join(sorted(found))} of LoRA's tensors",
            expected=", ".join(sorted(sides)),
        )
    a, b, magnitude = found["A"], found["B"], found.get("magnitude")
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise CheckpointError(f"the adapter's {module[:120]!r} has the shapes {list(a.shape)} and {list(b.shape)}")
    if magnitude is not None and magnitude.shape != b.shape[:1]:
        raise CheckpointError(
            f"the adapter's {module[:120]!r} has lengths of the shape {list(magnitude.shape)}",
            expected=f"{[b.shape[0]]}",
        )
    if not all(stored.dtype.is_floating_point for stored in found.values()):
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
    return Part(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank), magnitude)


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
