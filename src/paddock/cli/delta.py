"""The verb for differences between models: delta."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app(help="Deltas: what a tuned model adds to its base (Vicuna, Alpaca).")

Base = Annotated[str, typer.Argument(metavar="BASE", help="The base: a folder, or a name.", show_default=False)]
Target = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.", show_default=False)
]


@app.command(cls=Verb, epilog="paddock delta make llama-7b my-vicuna -o my-vicuna-delta")
def make(
    base: Base,
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The tuned model.", show_default=False)],
    target: Target = None,
    grown: Annotated[
        str,
        typer.Option("--grown", metavar="zeros|mean", help="What stands for rows that the base's vocabulary lacks."),
    ] = "zeros",
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Writes the differences of TUNED from BASE, of which with BASE every bit of TUNED can be made again."""
    from paddock.cli import deltas

    deltas.make(base, tuned, target, grown, force, json)


@app.command(
    cls=Verb,
    epilog="""paddock delta apply llama-7b my-vicuna-delta -o my-vicuna
    paddock delta apply llama-7b alpaca-diff -o alpaca --grown mean""",
)
def apply(
    base: Base,
    delta: Annotated[
        str, typer.Argument(metavar="DELTA", help="A delta's folder, a published one too.", show_default=False)
    ],
    target: Target = None,
    grown: Annotated[
        str | None,
        typer.Option(
            "--grown",
            metavar="zeros|mean",
            help="What stands for rows that the base lacks. [default: as the delta says, else zeros]",
            show_default=False,
        ),
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Adds DELTA to BASE, and checks that the sum is the model that the delta was made of."""
    from paddock.cli import deltas

    deltas.apply(base, delta, target, grown, force, json)
