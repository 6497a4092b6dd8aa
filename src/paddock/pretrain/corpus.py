"""The data side of the stage: a recipe's documents as token tables, the same for every size and every resume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paddock.data.reading import documents
from paddock.errors import DataError, UsageError
from paddock.pretrain.recipe import Data, Source

ROOT = "PADDOCK_DATA"  # environment: a folder in which recipes look for their texts
FEW = 20  # documents below which the end of each is kept back, as there are not enough to keep some back whole

Text = tuple[str, ...]  # a document; of pairs, both sides


@dataclass(frozen=True)
class Places:
    """Where a recipe's files are looked for, in order."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, data: Data, beside: Path) -> Places:
        named = [data.root, os.environ.get(ROOT)]
        return cls((*(Path(folder).expanduser() for folder in named if folder), beside, Path()))

    def find(self, patterns: Iterable[str]) -> list[Path]:
        """The files of names and patterns, each from the first folder that has any. Raises UsageError."""
        return [path for pattern in patterns for path in self._find(pattern)]

    def _find(self, pattern: str) -> list[Path]:
        for folder in self.folders:
            path = folder / pattern
            try:
                found = [path] if path.is_file() else sorted(p for p in folder.glob(pattern) if p.is_file())
            except (ValueError, NotImplementedError):  # a pattern that pathlib does not take: absolute, empty
                found = []
            if found:
                return found
        raise UsageError(
            f"the recipe's text {pattern!r} is in none of {', '.join(str(folder) for folder in self.folders)}",
            fix=f"say data.root=FOLDER (or set {ROOT}) to the folder that has it",
        )


@dataclass(frozen=True)
class Corpus:
    """Texts of one source, those to train on and those kept back."""

    train: list[Text]
    validation: list[Text]
    weight: float | None


def read(data: Data, places: Places) -> list[Corpus]:
    """Every source's documents, in the order of the recipe. Raises UsageError and DataError."""
    return [_split(list(_texts(source, places)), data.validation, source.weight) for source in data.sources]


def _texts(source: Source, places: Places) -> Iterator[Text]:
    reading = {"text_field": source.text_field, "separator": source.separator or None}
    first = documents(places.find(source.files), **reading)  # type: ignore[arg-type]
    if not source.second:
        yield from ((document.text,) for document in first)
        return
    second = documents(places.find(source.second), **reading)  # type: ignore[arg-type]
    left, right = [d.text for d in first], [d.text for d in second]
    if len(left) != len(right):
        raise DataError(
            f"{', '.join(source.files)} holds {len(left)} documents and {', '.join(source.second)} {len(right)}",
            expected="as many, each answering the other",
        )
    yield from zip(left, right, strict=True)


def _split(texts: list[Text], share: float, weight: float | None) -> Corpus:
    """What is kept back is chosen by a document's content, so that a document given twice is on one side only."""
    if not share:
        return Corpus(texts, [], weight)
    if len(texts) < FEW:
        parts = [[_cut(text, share) for text in document] for document in texts]
        return Corpus(
            [tuple(head for head, _ in part) for part in parts],
            [tuple(tail for _, tail in part) for part in parts],
            weight,
        )
    kept_back = [_drawn(text) < share for text in texts]
    train = [text for text, kept in zip(texts, kept_back, strict=True) if not kept]
    return Corpus(train, [text for text, kept in zip(texts, kept_back, strict=True) if kept], weight)


def _cut(text: str, share: float) -> tuple[str, str]:
    """The beginning and the last `share` of a text."""
    at = len(text) - int(len(text) * share)
    return text[:at], text[at:]


def _drawn(text: Text) -> float:
    """A number from 0 to 1 that a text's content decides."""
    digest = hashlib.sha256("\0".join(text).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
