"""Adapters worked into a model's weights, or taken out again, or added to each other; and where a model came from.

A merged folder keeps `merged.json`: the base's name and each adapter's, with its weight and a SHA-256 of its numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import adapter_kinds, class_heads, folding, jsonfile
from paddock.checkpoint.adapter_writing import Settings, write_adapter
from paddock.checkpoint.adapters import (
    CONFIG,
    MAX_RANK,
    OLD_WEIGHTS,
    WEIGHTS,
    Adapter,
    deltas,
    read_adapter,
    replaced,
)
from paddock.checkpoint.own_adapters import with_replaced
from paddock.checkpoint.writing import write_bytes, write_text
from paddock.engine.language_model import LanguageModel
from paddock.engine.memory import memory_for
from paddock.errors import CheckpointError, UsageError
from paddock.model.families import family
from paddock.model.lora import LowRank, adapt, adapted, is_adapted, merged, summed

FILE = "merged.json"
LARGEST = 100.0  # a weight beyond this is a slip of the pen


@dataclass(frozen=True)
class Chosen:
    """An adapter, times what it goes in."""

    adapter: Adapter
    weight: float
    sha256: str

    @property
    def name(self) -> str:
        return self.adapter.path.name

    @classmethod
    def at(cls, folder: str | Path, weight: float = 1.0) -> Chosen:
        """Raises UsageError for a weight that cannot be meant, and what `read_adapter` raises."""
        if not math.isfinite(weight) or weight == 0 or abs(weight) > LARGEST:
            raise UsageError(f"the adapter's weight is {weight}", expected=f"a number up to {LARGEST:g}, and not 0")
        path = Path(folder).expanduser()
        adapter = read_adapter(path) if adapter_kinds.kind(path) == "LORA" else _other(path)
        path = adapter.path / WEIGHTS
        with (path if path.exists() else adapter.path / OLD_WEIGHTS).open("rb") as file:
            return cls(adapter, weight, hashlib.file_digest(file, "sha256").hexdigest())


def _other(folder: Path) -> Adapter:
    """An adapter of another kind, which is put on a model as a whole."""
    base = jsonfile.read(folder / CONFIG).get("base_model_name_or_path")
    return Adapter(folder, base if isinstance(base, str) else None, {})


@dataclass(frozen=True)
class Put:
    """One adapter that was worked into a model."""

    name: str
    weight: float
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """What a merged model was made of. base: as it was named."""

    base: str
    adapters: tuple[Put, ...] = ()

    @classmethod
    def of(cls, path: Path, name: str) -> Provenance:
        """What a model's folder says, else that it is what it is called. Raises CheckpointError."""
        file = path / FILE
        if not path.is_dir() or not file.is_file():
            return cls(name)
        table = jsonfile.read(file)
        try:
            found = [Put(str(each["name"]), float(each["weight"]), str(each["sha256"])) for each in table["adapters"]]
            return cls(str(table["base"]), tuple(found))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{file} does not say what the model was made of ({error})") from None

    def after(self, chosen: Sequence[Chosen]) -> Provenance:
        """With these adapters in, too. One that goes in with what takes an earlier one out is neither's any more.

        Raises UsageError for an adapter that is in already.
        """
        left = list(self.adapters)
        for one in chosen:
            known = next((put for put in left if put.sha256 == one.sha256), None)
            if known is None:
                left.append(Put(str(one.adapter.path), one.weight, one.sha256))
            elif known.weight == -one.weight:
                left.remove(known)
            else:
                raise UsageError(
                    f"{one.name} was merged into this model already, {known.weight:g} of it",
                    fix=f"merge into {self.base}, or take it out first (--subtract)",
                )
        return Provenance(self.base, tuple(left))

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps({"format": 1, **asdict(self)}, indent=2, ensure_ascii=False) + "\n")


def check_base(model: LanguageModel, chosen: Sequence[Chosen], name: str) -> None:
    """Refuses (UsageError) an adapter that says it is for a model of another name."""
    path = model.checkpoint.path
    names = {name, str(path), path.name, path.stem, str(model.checkpoint.config.get("_name_or_path") or "")}
    ends = {_end(each) for each in names if each}
    for one in chosen:
        base = one.adapter.base
        if base and _end(base) not in ends:
            raise UsageError(
                f"{one.name} was made for {base[:200]}, and this model is {name[:200] or path.name}",
                fix="merge it into its own base; --another-base where both are the same model under two names",
            )


def _end(name: str) -> str:
    """What a path or a hub's name ends in."""
    return name.rstrip("/").rpartition("/")[2].casefold()


@memory_for("for these adapters")
def with_adapters(model: LanguageModel, chosen: Sequence[Chosen]) -> LanguageModel:
    """The model with several adapters on it at once, each times its weight; what they add is added, exactly.

    Raises CheckpointError for an adapter that does not fit the model, UsageError for what cannot be added.
    """
    others = [one for one in chosen if not one.adapter.modules]
    if others:
        if len(chosen) > 1 or others[0].weight != 1:
            raise UsageError(
                f"{others[0].name} is no LoRA: it cannot be weighed, added or taken out",
                fix="merge it alone, with the weight 1",
            )
        return model.with_adapter(others[0].adapter.path)
    model, blank = _headed(model, chosen)
    rules = family(dict(model.checkpoint.config)).RULES
    whole: dict[str, Tensor] = {}
    parts: list[tuple[float, Mapping[str, LowRank]]] = []
    for one in chosen:
        brought = replaced(one.adapter, model.model, rules)
        if brought and (one.weight != 1 or whole.keys() & brought.keys()):
            raise UsageError(
                f"{one.name} brings {next(iter(brought))} whole, which cannot be weighed, added or taken out",
                fix="merge it alone, with the weight 1",
            )
        whole |= brought
        parts.append((one.weight, deltas(one.adapter, model.model, rules)))
    base = with_replaced(model.model, whole) if whole else model.model
    twin = adapt(base, summed(parts), dtype=torch.float32)
    class_heads.check_filled(model.model, twin, blank)
    return LanguageModel(model.checkpoint, twin, model._tokenizer, model.template)


def _headed(model: LanguageModel, chosen: Sequence[Chosen]) -> tuple[LanguageModel, tuple[str, ...]]:
    """The model with the head over classes that an adapter brings along, and its parameters without numbers yet."""
    told = next((found for one in chosen if (found := class_heads.read(one.adapter.path))), None)
    if told is None:
        return model, ()
    config = {**model.checkpoint.config, **told}
    headed, blank = class_heads.with_head(model.model, config)
    checkpoint = replace(model.checkpoint, config=config, architecture=headed.architecture)
    return LanguageModel(checkpoint, headed, model._tokenizer, model.template), blank


@memory_for("for the merged weights")
def plain(model: LanguageModel) -> LanguageModel:
    """A model with an adapter on it as one without, which computes the same: it is worked into the weights.

    Raises UsageError where the base is quantised, UnsupportedError for an adapter that no weights can hold.
    """
    if not is_adapted(model.model):
        made, config = folding.plain(model.model, model.checkpoint.config)
        checkpoint = replace(model.checkpoint, config=config, architecture=made.architecture)
        return LanguageModel(checkpoint, made, model._tokenizer, model.template)
    return LanguageModel(model.checkpoint, merged(model.model), model._tokenizer, model.template)


def write_sum(folder: Path, model: LanguageModel, chosen: Sequence[Chosen], base: str) -> int:
    """Writes what `with_adapters` put on `model` as one adapter to `base`, and gives its rank.

    Raises UsageError where the ranks come to more than an adapter may have.
    """
    ranks = [module.a.shape[0] for _, module in adapted(model.model)]
    if not ranks:
        raise UsageError("what is no LoRA cannot be written as one", fix="leave --as-adapter out")
    if max(ranks) > MAX_RANK:
        raise UsageError(
            f"together the adapters have rank {max(ranks)}",
            expected=f"at most {MAX_RANK}",
            fix="merge them into the model instead (leave --as-adapter out)",
        )
    rank = max(set(ranks), key=ranks.count)
    scale = next(module.scale for _, module in adapted(model.model) if module.a.shape[0] == rank)
    dora = any(module.magnitude is not None for _, module in adapted(model.model))
    fresh = _brought(model, chosen)
    settings = Settings(base, rank, scale * rank, dora=dora)
    write_adapter(folder, model.model, model.checkpoint.config, settings, fresh)
    if any(class_heads.read(one.adapter.path) for one in chosen):
        for name, data in class_heads.described(model.checkpoint.config).items():
            write_bytes(folder / name, data)
    return max(ranks)


def _brought(model: LanguageModel, chosen: Sequence[Chosen]) -> frozenset[str]:
    rules: Any = family(dict(model.checkpoint.config)).RULES
    return frozenset(name for one in chosen for name in replaced(one.adapter, model.model, rules))
