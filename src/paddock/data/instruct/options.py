"""How examples are asked for, and what is told of the files they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paddock.data.reading.options import LIMIT
from paddock.data.reading.options import Options as Container
from paddock.errors import UsageError, did_you_mean

NAMED = 20  # reasons in a sentence
FILES = ("jsonl", "json", "csv", "parquet")  # formats of files, where the records are told by their content
CHOICES = {
    "on_error": ("stop", "skip"),
    "duplicates": ("keep", "drop"),
    "trees": ("threads", "ranked", "prompts"),
    "alternate": (True, False),
    "synthetic": (True, False),
}


@dataclass(frozen=True)
class Options:
    """How to read examples.

    format: a name of `formats.FORMATS`; "auto" looks at each file's records; "mixed" at every single record.
    fields: what a file calls the fields of a format: {"text": "review"}; dots go inside ("translation.en").
    on_error: "stop" at the first broken record, or "skip" and count it. duplicates: what becomes of a record whose id
    was there before: both are counted. alternate: whether user and assistant have to take turns.
    source, licence, language: said of every example whose record does not say it itself.
    trees: what is made of message trees: each thread that ends in an answer, each prompt with its ranked answers, or
    every prompt. tree_states: those that are taken, none for all. synthetic: whether what models wrote is taken too.
    best: only answers of a rank below this.
    encoding, errors, record_bytes: `paddock.data.reading.Options` says, which calls the last one limit.
    """

    format: str = "auto"
    fields: Mapping[str, str] = field(default_factory=dict)
    on_error: str = "stop"
    duplicates: str = "keep"
    alternate: bool = True
    source: str | None = None
    licence: str | None = None
    language: str | None = None
    trees: str = "threads"
    tree_states: tuple[str, ...] = ("ready_for_export",)
    synthetic: bool = False
    best: int | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    record_bytes: int = LIMIT

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                words = [str(each) for each in known]
                raise UsageError(f"{name}={value!r}", expected=" or ".join(words), fix=did_you_mean(str(value), words))
        if self.best is not None and self.best < 1:
            raise UsageError(f"best={self.best}", expected="how many answers of a prompt to take, from 1 on")
        _ = self.container

    @property
    def container(self) -> Container:
        """How the files themselves are read. Plain text is read by lines."""
        format = self.format if self.format in FILES else "auto"
        return Container(
            format,
            split="lines",
            encoding=self.encoding,
            errors=self.errors,
            on_error=self.on_error,
            limit=self.record_bytes,
        )


@dataclass
class FileReport:
    """What one file was found to hold. container: jsonl, json, csv, parquet or text. format: of its records, None where
    it has none. records: read, kept or not."""

    path: Path
    container: str = ""
    compression: str = ""
    size: int = 0
    format: str | None = None
    records: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)


@dataclass
class Report:
    """What files were found to hold: examples by format, why others were dropped, and what was mended in those kept."""

    files: list[FileReport] = field(default_factory=list)

    def _sum(self, name: str) -> Counter[str]:
        return sum((getattr(file, name) for file in self.files), Counter())

    @property
    def kept(self) -> Counter[str]:
        return self._sum("kept")

    @property
    def dropped(self) -> Counter[str]:
        return self._sum("dropped")

    @property
    def mended(self) -> Counter[str]:
        return self._sum("mended")

    @property
    def told(self) -> str:
        """In words: "examples: 1,202 alpaca; dropped: 3 empty output"."""
        parts = [f"examples: {listed(self.kept) or 'none'}"]
        parts += [f"{name}: {listed(some)}" for name in ("dropped", "mended") if (some := self._sum(name))]
        return "; ".join(parts)


def listed(counts: Mapping[str, int]) -> str:
    """Counts in words, the largest first; a file may give any number of reasons."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[NAMED:])
    told = ", ".join(f"{count:,} {name}" for name, count in ordered[:NAMED])
    return told + (f", {rest:,} for {len(ordered) - NAMED:,} other reasons" if rest else "")
