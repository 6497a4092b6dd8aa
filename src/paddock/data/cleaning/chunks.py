"""Documents of a pass in chunks on disk; a chunk is there whole, with all that it taught, or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from paddock.checkpoint.writing import atomic_write, write_bytes, write_text
from paddock.data.cleaning.stage import Item
from paddock.data.document import Document
from paddock.errors import DataError

LEVEL = 1  # of zstd, for what is read once more and thrown away


class Line(NamedTuple):
    """A document in a chunk: its number, the characters of its text, where it is from, and its line of output."""

    number: int
    characters: int
    place: str
    output: bytes

    def item(self) -> Item:
        record = json.loads(self.output)
        return Item(self.number, Document(record["text"], self.place, record.get("meta", {})))


def to_line(item: Item) -> bytes:
    """Tabs part the fields: JSON has none but as an escape."""
    document = item.document
    record: dict[str, Any] = {"text": document.text}
    if document.meta:
        record["meta"] = document.meta
    try:
        output = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{document.place}: its meta is not JSON: {error}") from None
    return f"{item.number}\t{len(document.text)}\t{json.dumps(document.place)}\t{output}\n".encode()


def from_line(line: bytes) -> Line:
    number, characters, place, output = line.split(b"\t", 3)
    return Line(int(number), int(characters), json.loads(place), output)


@dataclass
class Chunks:
    """The chunks of one pass in a folder: NNNNNN.lines (zstd), NNNNNN.learned; NNNNNN.json makes both count."""

    folder: Path

    def write(self, number: int, lines: Iterator[bytes], close: Any) -> None:
        """Writes chunk `number`: its lines as they come, then what `close()` gives, a record and what was learned."""
        base = self.folder / f"{number:06}"
        with atomic_write(base.with_suffix(".lines")) as part, part.open("wb") as file:
            with zstandard.ZstdCompressor(level=LEVEL).stream_writer(file, closefd=False) as out:
                for line in lines:
                    out.write(line)
            file.flush()
        record, learned = close()
        write_bytes(base.with_suffix(".learned"), b"".join(learned))
        record["learned"] = [len(data) for data in learned]
        record["sha256"] = {name: _sha256(base.with_suffix(name)) for name in (".lines", ".learned")}
        write_text(base.with_suffix(".json"), json.dumps(record, ensure_ascii=False, sort_keys=True))

    def records(self) -> Iterator[dict[str, Any]]:
        """The record of each chunk that is there, up to the first that is not."""
        number = 0
        while (path := self.folder / f"{number:06}.json").exists():
            yield json.loads(path.read_text(encoding="utf-8"))
            number += 1

    def learned(self, number: int, record: dict[str, Any]) -> list[bytes]:
        """What each stage learned in a chunk. Raises DataError for a file that is not as it was written."""
        data = self._checked(number, record, ".learned")
        result, at = [], 0
        for size in record["learned"]:
            result.append(data[at : at + size])
            at += size
        return result

    def lines(self, number: int, record: dict[str, Any]) -> Iterator[Line]:
        """The documents of a chunk. Raises DataError for a file that is not as it was written."""
        data = self._checked(number, record, ".lines")
        with io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(data), 1 << 20) as reader:
            for line in reader:
                yield from_line(line.rstrip(b"\n"))

    def drop(self) -> None:
        """Lets go of documents and memories, which were read for the last time; the records stay."""
        for path in [*self.folder.glob("*.lines"), *self.folder.glob("*.learned")]:
            path.unlink()

    def _checked(self, number: int, record: dict[str, Any], suffix: str) -> bytes:
        path = (self.folder / f"{number:06}").with_suffix(suffix)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}", fix="start over: --force") from None
        if hashlib.sha256(data).hexdigest() != record["sha256"][suffix]:
            raise DataError(f"{path} is not what was written", fix="start over: --force")
        return data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
