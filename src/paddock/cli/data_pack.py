"""`paddock data pack`, `paddock data show` and `paddock data mix`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli.options import Force, Json
from paddock.cli.verb import Verb, new_app

app = new_app()
EXAMPLES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".tsv")  # names of files that hold examples

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
    paddock data mix web/train=80 wiki/train=20 -o mix.json --tokens 1e9 --context 2048
    paddock data mix human.jsonl=1 synthetic.jsonl=2 -o mix.jsonl --against test.jsonl""",
)
def mix(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE=WEIGHT", help="Token shards, or files of examples, and their weights.", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .json mixture of shards, or .jsonl of examples.",
            show_default=False,
        ),
    ],
    tokens: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=1, help="Report for a run of N tokens. [default: as many as there are]", show_default=False
        ),
    ] = None,
    context: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a row.")] = 1024,
    packing: Packing = "fit",
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", metavar="N", min=1, help="Examples in all. [default: most]", show_default=False),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Leave out examples that share a run of words with these.", show_default=False
        ),
    ] = None,
    run: Annotated[int, typer.Option("--run", metavar="WORDS", min=2, help="How long such a run is.")] = 13,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Chooses and orders examples.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Writes a mixture by weights, and says what it takes of each source.

    Of token shards: which are drawn from how often; in every 1,000 rows the proportions are exact. Of examples: the
    examples themselves, none twice, in exact proportions, each saying which source it is from.
    """
    if output.endswith(EXAMPLES):
        from paddock.cli import data_combining

        data_combining.mix(data_combining.Asked(sources, output, count, against or [], run, seed, force, json))
    else:
        from paddock.cli import data_packing

        data_packing.mix(sources, output, tokens, context, packing, force, json)


@app.command(
    cls=Verb,
    epilog="""paddock data overlap train.jsonl --against test.jsonl
    paddock data overlap "sets/*.json" --against heldout.jsonl --run 8 --json""",
)
def overlap(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Files of examples to train on.", show_default=False)
    ],
    against: Annotated[
        list[str], typer.Option(metavar="FILE", help="Files of what is measured on.", show_default=False)
    ],
    run: Annotated[int, typer.Option("--run", metavar="WORDS", min=2, help="How long a shared run is.")] = 13,
    json: Json = False,
) -> None:
    """Says which examples share runs of words with what is measured on: contamination.

    Exits 1 where any does.
    """
    from paddock.cli import data_combining

    data_combining.overlap(files, against, run, json)
