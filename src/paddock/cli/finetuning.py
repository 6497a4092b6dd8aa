"""What `paddock finetune` does: a run, shown as it goes."""

from __future__ import annotations

from typing import Any

from paddock.cli import maskprint, output, recipes
from paddock.cli.progress import Counting
from paddock.cli.training_runs import Asked, draw, last, shown, tell
from paddock.engine.device import chosen_device
from paddock.errors import UsageError
from paddock.finetune.recipe import FineTuning
from paddock.finetune.sampling import sampler
from paddock.finetune.stage import Prepared, prepare
from paddock.finetune.stage import finetune as run_stage
from paddock.training.parallel.environment import from_environment
from paddock.training.run import RunFolder

# What to do with the model of a task.
TRIAL = "paddock chat {}"
TRIALS = dict.fromkeys(("classify", "regress"), 'paddock classify "a text" -m {}') | {
    "embed": 'paddock embed "a text" "another" -m {}',
    "extract": "paddock summarise FILE -m {}",
}


def finetune(asked: Asked) -> None:
    wishes = asked.wishes()
    recipe, beside = recipes.load(asked.name, asked.settings)
    if not isinstance(recipe, FineTuning):
        raise UsageError(f"{asked.name} is a recipe for {recipe.stage}", fix=f"paddock {recipe.stage} {asked.name}")
    with from_environment(recipe.parallel, chosen_device(asked.device)) as parallel:
        if asked.dry_run:
            done = _described(recipe, beside, asked)
        else:

            def begun(prepared: Prepared) -> Any:
                if parallel.main and prepared.asked.preview is not None:
                    maskprint.show(prepared.asked.preview)
                return sampler(prepared.opened, recipe.prompts)

            with shown(recipe.training, asked.folder, parallel, begun) as (watching, say), Counting() as counted:
                final = run_stage(
                    recipe,
                    beside,
                    asked.folder,
                    parallel,
                    wishes,
                    watching=watching,
                    draw=draw,
                    tell=say,
                    counted=counted,
                )
            done = {"folder": str(asked.folder), "model": str(final), **last(RunFolder(asked.folder))}
        if parallel.main:
            tell([done], asked, lambda run: "try it: " + TRIALS.get(recipe.task.name, TRIAL).format(run["model"]))


def _described(recipe: FineTuning, beside: Any, asked: Asked) -> dict[str, Any]:
    """What a run would do, from all that is read before its first step."""
    with Counting() as counted:
        prepared = prepare(recipe, beside, output.note, counted)
    done = {
        "folder": str(asked.folder),
        "parameters": prepared.tuned.parameters,
        "trainable": prepared.tuned.trainable,
        "rows": len(prepared.train.table),
        "steps": prepared.training.steps,
        "targets_of_first_batch": prepared.train.at(0).supervised,
        "counts": dict(prepared.asked.counts),
    }
    preview = prepared.asked.preview
    if asked.json:
        return {**done, "masks": preview}
    if preview is not None:
        maskprint.show(preview)
    return done
