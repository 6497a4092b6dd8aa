"""The verb that works adapters into a model: merge."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock merge my-model --adapter out/lora/final --output merged
    paddock merge my-model --adapter polite=0.7 --adapter brief=0.3 --output both
    paddock merge my-model --adapter polite --adapter brief --output sum --as-adapter
    paddock merge merged --adapter out/lora/final --subtract --output my-model-again""",
)
def merge(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The base: folder, .gguf or llama2.c file, or a name.")],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="FOLDER[=WEIGHT]",
            help="An adapter (PEFT's LoRA, DoRA), times a weight; may be repeated.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.", show_default=False)
    ] = None,
    as_adapter: Annotated[
        bool, typer.Option("--as-adapter", help="Write the sum as one adapter, not as a model.", show_default=False)
    ] = False,
    subtract: Annotated[
        bool, typer.Option("--subtract", help="Take the adapters out of a merged model.", show_default=False)
    ] = False,
    another_base: Annotated[
        bool,
        typer.Option(
            "--another-base", help="The adapter names its base otherwise, and that is meant.", show_default=False
        ),
    ] = False,
    dtype: o.Dtype = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Works adapters into the weights of MODEL, runs both and says whether they agree.

    The output is a Hugging Face folder, with merged.json in it: what it was made of. Matrices of a quantised model are
    dequantised first.
    """
    from paddock.cli import merging

    merging.merge(
        merging.Asked(
            o.Loading.of({**ctx.params, "model": model, "adapter": None}),
            tuple(adapter or ()),
            target,
            as_adapter,
            subtract,
            another_base,
            force,
            json,
        )
    )
