"""The front door: files in, documents out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from paddock.data.document import Document
from paddock.data.reading import columns
from paddock.data.reading.detecting import HEAD, detect, shape_of
from paddock.data.reading.opening import Source, find_files
from paddock.data.reading.options import ENDOFTEXT, Broken, FileReport, Options, Report
from paddock.data.reading.parsing import Values, parse
from paddock.data.reading.pieces import Piece, as_text, cut, in_utf8, paragraphs
from paddock.data.reading.records import to_document
from paddock.errors import DataError, UsageError

WHOLE = "one document"
SKIP = "mend the file, or pass over what is broken: --on-error skip"

Item = tuple[str, Any]  # where a record is, and the record or its piece of the file


def documents(
    paths: str | Path | Iterable[str | Path],
    format: str = "auto",
    text_field: str = "text",
    *,
    split: str = "auto",
    separator: str | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    on_error: str = "stop",
    limit: int | None = None,
    report: Report | None = None,
) -> Iterator[Document]:
    """The documents of files, folders and patterns, in order, as a stream; `Options` explains the rest.

    Text, JSON lines, JSON, Parquet, plain or packed with gzip or zstd, told by their content; CSV and TSV by their
    names. `report` is filled as the
    documents are taken: what each file was found to be, what was kept and what was dropped and why. A text of nothing
    but white space is dropped as "empty", which is no error.

    Raises DataError naming file, line and field of the first broken record (unless `on_error="skip"`), and for files
    that are missing, truncated, corrupt or no text whatever `on_error` says; UsageError for impossible options.
    """
    more = {} if limit is None else {"limit": limit}
    options = Options(format, text_field, split, separator, encoding, errors, on_error, **more)
    return read_documents(paths, options, report)


def read_documents(
    paths: str | Path | Iterable[str | Path], options: Options, report: Report | None = None
) -> Iterator[Document]:
    """`documents` with its options as one value."""
    files = find_files(paths)
    return itertools.chain.from_iterable(DataFile(path, options, report).documents() for path in files)


def probe(path: Path, options: Options) -> tuple[str, bytes]:
    """What a file is (text, jsonl, json, csv, tsv, parquet or empty), and its first bytes in UTF-8; none of Parquet."""
    source = Source(path)
    with contextlib.closing(source):
        return ("parquet", b"") if source.parquet else _begun(source, options)[:2]


class DataFile:
    """One file being read: its records, whatever they are, or its documents."""

    def __init__(self, path: Path, options: Options, report: Report | None) -> None:
        self.path, self.options = path, options
        self.report = FileReport(path)
        if report is not None:
            report.files.append(self.report)

    def records(self) -> Generator[Item, None, None]:
        """(place, record): a JSON value, a row, or a piece of text that `Options.split` makes."""
        with contextlib.closing(self._items()) as items:
            for place, item in items:
                try:
                    record = self._record(item)
                except Broken as broken:
                    self.refuse(place, broken)
                    continue
                yield place, record

    def documents(self) -> Iterator[Document]:
        text_field = self.options.text_field
        with contextlib.closing(self.records()) as records:
            for place, record in records:
                try:
                    if not self.report.kept and self.report.format != "text":
                        self.report.shape, text_field = shape_of(record, self.options.text_field)
                    document = to_document(record, place, text_field, self.options)
                except Broken as broken:
                    self.refuse(place, broken)
                    continue
                if self._counted(document.text):
                    yield document

    def _record(self, item: Any) -> Any:
        """What a piece of a file holds: a JSON value, or the text itself."""
        if isinstance(item, Broken):
            raise item
        if not isinstance(item, Piece):
            return item
        text = as_text(item, self.options)
        return parse(text) if self.report.format == "jsonl" else self._trimmed(text, item)

    def _counted(self, text: str) -> bool:
        if not text.strip():
            self.report.dropped["empty"] += 1
            return False
        self.report.kept += 1
        self.report.characters += len(text)
        self.report.longest = max(self.report.longest, len(text))
        return True

    def _items(self) -> Generator[Item, None, None]:
        source = Source(self.path)
        self.report.size, self.report.compression = source.size, source.compression
        wanted = self.options.format
        if source.parquet or wanted == "parquet":
            source.close()
            if wanted not in ("auto", "parquet"):
                raise UsageError(f"{self.path} is Parquet, not {wanted}", fix="leave the format to be found out")
            if not source.parquet:
                raise DataError(f"{self.path} is not Parquet", fix="leave the format to be found out")
            return self._table()
        return self._stream(source)

    def _table(self) -> Generator[Item, None, None]:
        from paddock.data.reading.tables import rows  # Arrow takes a second to import

        self.report.format = "parquet"
        for number, record in rows(self.path, self.options.text_field):
            yield f"{self.path}, row {number}", record

    def _stream(self, source: Source) -> Generator[Item, None, None]:
        with contextlib.closing(source):
            yield from self._streamed(source)

    def _streamed(self, source: Source) -> Iterator[Item]:
        found, head, chunks = _begun(source, self.options)
        self.report.format = found
        chunks = itertools.chain([head] if head else [], chunks)
        if found == "empty":
            for _ in chunks:  # its end may be broken
                pass
        elif found == "jsonl":
            for piece in cut(chunks, b"\n", self.options.limit):
                if piece.data is None or piece.data.strip():
                    yield f"{self.path}:{piece.line}", piece
        elif found == "json":
            values = Values(chunks, self.path, self.options)
            for number, value in enumerate(values, 1):
                yield f"{self.path}:{values.line} (record {number})", value
        elif found in columns.DELIMITERS:
            for line, row in columns.rows(chunks, self.path, found, self.options):
                yield f"{self.path}:{line}", row
        else:
            yield from self._texts(chunks, head)

    def _texts(self, chunks: Iterator[bytes], head: bytes) -> Iterator[Item]:
        options = self.options
        separator = options.separator
        if separator is None and options.split == "auto" and ENDOFTEXT.encode() in head:
            separator = ENDOFTEXT
        if separator is not None:
            self.report.shape = f"documents separated by {separator!r}"
            pieces = cut(chunks, separator.encode("utf-8", "replace"), options.limit)
        elif options.split == "lines":
            self.report.shape = "a document a line"
            pieces = cut(chunks, b"\n", options.limit)
        elif options.split == "paragraphs":
            self.report.shape = "a document a paragraph"
            pieces = paragraphs(chunks, options.limit)
        else:
            self.report.shape = WHOLE
            yield from ((str(self.path), piece) for piece in _whole(chunks, options.limit))
            return
        for piece in pieces:
            begun = (piece.data or b"").startswith((b"\n", b"\r\n"))
            yield f"{self.path}:{piece.line + begun}", piece

    def _trimmed(self, text: str, piece: Piece) -> str:
        """A document without the line breaks that only set it off from a separator; a whole file as it is."""
        if self.report.shape == WHOLE:
            return text
        if piece.offset:
            text = text.removeprefix("\n")
        return text.removesuffix("\n" if piece.closed else "").removesuffix("\r")

    def refuse(self, place: str, broken: Broken) -> None:
        """Counts what is wrong with a record, or raises it as a DataError, as `Options.on_error` says."""
        if self.options.on_error == "skip":
            self.report.dropped[broken.reason] += 1
            return
        raise DataError(f"{place}: {broken.what}", fix=broken.fix or SKIP)


def _begun(source: Source, options: Options) -> tuple[str, bytes, Iterator[bytes]]:
    """What a file is, its first bytes in UTF-8, and the rest."""
    chunks = in_utf8(source.chunks(), source.path, options)
    head = b""
    while len(head) < HEAD and (more := next(chunks, b"")):
        head += more
    return (_detected(head, source.path, options) if options.format == "auto" else options.format), head, chunks


def _detected(head: bytes, path: Path, options: Options) -> str:
    """Text by the name of a table is one, unless it was said how its documents are separated."""
    found = detect(head, path)
    if found != "text" or options.separator is not None or options.split != "auto":
        return found
    return next((columns.SUFFIXES[suffix] for suffix in reversed(path.suffixes) if suffix in columns.SUFFIXES), "text")


def _whole(chunks: Iterator[bytes], limit: int) -> Iterator[Piece]:
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size <= limit:
            held.append(chunk)
        else:
            held.clear()
    yield Piece(b"".join(held) if size <= limit else None, size, 1, 0)
