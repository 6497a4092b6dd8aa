"""Verbs that fetch models and delete them: pull, rm."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.", show_default=False)]


@app.command(
    cls=Verb,
    epilog="""paddock pull pythia-70m
    paddock pull EleutherAI/pythia-70m --revision step1000 --dry-run
    paddock pull someone/model-GGUF --include '*Q4_K_M.gguf'""",
)
def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="ORGANISATION/NAME on the hub, or a name of the catalogue.")
    ],
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="R", help="Branch, tag or commit. [default: main]", show_default=False),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="PATTERN",
            help="Fetch exactly the files that match; may be repeated. [default: one form of the weights, "
            "and what describes them]",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATTERN", help="But not these; may be repeated.", show_default=False),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="Form of the weights: auto, safetensors, gguf, bin. [default: auto, the safest there is]",
            show_default=False,
        ),
    ] = "auto",
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Write plain files here. [default: the hub's cache, which other tools share]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.", show_default=False)] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no hub: only say whether it is here.", show_default=False)
    ] = False,
    yes: Yes = False,
    json: o.Json = False,
) -> None:
    """Fetches a model from a hub: only what is missing, every file checked against its hash.

    The only verb that goes out to a network. It asks HF_ENDPOINT (https://huggingface.co), says who it is by
    "paddock/VERSION" and nothing more, and sends HF_TOKEN to that address alone.
    """
    from paddock.cli import pulling

    pulling.pull(
        pulling.Asked(name, revision, tuple(include or ()), tuple(exclude or ()), format, to),
        dry_run,
        offline,
        yes,
        json,
    )


@app.command(cls=Verb, epilog="paddock rm pythia-70m\npaddock rm EleutherAI/pythia-70m@step1000 --yes")
def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `paddock ls` shows.")],
    yes: Yes = False,
    json: o.Json = False,
) -> None:
    """Deletes a model that lies in the hub's cache or in PADDOCK_HOME/models. Says what, and how much is freed."""
    from paddock.cli import removing

    removing.rm(name, yes, json)
