"""Text with columns: lines of fields with tabs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddock.data.instruct.formats.plainly import LABELS, TEXTS
from paddock.data.instruct.options import Options
from paddock.data.reading.options import Broken

LINES = 200  # looked at
MAX_COLUMNS = 100
NAMES = {*LABELS, "source", "target", "id", "index", "idx", *(name for names in TEXTS for name in names)}


@dataclass
class Table:
    """Names of the columns. header: whether the first line has them, and is no record."""

    columns: tuple[str, ...]
    header: bool

    def record(self, line: str, place: str) -> dict[str, Any] | None:
        """The record of a line; None for the header and for blank lines. Raises Broken."""
        line = line.rstrip("\r")
        if self.header:
            self.header = False
            return None
        if not line.strip():
            return None
        cells = line.split("\t")
        if len(cells) != len(self.columns):
            raise Broken(
                "other columns",
                f"{len(cells)} column{'s' if len(cells) > 1 else ''}; expected {len(self.columns)}: "
                + ", ".join(self.columns),
            )
        return dict(zip(self.columns, cells, strict=True))


def recognise(head: bytes, options: Options) -> Table | None:
    """The table that begins so, or None where it is running text.

    Columns have the names of the first line if it names some that a format knows (or that the user named), else two are
    a text and its label where no second one has a blank in it, or a source and its target.
    """
    lines = head.decode("utf-8", "replace").split("\n")
    lines = [line.rstrip("\r") for line in (lines[:-1] if len(lines) > 1 else lines)[:LINES] if line.strip()]
    rows = [line.split("\t") for line in lines]
    width = len(rows[0]) if rows else 0
    if not 2 <= width <= MAX_COLUMNS or sum(len(row) == width for row in rows) < 0.9 * len(rows):
        return None
    first = tuple(cell.strip() for cell in rows[0])
    named = {cell.lower() for cell in first} & NAMES or set(first) & set(options.fields.values())
    if named and len(set(first)) == width and (len(named) > 1 or _is_header(first)):
        return Table(tuple(cell.lower() if cell.lower() in NAMES else cell for cell in first), True)
    if width != 2:
        return None
    classes = options.format == "labelled" or (options.format != "pairs" and _are_classes(rows))
    return Table(("text", "label") if classes else ("source", "target"), False)


def _is_header(cells: Sequence[str]) -> bool:
    return all(cell and " " not in cell and not cell.replace(".", "").isdigit() for cell in cells)


def _are_classes(rows: Sequence[Sequence[str]]) -> bool:
    return all(len(row) < 2 or (row[1].strip() and " " not in row[1].strip()) for row in rows)
