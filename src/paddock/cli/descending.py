"""What `paddock catalog tree` and `paddock catalog export` do."""

from __future__ import annotations

import os
import sys

from paddock.catalog import terminal
from paddock.catalog.catalogue import catalogue
from paddock.catalog.lineage import lineage
from paddock.cli import output
from paddock.errors import UsageError


def tree(
    name: str | None, up: bool, down: bool, depth: int | None, data: bool, target: str | None, force: bool, json: bool
) -> None:
    if name is None:
        _evolution(up, down, depth)
        return
    every = catalogue()
    found = every.find(name).asset
    graph = lineage(every.assets, data=data)
    if found.id not in graph.assets:
        raise UsageError(f"{found.name} is a dataset, and --no-data leaves those out", fix="leave out --no-data")
    both = up == down
    part = graph.around(found.id, up or both, down or both, depth)
    output.result(terminal.tree(part, found.id, _marks(), up or both, down or both))


def _evolution(up: bool, down: bool, depth: int | None) -> None:
    if up or down or depth is not None:
        raise UsageError("--up, --down and --depth need the NAME of an entry", fix="paddock catalog tree NAME --up")
    models = {model.id: model for model in catalogue().models}
    drawn = _marks()
    for year, rows in terminal.by_year(models, drawn):
        output.result(f"{year}, {len(rows)} models")
        output.result(output.table(rows, terminal.HEADER, indent=2) + "\n")
    output.result(terminal.legend(drawn))


def _marks() -> terminal.Marks:
    return terminal.ASCII if os.environ.get("TERM") == "dumb" else terminal.marks(sys.stdout.encoding)
