"""`paddock batches`: what a run read, batch by batch."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

HELP = "Batches: exactly what a run reads at a step."
app = new_app(no_args_is_help=True, help=HELP)

Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]


@app.callback(help=HELP)
def batches() -> None:
    """A group even while it holds one command."""


@app.command(cls=Verb, epilog="paddock batches show out/pythia-suite-mini/50k --step 17")
def show(
    run: Run,
    step: Annotated[int, typer.Option("--step", metavar="N", help="Which batch, from 0.", show_default=False)],
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Rows to show. [default: all]", show_default=False)
    ] = 0,
    json: o.Json = False,
) -> None:
    """Shows the rows of one batch as text, their places in the stream, and the batch's digest.

    Two runs of a suite that show the same digest at a step read the same tokens there.
    """
    from paddock.cli import studying

    studying.show_batch(run, step, rows, json)
