"""`paddock pretrain`: from raw text to a model."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli import training_options as t
from paddock.cli.recipe import Name, Settings
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock pretrain tiny-shakespeare
    paddock pretrain tiny-shakespeare training.steps=200 --output out/short
    paddock pretrain mine.yaml data.root=~/texts training.optimizer.learning_rate=1e-3
    torchrun --nproc-per-node 2 -m paddock pretrain mine.yaml parallel.mode=fsdp""",
)
def pretrain(
    name: Name,
    settings: Settings = None,
    target: t.Target = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="NAME", help="One size of a suite. [default: all, in turn]", show_default=False),
    ] = None,
    resume: t.Resume = "auto",
    strict: t.Strict = False,
    changed: t.Changed = False,
    keep_going: t.KeepGoing = False,
    device: o.Device = "auto",
    dry_run: t.DryRun = False,
    json: o.Json = False,
) -> None:
    """Trains a model by a recipe; a run that was stopped goes on where it was.

    The run's folder holds the resolved recipe, metrics.jsonl, plots, saved steps and the final model, each a Hugging
    Face folder.
    """
    from paddock.cli import pretraining
    from paddock.cli.training_runs import Asked

    asked = Asked("pretrain", name, settings or [], target, resume, strict, changed, keep_going, device, dry_run, json)
    pretraining.pretrain(asked, size)
