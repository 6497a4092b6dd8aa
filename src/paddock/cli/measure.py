"""Verbs that measure: bench, perplexity."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock perplexity wiki.txt -m model.gguf
    paddock perplexity wiki.txt -m model.gguf --chunks
    paddock perplexity wiki.txt -m pythia-70m --context 2048 --stride 512 --json""",
)
def perplexity(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help='UTF-8 text; "-" is standard input.', show_default=False)],
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", "-c", metavar="N", help="Tokens of a window. [default: 512, as fits]", show_default=False
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride", metavar="N", help="Where the next window begins. [default: half of it]", show_default=False
        ),
    ] = None,
    chunks: Annotated[
        bool,
        typer.Option(
            "--chunks",
            help="Windows side by side, the first half of each only read: llama.cpp's way.",
            show_default=False,
        ),
    ] = False,
    json: o.Json = False,
) -> None:
    """Says how well a model predicts the text of FILE: perplexity ± its standard error, bits per byte and per token."""
    from paddock.cli import perplexity as work

    work.perplexity(work.Asked(o.Loading.of(ctx.params), file, context, stride, chunks, json))
