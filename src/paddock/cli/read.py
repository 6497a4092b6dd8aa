"""Verbs that read with a model: fill, embed."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock fill "Paris is the [MASK] of France." -m bert-base-uncased
    echo "I [MASK] you." | paddock fill - -m bert-base-uncased --top 3 --json""",
)
def fill(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            help='Text with the mask as the vocabulary spells it, mostly [MASK]. "-" or a pipe: standard input.',
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    top: Annotated[int, typer.Option("--top", "-k", metavar="K", help="How many candidates to show.")] = 5,
    json: o.Json = False,
) -> None:
    """Shows the likeliest tokens for each mask in TEXT. For masked language models such as BERT."""
    from paddock.cli import reading

    reading.fill(text, o.Loading.of(ctx.params), top, json)


@app.command(
    cls=Verb,
    epilog="""paddock embed "a small dog" "a little dog" "the stock market"
    paddock embed "a text" -m all-MiniLM-L6-v2 --json
    cat lines.txt | paddock embed - -m all-MiniLM-L6-v2 --json > vectors.jsonl""",
)
def embed(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help='Texts. "-" or a pipe: standard input, a text per line.', show_default=False),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    truncate: Annotated[
        bool,
        typer.Option("--truncate", help="Cut texts over the model's limit, instead of refusing.", show_default=False),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value per text, vector included.", show_default=False)
    ] = False,
) -> None:
    """Turns texts into vectors: as JSON lines, or as a table of how alike they are (1 is the same direction)."""
    from paddock.cli import reading

    reading.embed(texts or [], o.Loading.of(ctx.params), truncate, json)
