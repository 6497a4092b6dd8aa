"""`paddock pretrain`: from raw text to a model."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
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
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="[default: out/RECIPE]", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="NAME", help="One size of a suite. [default: all, in turn]", show_default=False),
    ] = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume", metavar="HOW", help="auto: go on from the newest saved step; never.", show_default=True
        ),
    ] = "auto",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a damaged newest step, rather than pass it over.", show_default=False),
    ] = False,
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Go on though recipe or data are not what they were.", show_default=False),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Train on where a step cannot be saved.", show_default=False),
    ] = False,
    device: o.Device = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Read everything, describe the run and its first batch; train nothing.",
            show_default=False,
        ),
    ] = False,
    json: o.Json = False,
) -> None:
    """Trains a model by a recipe; a run that was stopped goes on where it was.

    The run's folder holds the resolved recipe, metrics.jsonl, plots, saved steps and the final model, each a Hugging
    Face folder.
    """
    from paddock.cli import pretraining

    asked = pretraining.Asked(
        name, settings or [], target, size, resume, strict, changed, keep_going, device, dry_run, json
    )
    pretraining.pretrain(asked)
