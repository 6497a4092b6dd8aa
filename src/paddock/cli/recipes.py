"""What `paddock recipe` does."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import write_bytes
from paddock.cli import output
from paddock.errors import DataError, UsageError, did_you_mean
from paddock.finetune.recipe import FineTuning
from paddock.pretrain.recipe import Pretraining
from paddock.training import recipe_files

STAGES: dict[str, type[Pretraining] | type[FineTuning]] = {"pretrain": Pretraining, "finetune": FineTuning}


def load(name: str, settings: Sequence[str]) -> tuple[Any, Path]:
    """The typed recipe of a file or shipped name with `settings` over it, and the folder its files lie beside."""
    path = recipe_files.find(name)
    values = recipe_files.override(recipe_files.read(path), settings)
    return recipe_files.validated(stage_of(values, str(path)), values, str(path)), path.parent


def stage_of(values: Mapping[str, Any], source: str) -> type[Pretraining] | type[FineTuning]:
    """The type of the recipe that `stage:` names."""
    named = values.get("stage")
    if named not in STAGES:
        raise DataError(f"{source}: stage is {named!r}", expected="stage: " + " or ".join(STAGES))
    return STAGES[named]


def list_(as_json: bool) -> None:
    rows = []
    for name, path in recipe_files.shipped().items():
        values = recipe_files.read(path)
        rows.append({"name": name, "stage": values.get("stage"), **values.get("card", {})})
    if as_json:
        output.as_json(rows)
        return
    columns = [c for c in ("name", "about", "time", "memory", "metric") if any(row.get(c) for row in rows)]
    output.result(output.table([[str(row.get(c, "")) for c in columns] for row in rows], columns))


def copy(name: str, target: str | None, force: bool) -> None:
    source = recipe_files.find(name)
    goal = Path(target or source.name)
    if goal.is_dir():
        goal = goal / source.name
    if goal.exists() and not force:
        raise UsageError(f"{goal} is there already", fix="give another name, or --force")
    write_bytes(goal, source.read_bytes())
    output.result(str(goal))


def validate(name: str, settings: Sequence[str], resolved: bool, as_json: bool) -> None:
    recipe, _ = load(name, settings)
    values = recipe.model_dump(mode="json")
    if as_json:
        output.as_json(values)
    elif resolved:
        output.result(recipe_files.write(values), end="")
    else:
        output.result(f"{name} can be meant: {recipe.stage}, {recipe.steps_told} of {recipe.training.batch} rows")


def schema(stage: str) -> None:
    if stage not in STAGES:
        hint = did_you_mean(stage, STAGES) or f"one of {', '.join(STAGES)}"
        raise UsageError(f"there is no stage {stage!r}", fix=hint)
    output.result(jsonlib.dumps(STAGES[stage].model_json_schema(), indent=2))
