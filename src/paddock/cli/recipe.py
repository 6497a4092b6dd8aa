"""`paddock recipe`: the files that say how a model is trained."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app(help="Recipes: how a model is trained, as a file.")

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe, or a .yaml file.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE...", help="Settings over the file: training.steps=100", show_default=False),
]


@app.command("ls", cls=Verb, epilog="paddock recipe ls")
def list_(json: o.Json = False) -> None:
    """Lists the recipes that come with Paddock, and what came of each where it was run."""
    from paddock.cli import recipes

    recipes.list_(json)


@app.command(cls=Verb, epilog="paddock recipe cp tiny-shakespeare mine.yaml")
def cp(
    name: Name,
    target: Annotated[
        str | None, typer.Argument(metavar="FILE", help="[default: RECIPE.yaml, here]", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.", show_default=False)
    ] = False,
) -> None:
    """Copies a recipe, with its comments, to be changed."""
    from paddock.cli import recipes

    recipes.copy(name, target, force)


@app.command(
    cls=Verb,
    epilog="""paddock recipe validate mine.yaml
    paddock recipe validate tiny-shakespeare training.steps=100 --resolved""",
)
def validate(
    name: Name,
    settings: Settings = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the whole recipe, defaults included.", show_default=False)
    ] = False,
    json: o.Json = False,
) -> None:
    """Says whether a recipe can be meant: keys, types, bounds. Reads no data."""
    from paddock.cli import recipes

    recipes.validate(name, settings or [], resolved, json)


@app.command(cls=Verb, epilog="paddock recipe schema pretrain > pretrain.schema.json")
def schema(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="pretrain", show_default=False)] = "pretrain",
) -> None:
    """Prints the JSON schema of a stage's recipes, for editors."""
    from paddock.cli import recipes

    recipes.schema(stage)
