"""`paddock data clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli.options import Json
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock data clean "crawl/*.jsonl.zst" --recipe clean.yaml --output cleaned
    paddock data clean corpus.jsonl --recipe clean.yaml --output cleaned --dry-run 1000
    paddock data clean sharegpt.json --recipe examples.yaml --output chats.jsonl
    paddock data clean corpus.jsonl --recipe clean.yaml --output cleaned --show-removed "near duplicate\"""",
)
def clean(
    files: d.Files,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", "-r", metavar="FILE", help="The stages, in YAML: see docs/data-cleaning.md.", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where shards and manifest go; of examples, a file.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Changes the recipe: --set read.split=lines.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        int | None,
        typer.Option(
            "--dry-run",
            metavar="N",
            min=1,
            help="Clean the first N documents or examples only, and write nothing.",
            show_default=False,
        ),
    ] = None,
    show_removed: Annotated[
        str | None,
        typer.Option(
            "--show-removed",
            metavar="REASON",
            help='Show examples of what was removed for this reason, or was "changed"; "all" for every reason.',
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start over where the folder holds a run; replace the file.", show_default=False),
    ] = False,
    json: Json = False,
) -> None:
    """Cleans documents or examples by a recipe: duplicates, quality, language, private data; says why each one went.

    Of documents: writes shards, manifest.json, some of what was removed (removed.jsonl) and a plot (funnel.png) into a
    folder. A run that was interrupted goes on when started again, to the same bytes.

    A recipe that says `of: examples` takes conversations and the like, and writes a file (docs/examples.md).
    """
    from paddock.cli import data_cleaning

    data_cleaning.clean(data_cleaning.Asked(files, recipe, output, settings or [], dry_run, show_removed, force, json))
