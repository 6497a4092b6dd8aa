"""`paddock data pack`, `paddock data show` and `paddock data mix`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli.options import Force, Json
from paddock.cli.verb import Verb, new_app

app = new_app()

Packing = Annotated[
    str,
    typer.Option(
        "--packing", metavar="HOW", help="fit (documents whole where they fit), stream (end to end) or single."
    ),
]


@app.command(
    cls=Verb,
    epilog="""paddock data pack corpus.jsonl.zst --tokenizer my-model --output shards
    paddock data pack stories/ code/ -t tokenizer.json -o shards --validation 1% --context 2048""",
)
def pack(
    ctx: typer.Context,
    files: d.Files,
    tokenizer: Annotated[
        str,
        typer.Option("--tokenizer", "-t", metavar="PATH", help="A vocabulary file or a model.", show_default=False),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Where the shards go.", show_default=False)
    ],
    validation: Annotated[
        str, typer.Option(metavar="SHARE", help="Documents to keep back: 1% or 0.01; copies stay together.")
    ] = "0",
    context: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Say how rows of N tokens would be filled.", show_default=False),
    ] = None,
    end: Annotated[
        bool, typer.Option("--end/--no-end", help="Put the tokenizer's end of text after every document.")
    ] = True,
    begin: Annotated[
        bool | None,
        typer.Option(
            "--begin/--no-begin",
            help="Put its beginning before every document. [default: as before prompts]",
            show_default=False,
        ),
    ] = None,
    shard_tokens: Annotated[
        int, typer.Option("--shard-tokens", metavar="N", min=1, help="Tokens from which a shard is full.")
    ] = 2**28,
    force: Force = False,
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
    """Encodes documents into token shards: memory-mapped files of ids and an index with counts and hashes.

    With --validation the folder holds two, train and validation. It appears whole or not at all, and the same documents
    give the same bytes.
    """
    from paddock.cli import data_packing

    asked = data_packing.Asked(
        files, tokenizer, output, validation, context, end, begin, shard_tokens, force, d.reading(ctx.params), json
    )
    data_packing.pack(asked)


@app.command(
    cls=Verb,
    epilog="""paddock data show shards
    paddock data show shards/train --context 2048 --packing fit --row 17
    paddock data show shards --verify --json""",
)
def show(
    shards: Annotated[
        str,
        typer.Argument(
            metavar="SHARDS", help="A folder of token shards, a Megatron pair or a mixture.", show_default=False
        ),
    ],
    context: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a row.")] = 128,
    packing: Packing = "fit",
    row: Annotated[int, typer.Option(metavar="K", min=0, help="The row that is shown, decoded.")] = 0,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer", "-t", metavar="PATH", help="To decode by. [default: the shards' own]", show_default=False
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything through and compare hashes.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Shows token shards: counts, sources, how rows would be filled, and one row as text."""
    from paddock.cli import data_packing

    data_packing.show(shards, context, packing, row, tokenizer, verify, json)


@app.command(
    cls=Verb,
    epilog="""paddock data mix stories=0.7 code=0.3 --output mix.json
    paddock data mix web/train=80 wiki/train=20 -o mix.json --tokens 1e9 --context 2048""",
)
def mix(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SHARDS=WEIGHT", help="Token shards and their weights.", show_default=False),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="What to write.", show_default=False)],
    tokens: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=1, help="Report for a run of N tokens. [default: as many as there are]", show_default=False
        ),
    ] = None,
    context: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a row.")] = 1024,
    packing: Packing = "fit",
    force: Force = False,
    json: Json = False,
) -> None:
    """Writes a mixture of token shards by weights, and says what a run would read of each: tokens and epochs.

    Weights may sum to anything. In every 1,000 rows the proportions are exact.
    """
    from paddock.cli import data_packing

    data_packing.mix(sources, output, tokens, context, packing, force, json)
