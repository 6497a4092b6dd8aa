"""How documents are asked for, and what is told of the files they came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from paddock.errors import UsageError, did_you_mean

FORMATS = ("auto", "text", "jsonl", "json", "csv", "tsv", "parquet")
FORMAT_NAMES = {
    "text": "plain text",
    "jsonl": "JSON lines",
    "json": "JSON",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
}
SPLITS = ("auto", "file", "lines", "paragraphs")
ENDOFTEXT = "<|endoftext|>"
LIMIT = 32 * 2**20
MAX_SEPARATOR = 1024


@dataclass(frozen=True)
class Options:
    """How to read.

    format: one of FORMATS; "auto" looks at the content. text_field: which field of a record is the text;
    of a table without names, the column's number, from 0.
    split: what one document of plain text is: the file, a line, a paragraph (blank lines between), or, with "auto",
    what stands between `<|endoftext|>` where the beginning of the file has that, else the file.
    separator: what stands between documents of plain text instead.
    encoding and errors are Python's. on_error: "stop" at the first broken record, or "skip" and count it.
    limit: bytes of one line or document at most.
    """

    format: str = "auto"
    text_field: str = "text"
    split: str = "auto"
    separator: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    on_error: str = "stop"
    limit: int = LIMIT

    def __post_init__(self) -> None:
        _one_of("format", self.format, FORMATS)
        _one_of("split", self.split, SPLITS)
        _one_of("errors", self.errors, ("strict", "replace", "ignore"))
        _one_of("on_error", self.on_error, ("stop", "skip"))
        if not self.text_field:
            raise UsageError("text_field is empty", expected="the name of a field")
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise UsageError(f"limit={self.limit!r}", expected="a number of bytes from 1 on")
        if self.separator is not None:
            if not 0 < len(self.separator.encode("utf-8", "replace")) <= MAX_SEPARATOR:
                raise UsageError("the separator is empty or too long", expected=f"1 to {MAX_SEPARATOR} bytes")
            if self.split != "auto":
                raise UsageError(f"a separator and split={self.split!r} exclude each other", fix="give one of them")
        try:
            b"a".decode(self.encoding)
        except UnicodeDecodeError:
            pass  # an encoding of two bytes a character; it exists
        except (LookupError, ValueError):
            raise UsageError(
                f"encoding={self.encoding!r}", expected="a text encoding, such as utf-8, gb18030"
            ) from None


@dataclass
class FileReport:
    """What one file was found to be and to hold.

    format: text, jsonl, json, csv, tsv, parquet or empty. compression: "", gzip or zstd. shape: what the records
    look like. kept: documents given out; dropped: how many were not, by reason. characters: of the documents kept.
    """

    path: Path
    size: int = 0
    format: str = ""
    compression: str = ""
    shape: str = ""
    kept: int = 0
    characters: int = 0
    longest: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def detected(self) -> str:
        """In words: "JSON lines, zstd, RedPajama v1"."""
        return ", ".join(filter(None, (FORMAT_NAMES.get(self.format, self.format), self.compression, self.shape)))


@dataclass
class Report:
    """Every file read so far, in order; filled while the documents are taken."""

    files: list[FileReport] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return sum(file.kept for file in self.files)

    @property
    def dropped(self) -> Counter[str]:
        return sum((file.dropped for file in self.files), Counter())


class Broken(Exception):
    """A record that gives no document: a short reason to count it under, what is wrong, and what can be done."""

    def __init__(self, reason: str, what: str, fix: str | None = None) -> None:
        super().__init__(what)
        self.reason, self.what, self.fix = reason, what, fix


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name}={value!r}", expected=", ".join(known), fix=did_you_mean(str(value), known))
