"""The verb that makes weights smaller: quantize."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock quantize pythia-70m --to q8_0
    paddock quantize my-model --to q4_k --calibrate corpus.txt --output my-model-q4_k.gguf
    paddock quantize my-model --to int4 --output my-model-int4""",
)
def quantize(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            "-t",
            metavar="KIND",
            help="GGUF: q8_0 q6_k q5_k q5_1 q5_0 q4_k q4_1 q4_0 f16 bf16 f32. Folder: int8 int4 nf4.",
            show_default=False,
        ),
    ] = "",
    target: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="[default: MODEL-KIND.gguf or MODEL-KIND, here]", show_default=False
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="FILE",
            help="A text like those to come: rounding spares what it uses most (below 8 bits).",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="FILE", help="What quality is measured on. [default: prose]", show_default=False
        ),
    ] = None,
    no_card: Annotated[
        bool, typer.Option("--no-card", help="Measure nothing, write no quality card.", show_default=False)
    ] = False,
    tokenizer: o.TokenizerFile = None,
    ignore_config: o.IgnoreConfig = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Writes MODEL with smaller weights, as a GGUF file or a Hugging Face folder, and says what that cost.

    The quality card (perplexity, KL divergence, agreement, size, speed) is stored with the model; `paddock show` shows
    it.
    """
    from paddock.cli import quantizing

    asked = quantizing.Asked(o.Loading.of(ctx.params), to, target, calibrate, text, not no_card, force, json)
    quantizing.quantize(asked)
