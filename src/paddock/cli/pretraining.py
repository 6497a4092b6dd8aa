"""What `paddock pretrain` does: one run after another, shown as they go."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from paddock.cli import output, recipes
from paddock.cli.training_runs import Asked, draw, last, shown, tell
from paddock.engine.device import chosen_device
from paddock.errors import UsageError
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.sampling import sampler
from paddock.pretrain.stage import TOKENIZER, prepare
from paddock.pretrain.stage import pretrain as run_stage
from paddock.training.conduct import Wishes
from paddock.training.parallel import Alone
from paddock.training.parallel.environment import from_environment
from paddock.training.run import RunFolder


def pretrain(asked: Asked, one_size: str | None) -> None:
    wishes = asked.wishes(*(["--size", one_size] if one_size else []))
    recipe, beside = recipes.load(asked.name, asked.settings)
    if not isinstance(recipe, Pretraining):
        raise UsageError(f"{asked.name} is a recipe for {recipe.stage}", fix=f"paddock {recipe.stage} {asked.name}")
    sizes = [one_size] if one_size else list(recipe.sizes)
    runs = {size: recipe.of_size(size) for size in sizes} if sizes else {None: recipe}
    with from_environment(recipe.parallel, chosen_device(asked.device)) as parallel:
        done = []
        for size, one in runs.items():
            folder = asked.folder / size if size else asked.folder
            if asked.dry_run:
                done.append(_described(one, beside, folder, asked.folder))
            else:
                done.append(_trained(one, beside, folder, asked.folder, parallel, wishes))
        if parallel.main:
            tell(done, asked, lambda run: _what_next(recipe, run["model"]))


def _what_next(recipe: Pretraining, model: str) -> str:
    if recipe.objective.name == "masked":
        return f'let it fill gaps: paddock fill "a [MASK] word" -m {model}'
    return f"talk with it: paddock generate TEXT -m {model}"


def _trained(
    recipe: Pretraining, beside: Path, folder: Path, shared: Path, parallel: Alone, wishes: Wishes
) -> dict[str, Any]:
    prompts = recipe.prompts
    with shown(
        recipe.training,
        folder,
        parallel,
        lambda made: sampler(made.start, made.tokenizer, prompts) if prompts else None,
    ) as (watching, say):
        final = run_stage(
            recipe, beside, folder, parallel, wishes, shared=shared, watching=watching, draw=draw, tell=say
        )
    return {"folder": str(folder), "model": str(final), **last(RunFolder(folder))}


def _described(recipe: Pretraining, beside: Path, folder: Path, shared: Path) -> dict[str, Any]:
    """What a run would do, from all that is read before its first step."""
    with tempfile.TemporaryDirectory() as scratch:  # a vocabulary that was trained to be looked at is no run's
        kept = shared if (shared / TOKENIZER).exists() else Path(scratch)
        prepared = prepare(recipe, beside, kept, output.note)
    batch = prepared.train.at(0)
    first = prepared.tokenizer.decode(batch.ids[0].tolist(), skip_special=False)
    return {
        "folder": str(folder),
        "parameters": sum(parameter.numel() for parameter in prepared.start.model.parameters()),
        "rows": len(prepared.train.table),
        "epochs": recipe.training.steps / prepared.train.steps_per_epoch,
        "targets_of_first_batch": batch.supervised,
        "first_row": first,
    }
