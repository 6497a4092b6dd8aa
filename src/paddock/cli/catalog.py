"""`paddock catalog`: which open models exist, how they compare, and what they were made of."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app(help="Open models, datasets and applications: facts with their sources.")

Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write a file; its ending says the format.", show_default=False
    ),
]
Data = Annotated[bool, typer.Option("--data/--no-data", help="With datasets, or models and applications alone.")]


@app.command(
    cls=Verb,
    epilog="""paddock catalog tree
    paddock catalog tree vicuna --up
    paddock catalog tree llama-1 --down --depth 2 --no-data -o llama.svg
    paddock catalog tree -o evolution.html""",
)
def tree(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A model, dataset or application. [default: all, by year]", show_default=False
        ),
    ] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what NAME was made of.", show_default=False)] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made of NAME.", show_default=False)] = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, max=100, help="At most N steps away.", show_default=False),
    ] = None,
    data: Data = True,
    output: Output = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Shows what something was made of and what was made of it; without NAME, how open models came about.

    FILE ends in .svg, .png, .html, .dot, .json or .md.
    """
    from paddock.cli import descending

    descending.tree(name, up, down, depth, data, output, force, json)
