"""What every verb that trains by a recipe does around its stage: wishes, live line, logs, plots, last words."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paddock.cli import output
from paddock.cli.training_progress import TrainingProgress, validated
from paddock.errors import UsageError
from paddock.model.transformer import Transformer
from paddock.training import journal, plots
from paddock.training.conduct import Wishes
from paddock.training.loop import Trainer
from paddock.training.metrics import Measure, Metrics, Sink
from paddock.training.parallel import Alone
from paddock.training.recipe import Training
from paddock.training.run import RunFolder
from paddock.training.tensorboard import TensorBoard

RUNS = Path("out")
RESUMES = ("auto", "never")


@dataclass(frozen=True)
class Asked:
    """What a user asked a verb that trains for."""

    verb: str
    name: str
    settings: Sequence[str]
    target: str | None
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

    def wishes(self, *more: str) -> Wishes:
        """How the run is to be conducted; `more`: what else the command that goes on with it says."""
        if self.resume not in RESUMES:
            raise UsageError(f"--resume {self.resume}", expected=" or ".join(RESUMES))
        words = ["paddock", self.verb, self.name, *self.settings, *(["--output", self.target] if self.target else [])]
        policy = "continue" if self.keep_going else "stop"
        return Wishes(self.resume, self.strict, self.changed, policy, shlex.join([*words, *more]))  # type: ignore[arg-type]


class Prepared(Protocol):
    """What a stage has made of its recipe."""

    @property
    def measure(self) -> Measure | None: ...


Sampler = Callable[[Any], Callable[[Transformer], Sequence[str]] | None]
Watch = Callable[[Any, Trainer], list[Metrics]]


@contextlib.contextmanager
def shown(training: Training, folder: Path, parallel: Alone, sampler: Sampler) -> Iterator[tuple[Watch, Any]]:
    """While a run goes on: the hooks that log and show it, and what tells the user things."""
    with TrainingProgress(training.steps) as progress, contextlib.ExitStack() as stack:
        say = progress.note if parallel.main else lambda text: None
        sinks: list[Sink] = [progress] if parallel.main else []
        if training.tensorboard and parallel.main:
            sinks.append(stack.enter_context(contextlib.closing(TensorBoard(folder / "tensorboard"))))

        def watching(prepared: Prepared, trainer: Trainer) -> list[Metrics]:
            progress.steps = trainer.recipe.steps  # known only now where a recipe speaks of epochs
            say(f"precision: {trainer.precision}")
            return [Metrics(trainer, sinks, measure=prepared.measure, sampler=sampler(prepared))]

        yield watching, say


def draw(run: RunFolder) -> None:
    plots.draw(journal.read(run.metrics), run.plots, run.path.name)


def last(run: RunFolder) -> dict[str, Any]:
    """What the log says at the end."""
    step, validation = {}, None
    for record in journal.read(run.metrics):
        if "loss" in record:
            step, validation = record, record.get("validation") or validation
    return {"step": step.get("step"), "loss": step.get("loss"), "validation": validation}


def tell(done: list[dict[str, Any]], asked: Asked, afterwards: Callable[[dict[str, Any]], str]) -> None:
    """The last words about each run; `afterwards`: what a user may do next."""
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
        output.note(f"plots in {run['folder']}/plots; {afterwards(run)}")
