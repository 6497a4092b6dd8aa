"""Verbs as Typer sees them: found when asked for, and explained in plain text."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from paddock.cli.help import ALIASES, VERBS, screen
from paddock.errors import did_you_mean

COLUMN = 30  # where explanations begin


class Verb(TyperCommand):
    """A verb whose `--help` is plain text: usage, what it does, options by group, examples (its epilog)."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.width = max(formatter.width, 100)
        formatter.write(f"usage: {ctx.command_path} {' '.join(self.collect_usage_pieces(ctx))}\n")
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        if self.epilog:
            formatter.write("\nExamples:\n")
            formatter.write("".join(f"  {line.strip()}\n" for line in self.epilog.strip().splitlines()))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options under their headings; of an option's names the first long and the first short one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            heading = getattr(param, "rich_help_panel", None) or "Options"
            if param.param_type_name == "argument":
                heading = "Arguments"
                groups.setdefault(heading, []).append((record[0].partition(" <")[0], record[1]))  # less Python's type
                continue
            long = next((name for name in param.opts if name.startswith("--")), param.opts[0])
            long += "".join(f"/{name}" for name in param.secondary_opts[:1])
            short = [name for name in param.opts if not name.startswith("--")][:1]
            value = "" if getattr(param, "is_flag", False) else f" {param.metavar or param.name.upper()}"
            groups.setdefault(heading, []).append((", ".join([*short, long]) + value, record[1]))
        for heading in sorted(groups, key=lambda h: h == "Options"):
            with formatter.section(heading):
                formatter.write_dl(groups[heading], col_max=COLUMN)


class Verbs(TyperGroup):
    """`paddock` itself: imports the file of a verb when that verb is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        listed = VERBS.get(cmd_name)
        if listed is None:
            return None
        group = get_group(importlib.import_module(f"paddock.cli.{listed.module}").app)
        commands: list[Any] = [group, *group.commands.values()]
        for command in commands:
            command.rich_markup_mode = None  # one look for all
        return group.commands.get(cmd_name, group)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        args = [ALIASES.get(args[0], args[0]), *args[1:]]
        if args[0] not in VERBS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], VERBS) or "see `paddock --help` for the verbs"
            ctx.fail(f"there is no verb {args[0]!r}\n  fix: {hint}")
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, TyperGroup) and not rest:
            rest = ["--help"]
        return name, command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(screen() + "\n")


def new_app(**settings: Any) -> typer.Typer:
    """A Typer app for one file of verbs, plain of look."""
    return typer.Typer(
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        **settings,
    )
