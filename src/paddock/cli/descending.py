"""What `paddock catalog tree` and `paddock catalog export` do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from paddock.catalog import evolution, exporting, layout, terminal
from paddock.catalog.catalogue import Catalogue, catalogue
from paddock.catalog.drawing import Picture, save_png, svg
from paddock.catalog.filters import Asked, select
from paddock.catalog.lineage import Lineage, lineage
from paddock.catalog.webpage import html
from paddock.checkpoint.writing import write_text
from paddock.cli import output
from paddock.errors import UsageError, nearest

TEXTS: dict[str, Callable[[Lineage, Catalogue], str]] = {
    "json": exporting.as_json,
    "dot": lambda graph, every: exporting.as_dot(graph),
    "md": exporting.as_markdown,
    "csv": exporting.as_csv,
    "toml": exporting.as_toml,
}
PICTURES = ("svg", "png", "html")
OTHERS = {"gv": "dot", "htm": "html", "markdown": "md"}  # endings that mean a format of another name


def tree(
    name: str | None, up: bool, down: bool, depth: int | None, data: bool, target: str | None, force: bool, json: bool
) -> None:
    every = catalogue()
    if name is None and (up or down or depth is not None):
        raise UsageError("--up, --down and --depth need the NAME of an entry", fix="paddock catalog tree NAME --up")
    if name is None:
        models = {model.id: model for model in every.models}
        graph = lineage(every.assets, data).only(models)

        def picture() -> Picture:
            return evolution.picture(models.values())

        def shown() -> None:
            _by_year(every)
    else:
        focus = every.find(name).asset
        whole = lineage(every.assets, data=data)
        if focus.id not in whole.assets:
            raise UsageError(f"{focus.name} is a dataset, and --no-data leaves those out", fix="leave out --no-data")
        up, down = (up, down) if up or down else (True, True)
        graph = whole.around(focus.id, up, down, depth)

        def picture() -> Picture:
            return layout.picture(graph, f"{focus.name}: {_title(up, down)}", focus.id)

        def shown() -> None:
            output.result(terminal.tree(graph, focus.id, _marks(), up, down))

    if target is not None:
        _write(Path(target).expanduser(), None, force, graph, every, picture)
    elif json:
        output.as_json(exporting.record(graph, every))
    else:
        shown()


def _title(up: bool, down: bool) -> str:
    return "what it was made of and into" if up and down else "what it was made of" if up else "what was made of it"


def _by_year(every: Catalogue) -> None:
    drawn = _marks()
    years = terminal.by_year({model.id: model for model in every.models}, drawn)
    if sys.stdout.isatty():
        years = [(year, terminal.narrowed(rows, shutil.get_terminal_size().columns - 2)) for year, rows in years]
    for year, rows in years:
        output.result(f"{year}, {len(rows)} model{'s' * (len(rows) != 1)}")
        output.result(output.table(rows, terminal.HEADER, indent=2) + "\n")
    output.result(terminal.legend(drawn))


def _marks() -> terminal.Marks:
    return terminal.ASCII if os.environ.get("TERM") == "dumb" else terminal.marks(sys.stdout.encoding)


def export(asked: Asked, kind: str | None, target: str | None, force: bool) -> None:
    """The whole catalogue, or the entries that are as asked, with the edges between them."""
    every = catalogue()
    graph = lineage(every.assets).only(row.asset.id for row in select(every, asked))
    if target is None:
        chosen = kind or "json"
        if chosen in PICTURES:
            raise UsageError(f"{chosen} needs a file to be written to", fix=f"-o catalogue.{chosen}")
        sys.stdout.write(_text(chosen)(graph, every))
        return
    title = f"Open models and what they were made of: {len(graph.assets)} entries"
    _write(Path(target).expanduser(), kind, force, graph, every, lambda: layout.picture(graph, title))


def _text(kind: str) -> Callable[[Lineage, Catalogue], str]:
    if kind not in TEXTS:
        near = nearest(kind, (*TEXTS, *PICTURES))
        hint = f"did you mean {near!r}?" if near else None
        raise UsageError(f"{kind[:40]!r} is no format", expected=", ".join((*TEXTS, *PICTURES)), fix=hint)
    return TEXTS[kind]


def _write(
    path: Path, kind: str | None, force: bool, graph: Lineage, every: Catalogue, picture: Callable[[], Picture]
) -> None:
    """A file in the format `kind`, else in that of its ending."""
    ending = path.suffix.removeprefix(".").lower()
    kind = kind or OTHERS.get(ending, ending)
    write = _text(kind) if kind not in PICTURES else None
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", fix="give another name, or --force")
    with output.waiting(f"writing {path.name}"):
        if write is not None:
            write_text(path, write(graph, every))
        elif kind == "png":
            save_png(picture(), path)
        else:
            drawn = picture()
            write_text(path, svg(drawn) if kind == "svg" else html(drawn, graph, every))
    output.result(str(path))
