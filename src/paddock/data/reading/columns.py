"""Rows of text with columns: CSV (commas, quotes as RFC 4180 has them) and TSV (tabs, and a quote is a quote)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from paddock.data.reading.options import Broken, Options
from paddock.data.reading.pieces import as_text, cut
from paddock.errors import DataError

DELIMITERS = {"csv": ",", "tsv": "\t"}
QUOTING: dict[str, Literal[0, 3]] = {"csv": csv.QUOTE_MINIMAL, "tsv": csv.QUOTE_NONE}
SUFFIXES = {".csv": "csv", ".tsv": "tsv"}
OTHERS = (";", ",", "\t", "|")  # what tables are separated by elsewhere
MAX_COLUMNS = 10_000

# The module's own limit of a field is 128 KiB; `_Lines` bounds whole rows, as the user said.
csv.field_size_limit(2**31 - 1)

Row = dict[str, str] | Broken


class _Lines:
    """Lines of text for the parser. line: the latest one's number; first, size: of the row that `begin` begins."""

    def __init__(self, chunks: Iterator[bytes], path: Path, options: Options) -> None:
        self._pieces, self._path, self._options = cut(chunks, b"\n", options.limit), path, options
        self.line = self.first = self.size = 0

    def begin(self) -> None:
        self.first, self.size = self.line + 1, 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self.line = piece.line
            try:
                text = as_text(piece, self._options)
            except Broken as broken:  # a row may go on behind it, so none behind it can be trusted
                raise DataError(f"{self._path}:{piece.line}: {broken.what}", fix=broken.fix) from None
            self.size += len(text) + 1
            if self.size > self._options.limit:
                raise DataError(
                    f"{self._path}:{self.first}: a row of over {self._options.limit} characters",
                    fix="close the quotes that it begins with, or allow more with --limit",
                )
            yield text.removesuffix("\r") + "\n"


def rows(chunks: Iterator[bytes], path: Path, kind: str, options: Options) -> Iterator[tuple[int, Row]]:
    """(line it begins at, its cells by the names of the first row), or what is wrong with a row instead of it.

    Where `text_field` is a number, there are no names: columns are called "0", "1" and so on, and the first row is one
    like the others. Blank lines are none. Raises DataError for names that are missing or twice there, and for a row
    that is too long.
    """
    lines = _Lines(chunks, path, options)
    parser = csv.reader(iter(lines), delimiter=DELIMITERS[kind], quoting=QUOTING[kind], strict=True)
    names: list[str] = []
    while True:
        lines.begin()
        line = lines.first
        try:
            cells = next(parser, None)
        except csv.Error as error:
            yield line, Broken(f"not {kind.upper()}", f"not {kind.upper()}: {_told(error)}")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if not names:
            names = _names(cells, path, kind, options)
            if not options.text_field.isdecimal():
                continue
        if len(cells) != len(names):
            yield line, Broken("other columns", f"{_columns(cells)}; expected {len(names)}: {', '.join(names[:20])}")
            continue
        yield line, dict(zip(names, cells, strict=True))


def _told(error: csv.Error) -> str:
    """The parser speaks to programmers of one mistake: rows that end in carriage returns alone."""
    return "a carriage return inside a row; rows end in line feeds" if "new-line" in str(error) else str(error)


def _names(cells: list[str], path: Path, kind: str, options: Options) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(cells)} columns", expected=f"{MAX_COLUMNS} at most")
    if options.text_field.isdecimal():
        return [str(number) for number in range(len(cells))]
    if len(cells) == 1 and options.text_field not in cells:
        other = next((mark for mark in OTHERS if options.text_field in cells[0].split(mark)), None)
        if other is not None and other != DELIMITERS[kind]:
            raise DataError(
                f"{path}: the columns stand with {other!r} between", expected=repr(DELIMITERS[kind]), fix="save it so"
            )
    if twice := {name for name in cells if cells.count(name) > 1}:
        raise DataError(f"{path}: two columns are called {min(twice)!r}", fix="give each column its own name")
    return cells


def _columns(cells: list[str]) -> str:
    return f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
