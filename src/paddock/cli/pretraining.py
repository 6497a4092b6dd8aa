"""What `paddock pretrain` does: one run after another, shown as they go."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output, recipes
from paddock.cli.training_progress import TrainingProgress, validated
from paddock.engine.device import chosen_device
from paddock.errors import UsageError
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.sampling import sampler
from paddock.pretrain.stage import TOKENIZER, Prepared, prepare
from paddock.pretrain.stage import pretrain as run_stage
from paddock.training import journal, plots
from paddock.training.conduct import Wishes
from paddock.training.loop import Trainer
from paddock.training.metrics import Metrics, Sink
from paddock.training.parallel import Alone
from paddock.training.parallel.environment import from_environment
from paddock.training.run import RunFolder
from paddock.training.tensorboard import TensorBoard
from paddock.training.validation import byte_lengths

RUNS = Path("out")
RESUMES = ("auto", "never")


@dataclass(frozen=True)
class Asked:
    """What a user asked `pretrain` for."""

    name: str
    settings: Sequence[str]
    target: str | None
    size: str | None
    resume: str
    strict: bool
    changed: bool
    keep_going: bool
    device: str
    dry_run: bool
    json: bool

    @property
    def folder(self) -> Path:
        return Path(self.target).expanduser() if self.target else RUNS / Path(self.name).stem

    @property
    def command(self) -> str:
        """The command that goes on with this run."""
        words = ["paddock", "pretrain", self.name, *self.settings]
        words += ["--output", self.target] if self.target else []
        return shlex.join(words + (["--size", self.size] if self.size else []))

    @property
    def wishes(self) -> Wishes:
        if self.resume not in RESUMES:
            raise UsageError(f"--resume {self.resume}", expected=" or ".join(RESUMES))
        policy = "continue" if self.keep_going else "stop"
        return Wishes(self.resume, self.strict, self.changed, policy, self.command)  # type: ignore[arg-type]


def pretrain(asked: Asked) -> None:
    wishes = asked.wishes
    recipe, beside = recipes.load(asked.name, asked.settings)
    if not isinstance(recipe, Pretraining):
        raise UsageError(f"{asked.name} is a recipe for {recipe.stage}", fix=f"paddock {recipe.stage} {asked.name}")
    sizes = [asked.size] if asked.size else list(recipe.sizes)
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
            _tell(done, asked)


def _trained(
    recipe: Pretraining, beside: Path, folder: Path, shared: Path, parallel: Alone, wishes: Wishes
) -> dict[str, Any]:
    with TrainingProgress(recipe.training.steps) as progress, contextlib.ExitStack() as stack:
        say = progress.note if parallel.main else lambda text: None
        sinks: list[Sink] = [progress] if parallel.main else []
        if recipe.training.tensorboard and parallel.main:
            sinks.append(stack.enter_context(contextlib.closing(TensorBoard(folder / "tensorboard"))))

        def watching(prepared: Prepared, trainer: Trainer) -> list[Metrics]:
            say(f"precision: {trainer.precision}")
            asked = sampler(prepared.start, prepared.tokenizer, recipe.prompts) if recipe.prompts else None
            return [
                Metrics(
                    trainer,
                    sinks,
                    held_out=prepared.validation,
                    lengths=byte_lengths(prepared.tokenizer),
                    sampler=asked,
                )
            ]

        final = run_stage(
            recipe, beside, folder, parallel, wishes, shared=shared, watching=watching, draw=_draw, tell=say
        )
    return {"folder": str(folder), "model": str(final), **_last(RunFolder(folder))}


def _draw(run: RunFolder) -> None:
    plots.draw(journal.read(run.metrics), run.plots, run.path.name)


def _last(run: RunFolder) -> dict[str, Any]:
    """What the log says at the end."""
    step, validation = {}, None
    for record in journal.read(run.metrics):
        if "loss" in record:
            step, validation = record, record.get("validation") or validation
    return {"step": step.get("step"), "loss": step.get("loss"), "validation": validation}


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


def _tell(done: list[dict[str, Any]], asked: Asked) -> None:
    if asked.json:
        output.as_json(done)
        return
    for run in done:
        if asked.dry_run:
            output.result("\n".join(f"{key}: {value}" for key, value in run.items()))
            continue
        score = run["validation"]
        said = f", {validated(score)}" if score else ""
        output.result(f"{run['model']}: step {run['step']}, loss {run['loss']:.4f}{said}")
        output.note(f"plots in {run['folder']}/plots; talk with it: paddock generate -m {run['model']} TEXT")
