"""Examples into files, in formats that `reading` takes back."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import atomic_write
from paddock.data.instruct import parquet
from paddock.data.instruct.options import listed
from paddock.data.instruct.records import (
    Conversation,
    Example,
    Feedback,
    Labelled,
    Pair,
    Preference,
    Ranked,
    Text,
    kind_of,
)
from paddock.data.instruct.shaping import shaped, with_inputs_joined
from paddock.data.instruct.writers import WRITERS, Unwritable, Writer
from paddock.data.writing import json_bytes, opened
from paddock.errors import DataError, UsageError, did_you_mean

CONTAINERS = (".jsonl.gz", ".jsonl.zst", ".jsonl", ".json", ".tsv", ".parquet")
OWN = {  # what a kind is written as where nobody says
    Conversation: "messages",
    Preference: "dpo",
    Ranked: "dpo",
    Feedback: "kto",
    Pair: "pairs",
    Labelled: "labelled",
    Text: "text",
}
WITH_INPUT = ("alpaca", "alpaca-libre", "alpaca-prompts", "dolly", "self-instruct", "self-instruct-instances", "text")
ORIGIN = ("id", "dataset", "source", "lang", "license", "group", "meta")

Pieces = Callable[[Iterable[dict[str, Any]]], Iterator[bytes]]


@dataclass
class Written:
    """What was written. lost: what was left out of examples. left_out: examples that the format cannot hold."""

    format: str = ""
    examples: int = 0
    records: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """In words."""
        parts = [f"{self.examples:,} examples as {self.records:,} records of {self.format}"]
        parts += [f"lost: {listed(self.lost)}"] if self.lost else []
        parts += [f"left out: {listed(self.left_out)}"] if self.left_out else []
        return "; ".join(parts)


def container_of(path: Path) -> str:
    """What a file's name asks for. UsageError for a name that says none."""
    name = path.name.lower()
    found = next((each for each in CONTAINERS if name.endswith(each)), None)
    if found is None:
        raise UsageError(f"{path.name} does not say what to write", expected="a name in " + " ".join(CONTAINERS))
    return found


def write_examples(
    examples: Iterable[Example],
    path: str | Path,
    to: str | None = None,
    *,
    on_error: str = "stop",
    bare: bool = False,
    keep_inputs: bool = True,
    render: Callable[[Conversation], str] | None = None,
) -> Written:
    """Writes examples at `path`, whole or not at all. Equal examples make equal bytes.

    to: a name of WRITERS, or what suits the first example. The container is what the file's name says: JSON lines, a
    JSON array, columns with tabs between them, or Parquet. on_error: what becomes of an example that the format cannot
    hold: "stop", or "skip" and count it. bare: without id, source, language, licence and meta. keep_inputs: an
    instruction's input stays a field of its own in messages, which Paddock reads and few others do. render: makes a
    conversation a text, for "text".

    Raises DataError for what a format cannot hold, UsageError for a format that is not known.
    """
    path = Path(path)
    container = container_of(path)
    stream = iter(examples)
    first = next(stream, None)
    if first is None:
        raise DataError("there are no examples to write", fix="see what is dropped: paddock data inspect")
    to = to or OWN[type(first)]
    if to not in WRITERS:
        raise UsageError(
            f"there is no format of examples {to!r}", expected=", ".join(WRITERS), fix=did_you_mean(to, WRITERS)
        )
    written = Written(to)
    examples = itertools.chain([first], stream)
    if not keep_inputs and to not in WITH_INPUT:
        examples = (with_inputs_joined(example, written.lost) for example in examples)
    rows = _rows(examples, WRITERS[to], written, on_error, bare, render)
    pieces: dict[str, Pieces] = {".json": _array, ".tsv": functools.partial(_table, written)}
    with atomic_write(path) as partial:
        if container == ".parquet":
            parquet.write(rows, partial)
        else:
            with opened(partial, container) as file:
                for piece in pieces.get(container, _lines)(rows):
                    file.write(piece)
    written.lost = +written.lost
    return written


def _rows(
    examples: Iterable[Example],
    writer: Writer,
    written: Written,
    on_error: str,
    bare: bool,
    render: Callable[[Conversation], str] | None,
) -> Iterator[dict[str, Any]]:
    seen: set[str | None] = set()
    for example in examples:
        try:
            if writer.unique and example.origin.id in seen:
                raise Unwritable("an id that was there before")
            if writer.name == "text" and render is not None and isinstance(example, Conversation):
                example = Text(render(example), example.origin)
            rows = [row for each in _as_one_of(example, writer) for row in writer.write(each, written.lost)]
        except Unwritable as error:
            if on_error != "skip":
                raise DataError(
                    f"{example.origin.place}: {error}, for which {writer.name} has no place",
                    fix="another --to, or pass over what it cannot hold: --on-error skip",
                ) from None
            written.left_out[str(error)] += 1
            continue
        written.examples += 1
        seen |= {example.origin.id} if writer.unique else set()
        written.records += len(rows)
        for row in rows:
            own = {"source"} if "target" in row else set()
            yield {name: value for name, value in row.items() if name in own or name not in ORIGIN} if bare else row


def _as_one_of(example: Example, writer: Writer) -> list[Example]:
    found = list(shaped(example, writer.kinds))
    if not found:
        raise Unwritable(f"a {kind_of(example)}")
    return found


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return (json_bytes(row) + b"\n" for row in rows)


def _array(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    before = b"[\n"
    for row in rows:
        yield before + json_bytes(row)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _table(written: Written, rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Columns of text or numbers, named in the first line. Raises DataError for what has no place between tabs."""
    columns: list[str] | None = None
    for number, row in enumerate(rows, 1):
        cells = {name: value for name, value in row.items() if name not in ("group", "meta")}
        written.lost["meta"] += len(cells) < len(row)
        if columns is None:
            columns = list(cells)
            yield ("\t".join(columns) + "\n").encode()
        texts = [str(cells.get(name, "")) for name in columns]
        if set(cells) - set(columns) or any(isinstance(value, list | dict) for value in cells.values()):
            raise DataError(f"record {number} does not fit into columns", fix="write JSON lines: .jsonl")
        if any(mark in text for text in texts for mark in "\t\n\r"):
            raise DataError(f"record {number} holds a tab or a line break", fix="write JSON lines: .jsonl")
        yield ("\t".join(texts) + "\n").encode()
