"""The verb that compares two models: parity."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock parity my-model my-model.gguf
    paddock parity base merged --bound 1e-5
    paddock parity my-model my-model-q4_k.gguf --json""",
)
def parity(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(help="Folder, .gguf or llama2.c .bin file, or a name.", show_default=False)],
    after: Annotated[str, typer.Argument(help="The model that is to say the same.", show_default=False)],
    bound: Annotated[
        float | None,
        typer.Option(
            "--bound",
            metavar="X",
            help="Fail where outputs differ by more than this share of the largest; 0 is exactly. [default: measure]",
            show_default=False,
        ),
    ] = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    json: o.Json = False,
) -> None:
    """Runs the same prompts through two models, and says how far they speak alike.

    The prompts are bundled: prose, code, numbers, several languages, and a chat where BEFORE has a template. BEFORE's
    tokenizer reads them for both.
    """
    from paddock.cli import paritying

    paritying.parity(o.Loading.of({**ctx.params, "model": before}), after, bound, json)
