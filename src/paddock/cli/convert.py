"""The verb that changes formats: convert."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock convert model.gguf model-folder
    paddock convert stories260K story.gguf
    paddock convert stories260K story.bin
    paddock convert story.bin story-q8.bin --version 2 --group-size 64
    paddock convert big-model small-model --dtype bfloat16""",
)
def convert(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Folder, .gguf or llama2.c .bin file, or a name.", show_default=False)],
    target: Annotated[
        str, typer.Argument(help="A path that ends in .gguf or .bin (llama2.c), or a folder.", show_default=False)
    ],
    dtype: o.Dtype = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    version: Annotated[
        int | None,
        typer.Option("--version", metavar="N", help="llama2.c: 0 or 1 (float32), 2 (int8). [default: 0]"),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            metavar="N",
            help="llama2.c version 2: weights that share a scale. [default: 64, halved until it divides the rows]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it is there.", show_default=False)] = False,
    json: o.Json = False,
) -> None:
    """Writes SOURCE in another format, then runs both and says whether they agree.

    A folder target is a Hugging Face folder (safetensors). A .bin target gets tokenizer.bin beside it. A .gguf target
    keeps plain numbers; `paddock quantize` makes them smaller.
    """
    from paddock.cli import converting

    converting.convert(
        o.Loading.of({**ctx.params, "model": source}),
        target,
        version=version,
        group_size=group_size,
        force=force,
        json=json,
    )
