"""Options of verbs that read examples, so that one name means one thing everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from paddock.data.instruct.options import Options

PANEL = "Examples"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False, **more)


Field = Annotated[
    list[str] | None, _option("--field", metavar="NAME=FIELD", help="What the files call a field: text=review.")
]
Second = Annotated[
    list[str] | None, _option("--second", metavar="FILE", help="Targets of the files' lines, line by line.")
]
Source = Annotated[str | None, _option("--source", metavar="NAME", help="The set they are of. [default: the file]")]
Licence = Annotated[str | None, _option("--licence", "--license", metavar="NAME", help="Where no record says one.")]
Language = Annotated[str | None, _option("--language", metavar="NAME", help="Where no record says one.")]
Duplicates = Annotated[
    str, _option("--duplicates", metavar="HOW", help="Records whose id was there before: keep, drop. [default: keep]")
]
Trees = Annotated[
    str,
    _option("--trees", metavar="WHAT", help="Of message trees: threads, ranked, prompts. [default: threads]"),
]
States = Annotated[
    list[str] | None,
    _option("--tree-state", metavar="NAME", help="Trees that are taken, or all. [default: ready_for_export]"),
]
Synthetic = Annotated[bool, _option("--synthetic", help="Trees that models wrote, too.")]
Best = Annotated[int | None, _option("--best", metavar="N", min=1, help="Only the N best ranked answers.")]

NAMES = ("format", "on_error", "encoding", "errors", "source", "licence", "language", "duplicates", "trees")


def reading(params: Mapping[str, Any]) -> Options:
    """From a verb's own options, as Typer's context holds them. Raises UsageError."""
    from paddock.data.instruct.options import Options

    more = {name: params[name] for name in NAMES if params.get(name) is not None}
    if params.get("limit") is not None:
        more["record_bytes"] = params["limit"]
    states = params.get("tree_state")
    if states:
        more["tree_states"] = () if "all" in states else tuple(states)
    more |= {name: params[name] for name in ("synthetic", "best") if params.get(name)}
    return Options(fields=_fields(params.get("field") or ()), **more)


def _fields(pairs: Sequence[str]) -> dict[str, str]:
    from paddock.errors import UsageError

    named = {}
    for pair in pairs:
        name, equals, field = pair.partition("=")
        if not (name and equals and field):
            raise UsageError(f"--field {pair}", expected="NAME=FIELD, such as text=review")
        named[name] = field
    return named
