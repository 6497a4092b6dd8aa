"""What `paddock rerun` does: the same recipe once more, and a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from paddock.checkpoint.jsonfile import read as read_json
from paddock.cli import output, recipes
from paddock.cli.training_progress import TrainingProgress
from paddock.engine.device import chosen_device
from paddock.errors import DataError, UsageError
from paddock.finetune.stage import finetune
from paddock.pretrain.stage import pretrain
from paddock.training import recipe_files, saving
from paddock.training.conduct import Wishes
from paddock.training.loop import StepReport, Trainer
from paddock.training.metrics import Metrics
from paddock.training.parallel import Alone
from paddock.training.reopening import SOURCE
from paddock.training.rerun import Comparison, changed_on_its_way, compare, last_step, other_data, surroundings
from paddock.training.run import RunFolder

AGAIN = "-rerun"
STAGES: dict[str, Callable[..., Path]] = {"pretrain": pretrain, "finetune": finetune}


class Enough(Exception):
    """As many steps were run as asked for."""


def rerun(name: str, steps: int | None, target: str | None, device: str, as_json: bool) -> None:
    before = RunFolder(Path(name).expanduser())
    recipe = _recipe(before)
    now = RunFolder(Path(target).expanduser() if target else before.path.with_name(before.path.name + AGAIN))
    _check(before, now)
    last = _last(steps, recipe.training.steps or last_step(before))
    told = surroundings(before, saving.versions())
    for line in told:
        output.note(line)
    words = ["paddock", "rerun", name, *(["--steps", str(steps)] if steps else [])]
    command = shlex.join(words + (["--output", target] if target else []))
    _run(recipe, before, now, last, command, device)
    found = compare(before, now, last)
    if other_data(before, now):
        told.append("the data are not what they were")
        output.note(told[-1])
    _tell(found, before, now, told, as_json)
    if not found.identical:
        raise typer.Exit(1)


def _recipe(run: RunFolder) -> Any:
    if not run.recipe.is_file():
        raise UsageError(f"{run.path} is no run", expected=f"a folder with {run.recipe.name}")
    values = recipe_files.read(run.recipe)
    return recipe_files.validated(recipes.stage_of(values, str(run.recipe)), values, str(run.recipe))


def _beside(run: RunFolder) -> Path:
    """The folder that the recipe's files were looked for beside."""
    found = read_json(run.path / SOURCE).get("beside")
    if not isinstance(found, str):
        raise DataError(f"{run.path / SOURCE} does not say where the recipe lay", expected='"beside"')
    return Path(found)


def _last(steps: int | None, all_steps: int) -> int:
    if steps is not None and not 0 < steps <= all_steps:
        raise UsageError(f"--steps {steps}", expected=f"1 to the run's {all_steps}")
    return steps or all_steps


def _check(before: RunFolder, now: RunFolder) -> None:
    if earlier := changed_on_its_way(before):
        raise UsageError(
            f"{before.path} did not follow one recipe: {earlier[0].name} was changed on its way",
            fix="run the two recipes by hand, one after the other",
        )
    if now.path.resolve() == before.path.resolve() or now.finished():
        raise UsageError(f"{now.path} holds a run that is done", fix="name a fresh folder with --output, or remove it")


def _run(recipe: Any, before: RunFolder, now: RunFolder, last: int, command: str, device: str) -> None:
    """The first `last` steps of the recipe again. The schedule stays that of all its steps."""

    def enough(report: StepReport) -> None:
        if report.step > last:  # the record of the step before is in the log by now
            raise Enough

    with Alone(chosen_device(device)) as parallel, TrainingProgress(last) as progress:

        def shown(record: Mapping[str, Any]) -> None:
            if record["step"] <= last:
                progress(record)

        def watching(prepared: Any, trainer: Trainer) -> list[Callable[[StepReport], Any]]:
            return [Metrics(trainer, [shown]), enough]

        with contextlib.suppress(Enough):
            STAGES[recipe.stage](
                recipe,
                _beside(before),
                now.path,
                parallel,
                Wishes(command=command),
                watching=watching,
                tell=progress.note,
            )


def _tell(found: Comparison, before: RunFolder, now: RunFolder, told: list[str], as_json: bool) -> None:
    if as_json:
        output.as_json(
            {"identical": found.identical, **dataclasses.asdict(found), "changed": told, "folder": str(now.path)}
        )
        return
    first = found.first
    if first is None:
        saved = ", ".join(found.weights) or "none saved by both"
        output.result(f"identical: {found.steps} steps; weights: {saved}")
        return
    values = f": {first.before} then, {first.now} now" if first.before or first.now else ""
    output.result(f"differs first at step {first.step} in {first.what}{values}")
    output.note(f"the second run is in {now.path}")
