"""The Typer app: finds the verb, reads its options, turns usage errors into Paddock's."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.main import get_command

from paddock import __version__
from paddock.cli.entry import COMPLETE
from paddock.cli.help import VERBS
from paddock.cli.verb import Verbs
from paddock.errors import UsageError, did_you_mean

# Newer Typers carry a copy of click of their own, older ones import click: the classes are reached through the one name
# that both export, BadParameter < UsageError < ClickException.
ClickUsage: type[Any] = typer.BadParameter.__mro__[1]
ClickError: type[Any] = typer.BadParameter.__mro__[2]

# What Typer says of a value that is no number, and what is expected in our words.
NUMBERS = {"a valid integer": "a whole number", "a valid number": "a number", "a valid float": "a number"}

app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"paddock {__version__}")
        raise typer.Exit


@app.callback()
def paddock(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_version, is_eager=True, help="Which Paddock this is."
    ),
) -> None:
    """Keeps open language models on your own ground."""


def execute(arguments: list[str]) -> int:
    """Runs the verb that `arguments` name. Usage errors come out as paddock.errors.UsageError."""
    command: Any = get_command(app)
    try:
        if os.environ.get(COMPLETE):
            command.main(arguments, "paddock", standalone_mode=False)
            return 0
        with command.make_context("paddock", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return int(done.exit_code)
    except SystemExit as done:  # Typer's own way to end after completion scripts
        return done.code if isinstance(done.code, int) else 0
    except typer.Abort:
        raise KeyboardInterrupt from None
    except ClickError as error:
        raise _as_ours(error, arguments) from None
    return 0


def _misread(param: Any, arguments: list[str]) -> tuple[str, str] | tuple[None, None]:
    """The option on the command line that `param` is, and what was given to it: click's complaint quotes no value."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in getattr(param, "opts", ()):
            return option, value if equals else following
    return None, None


def _as_ours(error: Any, arguments: list[str]) -> UsageError:
    """The same complaint in Paddock's form: what, then the fix."""
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    verb = next((word for word in arguments[:1] if word in VERBS), None)
    where = context.command_path if context is not None else f"paddock {verb}" if verb else "paddock"
    if "\n  fix: " in text:
        what, _, fix = text.partition("\n  fix: ")
        return UsageError(what, fix=fix)
    if expected := next((kind for told, kind in NUMBERS.items() if told in text), None):
        option, value = _misread(getattr(error, "param", None), arguments)
        if option is not None:
            return UsageError(f"{option} {value}", expected=expected, fix=f"see `{where} --help`")
    name = getattr(error, "option_name", None)
    if name is not None and context is not None and "No such option" in text:
        known = [opt for param in context.command.params for opt in (*param.opts, *param.secondary_opts)]
        hint = did_you_mean(name, [opt for opt in known if opt.startswith("--")])
        return UsageError(f"{where} has no option {name}", fix=hint or f"see `{where} --help`")
    return UsageError(f"{where}: {text[:1].lower()}{text[1:]}", fix=f"see `{where} --help`")
