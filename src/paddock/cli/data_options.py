"""Options of every verb that reads documents, so that one name means one thing everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.errors import UsageError

if TYPE_CHECKING:
    from paddock.data.reading import Options

PANEL = "Reading"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False, **more)


Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="Files, folders or quoted patterns; .gz and .zst too.", show_default=False),
]
Format = Annotated[
    str, _option("--format", metavar="KIND", help="text, jsonl, json, csv, tsv, parquet. [default: told by content]")
]
TextField = Annotated[
    str, _option("--text-field", metavar="NAME", help="The field or column that is the text. [default: text]")
]
Split = Annotated[
    str,
    _option(
        "--split",
        metavar="HOW",
        help="What a document of plain text is: file, lines, paragraphs. [default: what stands between <|endoftext|>, "
        "else the file]",
    ),
]
Separator = Annotated[
    str | None, _option("--separator", metavar="TEXT", help="What stands between documents of plain text.")
]
Encoding = Annotated[str, _option("--encoding", metavar="NAME", help="gb18030, latin-1, utf-16 ... [default: utf-8]")]
Errors = Annotated[
    str, _option("--errors", metavar="HOW", help="Broken characters: strict, replace, ignore. [default: strict]")
]
OnError = Annotated[
    str, _option("--on-error", metavar="HOW", help="Broken records: stop, or skip and count. [default: stop]")
]
Limit = Annotated[int | None, _option("--limit", metavar="BYTES", help="Longest line or document. [default: 33554432]")]

NAMES = ("format", "text_field", "split", "separator", "encoding", "errors", "on_error", "limit")


def reading(params: Mapping[str, Any]) -> Options:
    """From a verb's own options, as Typer's context holds them."""
    from paddock.data.reading import Options

    return Options(**{name: params[name] for name in NAMES if params.get(name) is not None})


def weighted(source: str, kind: str) -> tuple[str, float]:
    """NAME=WEIGHT taken apart. kind: what NAME is, for people. Raises UsageError."""
    name, _, text = source.rpartition("=")
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not name or not 0 < weight < float("inf"):
        raise UsageError(f"{source!r} has no weight", expected=f"{kind}=WEIGHT, for example {kind.lower()}=0.7")
    return name, weight
