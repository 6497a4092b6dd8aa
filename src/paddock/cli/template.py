"""`paddock template`: the formats that are bundled, what a template makes of messages, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli.options import Json
from paddock.cli.verb import Verb, new_app

app = new_app(no_args_is_help=True, help="Chat templates: list, show, render and check them.")

Which = Annotated[
    str,
    typer.Argument(
        help="A bundled format, a .jinja file, or a model: a folder, a .gguf file, a name `paddock ls` shows.",
        show_default=False,
    ),
]


@app.command("ls", cls=Verb, epilog="paddock template ls\npaddock template ls --json")
def list_templates(json: Json = False) -> None:
    """Lists the bundled formats."""
    from paddock.cli import templating

    templating.ls(json)


@app.command("show", cls=Verb, epilog="paddock template show vicuna\npaddock template show my-model.gguf --json")
def show_template(which: Which, json: Json = False) -> None:
    """Shows a template's source and what is known of it."""
    from paddock.cli import templating

    templating.show(which, json)


@app.command("render", cls=Verb, epilog='paddock template render vicuna -m "user: Hello!" --system "Be brief."')
def render_template(
    which: Which,
    message: Annotated[
        list[str] | None,
        typer.Option("--message", "-m", help='"ROLE: TEXT"; again for each message.', show_default=False),
    ] = None,
    system: Annotated[str | None, typer.Option(help="The system message.", show_default=False)] = None,
    file: Annotated[
        Path | None, typer.Option("--messages", help="A JSON file of messages, or - for the input.", show_default=False)
    ] = None,
    prompt: Annotated[bool, typer.Option(help="Ask for an answer at the end.")] = True,
    json: Json = False,
) -> None:
    """Prints the prompt that a template makes of messages, exactly."""
    from paddock.cli import templating

    templating.render(which, message or ["user: Hello!"], file, system, prompt, json)


@app.command("check", cls=Verb, epilog="paddock template check my-model\npaddock template check mine.jinja --json")
def check_template(which: Which, json: Json = False) -> None:
    """Checks a template, and that it goes with the tokenizer beside it. Exit code 1 if a check fails."""
    from paddock.cli import templating

    if not templating.check(which, json):
        raise typer.Exit(1)
