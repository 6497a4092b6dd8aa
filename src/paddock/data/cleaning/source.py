"""Where documents come from, and how it is known that they are the same ones again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.data.cleaning.stage import Item, Outcome, removed
from paddock.data.document import Document
from paddock.data.reading import Options, Report, read_documents
from paddock.data.reading.opening import find_files
from paddock.errors import DataError


@dataclass(frozen=True)
class Source:
    """open: the documents from the first on. inputs: files with size and SHA-256. dropped: what reading left out, known
    when all were taken. unchanged: raises DataError where a file is another than it was."""

    open: Callable[[], Iterator[Document]]
    inputs: tuple[dict[str, Any], ...] = ()
    dropped: Callable[[], Counter[str]] = Counter
    unchanged: Callable[[], None] = lambda: None


def from_documents(documents: Iterable[Document]) -> Source:
    """Documents a program has; to go on after a kill it must give the same ones again, from the first on."""
    return Source(lambda: iter(documents))


def from_files(paths: Iterable[str | Path], options: Options) -> Source:
    """Files, folders and patterns. Every file is read once for its SHA-256, before anything else."""
    files = find_files(list(paths))
    report = Report()
    states = {path: _state(path) for path in files}
    inputs = tuple(described(path) for path in files)

    def unchanged() -> None:
        for path, state in states.items():
            if _state(path) != state:
                raise DataError(
                    f"{path} was changed while it was read", fix="clean again when nobody writes to it: --force"
                )

    return Source(lambda: read_documents(files, options, report), inputs, lambda: report.dropped, unchanged)


def described(path: Path) -> dict[str, Any]:
    """A file's name as it was given, its size and SHA-256."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"file": str(path), "bytes": file.tell(), "sha256": digest}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    return found.st_size, found.st_mtime_ns


def accept(item: Item) -> Outcome:
    """The first stage of all: what comes in must be text."""
    text: Any = item.document.text
    if not isinstance(text, str):
        return removed(f"text is {type(text).__name__}", repr(text)[:80])
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return removed("half a character", f"character {error.start} is half of one")
    if not text or text.isspace():
        return removed("empty")
    return Outcome(item.document)
