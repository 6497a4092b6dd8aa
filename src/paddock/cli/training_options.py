"""Options that every verb that trains by a recipe has."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FOLDER", help="[default: out/RECIPE]", show_default=False)
]
Resume = Annotated[
    str,
    typer.Option("--resume", metavar="HOW", help="auto: go on from the newest saved step; never.", show_default=True),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a damaged newest step, rather than pass it over.", show_default=False)
]
Changed = Annotated[
    bool, typer.Option("--changed", help="Go on though recipe or data are not what they were.", show_default=False)
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Train on where a step cannot be saved.", show_default=False)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Read everything, describe the run and its first batch; train nothing.", show_default=False
    ),
]
