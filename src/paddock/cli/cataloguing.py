"""What `paddock catalog ls`, `show` and `compare` do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paddock.catalog import comparing, filters
from paddock.catalog.catalogue import Catalogue, Found, catalogue
from paddock.catalog.filters import Asked, Row
from paddock.catalog.schema import Model, Size
from paddock.cli import catalogprint, output
from paddock.errors import UsageError


def asked(words: Sequence[str], **options: Any) -> Asked:
    """What a user typed, checked."""
    for name, option in (("least", "--min-size"), ("most", "--max-size")):
        if options[name] is not None:
            options[name] = filters.parse_count(options[name], option)
    filters.one_of("kind", options["kind"], (*filters.KINDS, "all"))
    options["kind"] = None if options["kind"] == "all" else options["kind"]
    runs = _runs() if options.pop("runs_here") else None
    return Asked(words=tuple(words), runs=runs, **options)


def _runs() -> Callable[[Model, Size], bool]:
    """Says whether a size runs with the memory that is free now."""
    from paddock.catalog import running

    return running.runs_here(running.free())


def list_(meant: Asked, sort: str, json: bool) -> None:
    known = catalogue()
    rows = filters.ordered(filters.select(known, meant), sort)
    if json:
        output.as_json([_row_record(row) for row in rows])
        return
    if not rows:
        output.note("nothing in the catalogue is like that")
        return
    columns = catalogprint.width()
    output.result(catalogprint.exact(known, rows, columns) if meant.exact else catalogprint.listing(rows, columns))
    output.note(_summary(rows, known))


def _summary(rows: Sequence[Row], known: Catalogue) -> str:
    """How many were found, of how many there are."""
    models = [row.asset for row in rows if isinstance(row.asset, Model)]
    parts = []
    if models:
        sizes = sum(len(row.sizes) for row in rows)
        families = len({model.family for model in models})
        parts.append(f"{len(models)} of {len(known.models)} models ({sizes} sizes) in {families} families")
    others = len(rows) - len(models)
    return ", ".join([*parts, *([f"{others} of other kinds"] if others else [])])


def _row_record(row: Row) -> dict[str, Any]:
    asset = row.asset
    return {
        "kind": type(asset).__name__.lower(),
        **asset.model_dump(exclude_none=True, exclude={"sources", "notes", "sizes"}),
        **({"sizes": [size.model_dump(exclude_none=True) for size in row.sizes]} if isinstance(asset, Model) else {}),
    }


def show(name: str, json: bool) -> None:
    known = catalogue()
    found = known.find(name)
    if json:
        output.as_json({**comparing.record(known, found), "lineage": _lineage(known, found)})
        return
    output.painted_result(catalogprint.page(known, found, catalogprint.width()))


def _lineage(known: Catalogue, found: Found) -> dict[str, Any]:
    up, down = comparing.neighbours(known, found)
    return {"up": up, "down": down}


def compare(names: Sequence[str], json: bool) -> None:
    if not 2 <= len(names) <= comparing.MOST:
        raise UsageError(f"{len(names)} names are given", expected=f"2 to {comparing.MOST} to compare")
    known = catalogue()
    several = [known.find(name) for name in names]
    ids = [found.name for found in several]
    if len(set(ids)) < len(ids):
        raise UsageError(f"{names[ids.index(next(id for id in ids if ids.count(id) > 1))]} is there twice")
    if json:
        output.as_json([comparing.record(known, found) for found in several])
        return
    output.painted_result(catalogprint.table_of(ids, comparing.compare(several), catalogprint.width()))
