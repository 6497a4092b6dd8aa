"""The front door: files in, examples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paddock.data import reading
from paddock.data.instruct.records import Example, Origin, Text


@dataclass
class Report:
    """What files were found to hold: examples by format, and why others were dropped."""

    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """In words: "1,202 examples (alpaca)"."""
        found = ", ".join(f"{count:,} {name}" for name, count in self.kept.items())
        lost = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"examples: {found or 'none'}" + (f"; dropped: {lost}" if lost else "")


def examples(
    paths: str | Path | Iterable[str | Path],
    format: str = "auto",
    *,
    limit: int | None = None,
    report: Report | None = None,
) -> Iterator[Example]:
    """The examples of files, in order. limit: no more than so many. `report` is filled as they are taken.

    Raises DataError naming file and line of the first broken record, UsageError for a format that is not known.
    """
    report = Report() if report is None else report
    for number, document in enumerate(reading.documents(paths)):
        if limit is not None and number >= limit:
            return
        report.kept["text"] += 1
        yield Text(document.text, Origin(document.place))
