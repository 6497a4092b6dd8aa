"""`paddock data inspect` and `paddock data convert`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli.options import Force, Json
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock data inspect corpus.jsonl.zst
    paddock data inspect "texts/*.txt" --split lines --records 5
    paddock data inspect crawl.json.gz --on-error skip --json""",
)
def inspect(
    ctx: typer.Context,
    files: d.Files,
    records: Annotated[
        int, typer.Option("--records", "-n", metavar="N", min=0, help="How many to show of each file.")
    ] = 3,
    format: d.Format = "auto",
    text_field: d.TextField = "text",
    split: d.Split = "auto",
    separator: d.Separator = None,
    encoding: d.Encoding = "utf-8",
    errors: d.Errors = "strict",
    on_error: d.OnError = "stop",
    limit: d.Limit = None,
    json: Json = False,
) -> None:
    """Says what files of documents are: format, shape, counts, sizes, what is dropped and why, and some records."""
    from paddock.cli import data_reading

    data_reading.inspect(files, d.reading(ctx.params), records, json)


@app.command(
    cls=Verb,
    epilog="""paddock data convert corpus.json --output corpus.jsonl.zst
    paddock data convert "pages/*.parquet" --to txt --output pages.txt""",
)
def convert(
    ctx: typer.Context,
    files: d.Files,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="What to write.", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="jsonl, jsonl.gz, jsonl.zst, parquet, txt. [default: as the name of the output says]",
            show_default=False,
        ),
    ] = None,
    format: d.Format = "auto",
    text_field: d.TextField = "text",
    split: d.Split = "auto",
    separator: d.Separator = None,
    encoding: d.Encoding = "utf-8",
    errors: d.Errors = "strict",
    on_error: d.OnError = "stop",
    limit: d.Limit = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Writes the documents of files, in order, as one file of another format. With txt, meta is left behind."""
    from paddock.cli import data_reading

    data_reading.convert(files, d.reading(ctx.params), output, to, force, json)
