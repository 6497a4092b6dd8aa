"""`paddock template`: the formats that are bundled, what a template makes of messages, and whether it is sound."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from paddock.tokenizer.template import Template

app = typer.Typer(no_args_is_help=True, help="Chat templates: list, show, render and check them.")

Which = Annotated[str, typer.Argument(help="A bundled name, a .jinja file, or a model folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def find(which: str) -> Template:
    """The template meant by a bundled name, a file or a model folder; PaddockError if there is none."""
    from paddock.tokenizer.template_registry import find_template, no_template

    found = find_template(which) if Path(which).is_dir() else find_template(template=which)
    if found is None:
        raise no_template(which)
    return found


@app.command("ls")
def list_templates(as_json: Json = False) -> None:
    """List the bundled formats."""
    from paddock.tokenizer.template_registry import entries

    rows = [asdict(entry) for entry in entries().values()]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("for")
    table.add_column("stops on")
    for row in rows:
        stops = " ".join(repr(stop) for stop in row["stop"])
        table.add_row(*(Text(text) for text in (row["name"], row["title"], stops)))
    Console().print(table)


@app.command("show")
def show_template(which: Which, as_json: Json = False) -> None:
    """Show a template's source and what is known of it."""
    template = find(which)
    known: dict[str, Any] = {
        "name": template.name,
        "title": template.title,
        "credit": template.credit,
        "note": template.note,
        "stop": list(template.stop),
        "roles": sorted(template.roles) if template.roles is not None else None,
        "options": sorted(template.options),
        "tools": template.takes_tools,
    }
    if as_json:
        typer.echo(json.dumps(known | {"source": template.source}, ensure_ascii=False, indent=2))
        return
    for name, value in known.items():
        if value not in ("", None, []):
            shown = ", ".join(map(repr if name == "stop" else str, value)) if isinstance(value, list) else value
            typer.echo(f"{name:8} {shown}")
    typer.echo("\n" + template.source)


@app.command("render")
def render_template(
    which: Which,
    message: Annotated[
        list[str] | None, typer.Option("--message", "-m", help='"ROLE: TEXT"; again for each message.')
    ] = None,
    system: Annotated[str | None, typer.Option(help="The system message.", show_default=False)] = None,
    file: Annotated[
        Path | None, typer.Option("--messages", help="A JSON file of messages, or - for the input.", show_default=False)
    ] = None,
    prompt: Annotated[bool, typer.Option(help="Ask for an answer at the end.")] = True,
    as_json: Json = False,
) -> None:
    """Print the prompt that a template makes of messages, exactly."""
    template = find(which)
    messages = read_messages(file) if file else [spoken(text) for text in message or ["user: Hello!"]]
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    text = template.render(messages, add_generation_prompt=prompt, **end_tokens(which))
    if as_json:
        typer.echo(json.dumps({"template": template.name, "messages": messages, "text": text}, ensure_ascii=False))
    else:
        typer.echo(text, nl=False)


@app.command("check")
def check_template(which: Which, as_json: Json = False) -> None:
    """Check a template, and that it goes with the tokenizer beside it. Exit code 1 if a check fails."""
    from paddock.tokenizer import load
    from paddock.tokenizer.template_check import check

    tokenizer = load(which) if Path(which).is_dir() else None
    findings = check(find(which), tokenizer)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(soft_wrap=True)
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        for finding in findings:
            line = Text.assemble((f"{finding.level:5}", colours[finding.level]), f"{finding.about}: {finding.text}")
            console.print(line)
            if finding.fix:
                console.print(Text(f"     fix: {finding.fix}"))
        if tokenizer is None:
            console.print("BOS, stops and control tokens need a tokenizer: check a model folder to include them.")
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def spoken(text: str) -> dict[str, Any]:
    """A message from "ROLE: TEXT"."""
    from paddock.errors import UsageError

    role, colon, content = text.partition(":")
    if not colon or not role.strip().isidentifier():
        raise UsageError(f"the message {text[:40]!r} names no role", expected='"user: TEXT" or "assistant: TEXT"')
    return {"role": role.strip(), "content": content.removeprefix(" ")}


def read_messages(file: Path) -> list[dict[str, Any]]:
    """A JSON list of messages, or an object with one under `messages`."""
    from paddock.errors import InputError

    try:
        value = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from None
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise InputError(f"{file} holds no messages", expected='[{"role": "user", "content": "..."}, ...]')
    return messages


def end_tokens(which: str) -> dict[str, Any]:
    """bos_token and eos_token of the tokenizer beside the template, where there is one."""
    if not Path(which).is_dir():
        return {}
    from paddock.tokenizer import load
    from paddock.tokenizer.chat import role_texts

    return dict(role_texts(load(which)))
