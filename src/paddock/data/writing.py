"""Documents into files, in the formats that `reading` takes back unchanged."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from paddock.checkpoint.writing import atomic_write
from paddock.data.document import Document
from paddock.data.reading.options import ENDOFTEXT
from paddock.errors import DataError, UsageError, did_you_mean

SUFFIXES = {"jsonl": ".jsonl", "jsonl.gz": ".jsonl.gz", "jsonl.zst": ".jsonl.zst", "parquet": ".parquet", "txt": ".txt"}
ROWS = 1000  # of Parquet written at once
LEVEL = 6


def kind_by_name(path: Path) -> str:
    """The kind that a file's name asks for. UsageError for a name that says none."""
    for kind in ("jsonl.gz", "jsonl.zst", "jsonl", "parquet", "txt"):
        if path.name.lower().endswith(SUFFIXES[kind]):
            return kind
    raise UsageError(f"{path.name} does not say what to write", expected="a name in " + " ".join(SUFFIXES.values()))


def write_documents(
    documents: Iterable[Document], path: str | Path, kind: str | None = None, separator: str = ENDOFTEXT
) -> int:
    """Writes `documents` at `path`, whole or not at all, and returns how many. Equal documents make equal bytes.

    kind: one of SUFFIXES, else what the name says. JSON lines have "text" and, where there is any, "meta"; Parquet has
    both as columns of text, meta as JSON. Plain text has the documents with a line of `separator` between them, and no
    meta. Raises DataError for a text that holds the separator.
    """
    path = Path(path)
    kind = kind or kind_by_name(path)
    if kind not in SUFFIXES:
        raise UsageError(f"there is no format {kind!r}", expected=", ".join(SUFFIXES), fix=did_you_mean(kind, SUFFIXES))
    with atomic_write(path) as partial:
        if kind == "parquet":
            return _parquet(documents, partial)
        with opened(partial, kind) as file:
            lines = _texts(documents, separator) if kind == "txt" else map(json_line, documents)
            return sum(bool(file.write(line)) for line in lines)


def json_line(document: Document) -> bytes:
    """One line of JSON, its break included."""
    record = {"text": document.text, **({"meta": dict(document.meta)} if document.meta else {})}
    return json_bytes(record) + b"\n"


def json_bytes(value: object) -> bytes:
    """A value as JSON on one line, in UTF-8."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # half a character somewhere in meta, which only an escape can spell
        return json.dumps(value, allow_nan=False).encode("ascii")


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[IO[bytes]]:
    """A file to write into, compressed as the end of `kind` says; equal bytes make equal files."""
    packed: Any
    with path.open("wb") as file:
        if kind.endswith(".gz"):  # without name and time: equal documents make equal bytes
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed, io.BufferedWriter(packed, 2**18) as buffered:
                yield buffered
        elif kind.endswith(".zst"):
            with zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(
                file, closefd=False
            ) as packed:
                yield packed
        else:
            yield file


def _texts(documents: Iterable[Document], separator: str) -> Iterator[bytes]:
    for number, document in enumerate(documents):
        if separator in document.text:
            raise DataError(
                f"{document.place} holds {separator!r}, which separates documents of plain text",
                fix="write JSON lines, or choose another --separator",
            )
        yield ((f"\n{separator}\n" if number else "") + document.text).encode("utf-8")


def _parquet(documents: Iterable[Document], path: Path) -> int:
    import pyarrow  # takes a second
    from pyarrow import parquet

    schema = pyarrow.schema([("text", pyarrow.large_string()), ("meta", pyarrow.large_string())])
    count = 0
    held: list[Document] = []

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            meta = [json_bytes(dict(each.meta)).decode() if each.meta else None for each in held]
            writer.write_table(pyarrow.table({"text": [each.text for each in held], "meta": meta}, schema))
            held.clear()

        for document in documents:
            held.append(document)
            count += 1
            if len(held) == ROWS or sum(len(each.text) for each in held[-1:]) > 2**20:
                flush()
        if held or not count:
            flush()
    return count
