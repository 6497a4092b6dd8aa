"""`paddock finetune`: a model and a file of examples, by a recipe."""

from __future__ import annotations

from paddock.cli import options as o
from paddock.cli import training_options as t
from paddock.cli.recipe import Name, Settings
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock finetune lora model=my-model data.files=examples.json
    paddock finetune mine.yaml training.epochs=3 --output out/mine
    paddock finetune lora model=my-model data.files=examples.json --dry-run""",
)
def finetune(
    name: Name,
    settings: Settings = None,
    target: t.Target = None,
    resume: t.Resume = "auto",
    strict: t.Strict = False,
    changed: t.Changed = False,
    keep_going: t.KeepGoing = False,
    device: o.Device = "auto",
    dry_run: t.DryRun = False,
    json: o.Json = False,
) -> None:
    """Tunes a model on examples by a recipe; a run that was stopped goes on where it was.

    Before the first step it shows what is learned of the examples. The run's folder holds the resolved recipe,
    metrics.jsonl, plots, saved steps, and as `final` the model, or an adapter to it.
    """
    from paddock.cli import finetuning
    from paddock.cli.training_runs import Asked

    asked = Asked("finetune", name, settings or [], target, resume, strict, changed, keep_going, device, dry_run, json)
    finetuning.finetune(asked)
