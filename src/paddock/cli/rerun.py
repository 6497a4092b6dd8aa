"""`paddock rerun`: whether a run comes out the same again."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock rerun out/tiny-shakespeare
    paddock rerun out/stories --steps 50 --output again""",
)
def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help="Only the first N steps. [default: all]", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="[default: RUN-rerun]", show_default=False),
    ] = None,
    device: o.Device = "auto",
    json: o.Json = False,
) -> None:
    """Runs a recipe again in a fresh folder, and says where it first differs from what was.

    What surrounded the first run (versions, machine, number of processes) and is not the same now is told first. Ends
    with 0 where both are identical, with 1 where they differ. Where it is stopped, the same command goes on.
    """
    from paddock.cli import rerunning

    rerunning.rerun(run, steps, target, device, json)
