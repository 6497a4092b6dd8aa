"""Verbs that look: show, ls, tokens, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(cls=Verb, epilog="paddock show\npaddock show my-model.gguf\npaddock show ~/models/pythia-70m --json")
def show(
    ctx: typer.Context, model: o.ModelArgument = None, ignore_config: o.IgnoreConfig = None, json: o.Json = False
) -> None:
    """Says what a model is without loading its weights: parts, parameters, memory, tokenizer, template, licence."""
    from paddock.cli import showing

    showing.show(o.Loading.of(ctx.params), json)


@app.command(cls=Verb, epilog="paddock ls\npaddock ls ~/models --json")
def ls(
    folder: Annotated[
        str | None,
        typer.Argument(help="Look here too. [default: PADDOCK_HOME/models and the bundled model]", show_default=False),
    ] = None,
    json: o.Json = False,
) -> None:
    """Lists the models at hand."""
    from paddock.cli import listing

    listing.ls(folder, json)


@app.command(
    cls=Verb,
    epilog="""paddock tokens "The quick brown fox"
    paddock tokens "<s>[INST] Hi [/INST]" -m mistral-7b --special
    cat article.txt | paddock tokens - --json""",
)
def tokens(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(help='"-" or a pipe: standard input, less one final line break.', show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Folder, file or name of a model, or a tokenizer's own file. [default: the bundled model]",
            show_default=False,
        ),
    ] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Control tokens spelt in TEXT count as such.", show_default=False)
    ] = False,
    bare: Annotated[
        bool, typer.Option("--no-bos", "--raw", help="Put no ids around TEXT.", show_default=False)
    ] = False,
    json: o.Json = False,
) -> None:
    """Shows how TEXT becomes ids: pieces in turning colours, then a line per token."""
    from paddock.cli import tokenizing

    tokenizing.tokens(text, model, special, bare, json)


@app.command(cls=Verb, epilog="paddock doctor\npaddock doctor --json")
def doctor(json: o.Json = False) -> None:
    """Checks what Paddock finds here: Python, PyTorch, processor, memory, optional libraries, the bundled model.

    Exit code 1 if a check fails.
    """
    from paddock.cli import diagnosing

    diagnosing.doctor(json)
