"""The verb that gives a model longer texts: extend."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock extend my-model --rope linear --scale 4 --output my-model-8k
    paddock extend my-model --rope power --exponent 0.2 --scale 2 --output longer
    paddock finetune extend-text model=my-model-8k data.files=long.jsonl data.length=8192""",
)
def extend(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    rope: Annotated[
        str,
        typer.Option(
            "--rope",
            metavar="KIND",
            help="linear, ntk, dynamic, yarn, power or truncated. [default: linear]",
            show_default=False,
        ),
    ] = "linear",
    scale: Annotated[
        float | None,
        typer.Option("--scale", "-s", metavar="X", help="How many times longer texts become.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the longer model goes.", show_default=False),
    ] = None,
    exponent: Annotated[
        float | None,
        typer.Option(
            "--exponent",
            metavar="P",
            help="power: frequency i of n times (1 - i/n)^P. [default: 0.1]",
            show_default=False,
        ),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(
            "--cutoff",
            metavar="N",
            help="truncated: what turns fully within N positions stays. [default: the model's context]",
            show_default=False,
        ),
    ] = None,
    dtype: o.Dtype = "auto",
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Scales a model's rotary positions, so that it reads longer texts. The weights stay as they are.

    Every kind costs something until the model is fine-tuned on longer texts; `paddock eval lines` measures what it can
    do at each length.
    """
    from paddock.cli import extending

    extending.extend(o.Loading.of(ctx.params), rope, scale, exponent, cutoff, target, force=force, json=json)
