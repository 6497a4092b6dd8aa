"""The front door: files in, examples out."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddock.data.instruct import aligned, tables
from paddock.data.instruct.formats import FORMATS
from paddock.data.instruct.options import FILES, FileReport, Options, Report
from paddock.data.instruct.records import Example
from paddock.data.instruct.taking import Dropped, Format, Record, Taking, sound
from paddock.data.reading.opening import find_files
from paddock.data.reading.options import Broken
from paddock.data.reading.options import Options as Container
from paddock.data.reading.reader import DataFile, probe
from paddock.data.reading.records import kind
from paddock.errors import DataError, UsageError, did_you_mean

__all__ = ["Options", "Report", "examples", "read_examples"]

SAMPLE = 16  # records that tell a file's format
MAX_IDS = 10**7
VAGUE = ("prompts", "asked-messages", "text")  # that fit broken records of many formats

Paths = str | Path | Iterable[str | Path]


def examples(
    paths: Paths,
    format: str = "auto",
    *,
    second: Paths | None = None,
    limit: int | None = None,
    report: Report | None = None,
    **options: Any,
) -> Iterator[Example]:
    """The examples of files, in order. `options`: fields of `Options`.

    second: files whose lines are the targets of those of `paths`, line by line. limit: no more than so many examples.
    `report` is filled as they are taken: what each file was found to be, what was kept, what was dropped and why.

    Raises DataError naming file, line and field of the first broken record (unless `on_error="skip"`), UsageError for a
    format that is not known and options that cannot be meant.
    """
    asked = Options(format, **options)
    return itertools.islice(read_examples(paths, asked, report, second), limit)


def read_examples(
    paths: Paths, options: Options, report: Report | None = None, second: Paths | None = None
) -> Iterator[Example]:
    """`examples` with its options as one value."""
    known = ("auto", "mixed", *FORMATS, *FILES)
    if options.format not in known:
        raise UsageError(
            f"there is no format of examples {options.format!r}",
            expected=", ".join(dict.fromkeys(known)),
            fix=did_you_mean(options.format, known),
        )
    report = Report() if report is None else report
    if second is not None:
        return aligned.pairs(find_files(paths), find_files(second), options, report)
    return _examples(find_files(paths), options, report)


def format_of(path: Path, options: Options) -> str | None:
    """The format of a file's examples; "text" for documents, None for records that no format fits and for none at all.

    Only its beginning is read. Raises DataError for what is neither text nor JSON nor Parquet.
    """
    easy = replace(options, on_error="skip", format="auto" if options.format == "mixed" else options.format)
    container, head = probe(path, _container(path, easy))
    table = _table(container, head, easy)
    if container == "text" and table is None:
        return "text"
    file = _File(path, easy, FileReport(path))
    with contextlib.closing(file.records(table)) as records:
        told = file.told([record for _, record in itertools.islice(records, SAMPLE)])
    return told.name if told else None


def _examples(paths: list[Path], options: Options, report: Report) -> Iterator[Example]:
    seen: set[tuple[str, str, str]] = set()
    for path in paths:
        file = FileReport(path)
        report.files.append(file)
        for name, example in _File(path, options, file).examples():
            if example.origin.id is not None and len(seen) < MAX_IDS:
                key = name, example.origin.source or "", example.origin.id
                if key in seen:
                    if options.duplicates == "drop":
                        file.dropped["id seen before"] += 1
                        continue
                    file.mended["id seen before, and kept"] += 1
                seen.add(key)
            file.kept[name] += 1
            yield example


class _File:
    """One file of examples being read."""

    def __init__(self, path: Path, options: Options, report: FileReport) -> None:
        self.path, self.options, self.report = path, options, report

    def examples(self) -> Iterator[tuple[str, Example]]:
        """(format, example)."""
        container, head = probe(self.path, _container(self.path, self.options))
        self.report.container = container
        table = _table(container, head, self.options)
        if container == "text" and table is None:
            yield from self._read(self._documents())
            return
        with contextlib.closing(self.records(table)) as records:
            yield from self._read(records)

    def _documents(self) -> Iterator[tuple[str, Record]]:
        """Plain text: what stands between marks of its end, else the whole file."""
        file = DataFile(self.path, replace(self.options.container, format="text", split="auto"), None)
        for document in file.documents():
            self._seen(file)
            yield document.place, {"text": document.text}
        self._ended(file)

    def records(self, table: tables.Table | None) -> Generator[tuple[str, Record], None, None]:
        """(place, record) of what is no running text."""
        file = DataFile(self.path, _container(self.path, self.options), None)
        with contextlib.closing(file.records()) as records:
            for place, value in records:
                self._seen(file)
                try:
                    record = table.record(value, place) if table else value
                    if record is None:
                        continue
                    yield place, self._named(sound(record, self.options))
                except Broken as broken:
                    self._taking(place).refuse(place, broken)
                    self.report.records += 1
        self._ended(file)

    def _seen(self, file: DataFile) -> None:
        self.report.size, self.report.compression = file.report.size, file.report.compression

    def _ended(self, file: DataFile) -> None:
        """Takes over what the file's own reader dropped: lines that are not JSON, not UTF-8, too long, empty."""
        self._seen(file)
        self.report.dropped.update(file.report.dropped)
        self.report.records += sum(file.report.dropped.values())

    def _named(self, record: Any) -> Record:
        """The record with the fields that the user named under the names that formats know."""
        if isinstance(record, str):
            record = {"text": record}
        if not isinstance(record, Mapping):
            raise Broken("no record", f"the record is {kind(record)}, where an object belongs")
        if not self.options.fields:
            return record
        taken = {name: _inside(record, path) for name, path in self.options.fields.items()}
        left = {key: value for key, value in record.items() if key not in self.options.fields.values()}
        return {**{f"own_{key}" if key in taken else key: value for key, value in left.items()}, **taken}

    def _read(self, records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Example]]:
        begun = list(itertools.islice(records, SAMPLE))
        form = self._format([record for _, record in begun])
        if form is not None:
            self.report.format = form.name
            if form.gathered:
                taking = self._taking(str(self.path))
                counted = self._counted(itertools.chain(begun, records))
                yield from ((form.name, example) for example in form.gathered(counted, taking))
                return
        for place, record in self._counted(itertools.chain(begun, records)):
            yield from self._taken(place, record, form)

    def _counted(self, records: Iterator[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
        for item in records:
            self.report.records += 1
            yield item

    def _taken(self, place: str, record: Record, form: Format | None) -> Iterator[tuple[str, Example]]:
        taking = self._taking(place)
        own = form
        try:
            own = form or self._told(record)
            for example in own.read(record, taking):
                yield own.name, example
        except Dropped as dropped:
            self.report.dropped[dropped.reason] += 1
        except Broken as broken:
            taking.refuse(place, self._other(record, own, broken) if own else broken)

    def _other(self, record: Record, form: Format, broken: Broken) -> Broken:
        """The same, said of a file that begins as one format and goes on as another, or is not what the user named."""
        if form.fits(record):
            return broken
        other = _fitting(record)
        if other is not None and other.name in VAGUE:
            other = None
        if self.options.format in ("auto", *FILES) and other is not None:
            began = f"this looks like {other.name} ({other.title}), in a file that began as {form.name} ({form.title})"
            return Broken("another format", f"{broken.what}; {began}", "--format mixed takes each record as what it is")
        found = f"; it looks like {other.title}" if other else ""
        return Broken(broken.reason, f"not {form.name} ({form.title}): {broken.what}{found}", broken.fix)

    def _format(self, sample: list[Record]) -> Format | None:
        """The one format of a file; None where every record is to be looked at."""
        if self.options.format == "mixed" or not sample:
            return None
        told = self.told(sample)
        if told is None:
            raise DataError(
                f"{self.path}: records of no known format; the first has the fields "
                + (", ".join(repr(str(key)) for key in list(sample[0])[:12]) or "none"),
                fix="say what its fields are (--field text=NAME --field label=NAME, say), or name its --format",
            )
        return told

    def told(self, sample: list[Record]) -> Format | None:
        """The format that was named, else the one that most records of a sample fit."""
        named = self.options.format
        if named in FORMATS:
            return FORMATS[named]
        told = Counter(form.name for record in sample if (form := _fitting(record)))
        return FORMATS[told.most_common(1)[0][0]] if told else None

    def _told(self, record: Record) -> Format:
        form = _fitting(record)
        if form is None:
            fields = ", ".join(repr(str(key)) for key in list(record)[:12])
            raise Broken("no known format", f"a record of no known format, with the fields {fields or 'none'}")
        return form

    def _taking(self, place: str) -> Taking:
        name = self.path.name.split(".")[0] or self.path.name
        return Taking(self.options, place, name, self.report.mended, self.report.dropped)


def _container(path: Path, options: Options) -> Container:
    """How this file is read: CSV has its names in the first row, while a table with tabs may go without."""
    container = options.container
    return replace(container, format="csv") if ".csv" in path.suffixes and container.format == "auto" else container


def _table(container: str, head: bytes, options: Options) -> tables.Table | None:
    return tables.recognise(head, options) if container == "text" and options.format != "text" else None


def _fitting(record: Record) -> Format | None:
    return next((form for form in FORMATS.values() if form.fits(record)), None)


def _inside(record: Record, path: str) -> Any:
    """What a path with dots leads to. Raises Broken."""
    if path in record:
        return record[path]
    value: Any = record
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            fields = ", ".join(repr(str(key)) for key in list(record)[:12])
            raise Broken(f"no field {path!r}", f"no field {path!r}; its fields are {fields or 'none'}")
        value = value[step]
    return value
