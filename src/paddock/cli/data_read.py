"""`paddock data inspect` and `paddock data convert`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli import example_options as e
from paddock.cli.options import Force, Json
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock data inspect corpus.jsonl.zst
    paddock data inspect "texts/*.txt" --split lines --records 5
    paddock data inspect crawl.json.gz --on-error skip --json
    paddock data inspect alpaca.json
    paddock data inspect reviews.jsonl --field text=review --field label=stars""",
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
    field: e.Field = None,
    second: e.Second = None,
    source: e.Source = None,
    licence: e.Licence = None,
    language: e.Language = None,
    duplicates: e.Duplicates = "keep",
    trees: e.Trees = "threads",
    tree_state: e.States = None,
    synthetic: e.Synthetic = False,
    best: e.Best = None,
    json: Json = False,
) -> None:
    """Says what files of documents or examples are: format, shape, counts, lengths, what is dropped and why."""
    from paddock.cli import data_reading

    data_reading.inspect(files, data_reading.asked(ctx.params), records, json)


@app.command(
    cls=Verb,
    epilog="""paddock data convert corpus.json --output corpus.jsonl.zst
    paddock data convert "pages/*.parquet" --to txt --output pages.txt
    paddock data convert alpaca.json --to messages --output chat.jsonl --licence CC-BY-NC-4.0
    paddock data convert alpaca.json --to alpaca --output alpaca.parquet
    paddock data convert trees.jsonl.gz --trees ranked --to dpo --output preferences.jsonl
    paddock data convert train.en --second train.de --output pairs.jsonl""",
)
def convert(
    ctx: typer.Context,
    files: d.Files,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="What to write.", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Documents: jsonl, jsonl.gz, jsonl.zst, parquet, txt. Examples: messages, alpaca, sharegpt, dpo ... "
            "[default: as the name of the output says, and what suits the examples]",
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
    field: e.Field = None,
    second: e.Second = None,
    source: e.Source = None,
    licence: e.Licence = None,
    language: e.Language = None,
    duplicates: e.Duplicates = "keep",
    trees: e.Trees = "threads",
    tree_state: e.States = None,
    synthetic: e.Synthetic = False,
    best: e.Best = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Leave out id, source, licence and meta.", rich_help_panel=e.PANEL)
    ] = False,
    keep_inputs: Annotated[
        bool,
        typer.Option(
            "--keep-inputs",
            help="Leave an instruction's input a field of its message, which few other tools read.",
            rich_help_panel=e.PANEL,
        ),
    ] = False,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --to text: the chat template that conversations are written in.",
            rich_help_panel=e.PANEL,
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Writes documents or examples of files, in order, as one file of another format. With txt, meta is left behind."""
    from paddock.cli import data_reading

    data_reading.convert(files, data_reading.asked(ctx.params), output, to, force, json)
