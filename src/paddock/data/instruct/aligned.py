"""Two files whose lines belong together: a sentence and its translation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from paddock.data.instruct.options import FileReport, Options, Report
from paddock.data.instruct.records import Origin, Pair
from paddock.data.reading.reader import DataFile
from paddock.errors import DataError, UsageError


def pairs(sources: Sequence[Path], targets: Sequence[Path], options: Options, report: Report) -> Iterator[Pair]:
    """Line by line. Raises UsageError where one side has more files, DataError where a file has more lines."""
    if len(sources) != len(targets):
        raise UsageError(
            f"{len(sources)} files of sources and {len(targets)} of targets", expected="one of the other for each"
        )
    return itertools.chain.from_iterable(
        _of_two(source, target, options, report) for source, target in zip(sources, targets, strict=True)
    )


def _of_two(source: Path, target: Path, options: Options, report: Report) -> Iterator[Pair]:
    # A line that is passed over would shift all behind it, so that a broken one stops whatever `on_error` says.
    lines = replace(options.container, format="text", on_error="stop")
    file = FileReport(source, "text", format="pairs")
    report.files.append(file)
    one, other = DataFile(source, lines, None), DataFile(target, lines, None)
    name = options.source or source.name
    sides = one.records(), other.records()
    for number, (first, second) in enumerate(itertools.zip_longest(*sides), 1):
        if first is None or second is None:
            ended, longer = (source, target) if first is None else (target, source)
            count = number + sum(1 for _ in sides[first is None])
            raise DataError(
                f"{ended} has {number - 1:,} lines, and {longer} {count:,}",
                expected="as many lines in both, each a translation of the other",
            )
        file.records += 1
        file.size = one.report.size
        texts = [str(each[1]).removesuffix("\r").strip() for each in (first, second)]
        if not all(texts):
            file.dropped["empty source" if texts[1] else "empty target" if texts[0] else "empty line"] += 1
            continue
        file.kept["pairs"] += 1
        yield Pair(texts[0], texts[1], Origin(first[0], None, name, options.language, options.licence))
