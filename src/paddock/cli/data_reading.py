"""What `paddock data inspect` and `paddock data convert` do."""

from __future__ import annotations

import functools
import json as jsons
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import data_options, example_options, example_reading, output
from paddock.cli.progress import Progress
from paddock.data.document import Document
from paddock.data.instruct.options import Options as ExampleOptions
from paddock.data.instruct.reading import format_of
from paddock.data.instruct.writers import WRITERS
from paddock.data.reading import FileReport, Options, Report, read_documents
from paddock.data.reading.opening import find_files
from paddock.data.reading.options import FORMATS
from paddock.data.writing import SUFFIXES, kind_by_name, write_documents
from paddock.errors import UsageError, did_you_mean

SHOWN, SHOWN_META = 300, 200  # characters of a record
TABLE = "parquet"  # what documents and examples are written as alike


@dataclass(frozen=True)
class Asked:
    """How documents are read, and how examples are. plainly: what was asked for means documents only."""

    documents: Options
    examples: ExampleOptions
    second: Sequence[str] = ()
    bare: bool = False
    keep_inputs: bool = False
    template: str | None = None

    @property
    def plainly(self) -> bool:
        given = self.documents
        return given.text_field != "text" or given.split != "auto" or given.separator is not None

    def of_examples(self, path: Path) -> bool:
        """Whether a file holds examples, and not documents."""
        if self.second or self.examples.fields or self.examples.format not in FORMATS:
            return True
        if self.plainly or self.examples.format == "text":
            return False
        return format_of(path, self.examples) not in (None, "text")


def asked(params: Mapping[str, Any]) -> Asked:
    """From a verb's options. A format of examples is no format of documents, which are then read as they come."""
    format = params["format"]
    documents = {**params, "format": format if format in FORMATS else "auto"}
    return Asked(
        data_options.reading(documents),
        example_options.reading(params),
        params["second"] or (),
        params.get("bare", False),
        params.get("keep_inputs", False),
        params.get("template"),
    )


def inspect(files: Sequence[str], given: Asked, records: int, json: bool) -> None:
    told: list[dict[str, Any]] = []
    paths, options = find_files(files), given.documents
    second = find_files(given.second) if given.second else []
    if second and len(second) != len(paths):
        raise UsageError(f"{len(paths)} files and {len(second)} --second", expected="one of the other for each")
    with Progress("file") as progress:
        for number, path in enumerate(paths):
            if given.of_examples(path):
                beside = second[number] if second else None
                tell = functools.partial(progress.at, number, len(paths))
                told.append(example_reading.inspect(path, beside, given.examples, records, json, tell))
                continue
            report = Report()
            samples: list[Document] = []
            size = 0
            for document in read_documents(path, options, report):
                size += len(document.text.encode("utf-8"))
                if len(samples) < records:
                    samples.append(document)
                progress.at(number, len(paths), f"{report.kept} documents")
            record = _described(report.files[0], size, samples)
            told.append(record)
            if not json:
                _print(record)
    if json:
        output.as_json(told)
    elif len(told) > 1:
        counts = [(sum(each.get(name, 0) for each in told), name) for name in ("documents", "examples")]
        dropped = sum(sum(each["dropped"].values()) for each in told)
        kept = ", ".join(f"{count:,} {name}" for count, name in counts if count) or "nothing"
        output.result(f"\n{len(told)} files, {kept}" + (f", {dropped:,} dropped" if dropped else ""))


def _described(file: FileReport, text_bytes: int, samples: Sequence[Document]) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "bytes": file.size,
        "detected": file.detected,
        "format": file.format,
        "compression": file.compression or None,
        "shape": file.shape or None,
        "documents": file.kept,
        "dropped": dict(file.dropped),
        "characters": file.characters,
        "text_bytes": text_bytes,
        "longest": file.longest,
        "records": [{"place": each.place, "text": each.text, "meta": dict(each.meta)} for each in samples],
    }


def _print(record: dict[str, Any]) -> None:
    output.result(f"{record['file']}: {record['detected']}, {output.size(record['bytes'])}")
    count = record["documents"]
    mean = record["characters"] / count if count else 0
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in sorted(record["dropped"].items()))
    lines = [
        ["documents", f"{count:,}" + (f" (dropped: {dropped})" if dropped else "")],
        ["text", f"{record['characters']:,} characters, {output.size(record['text_bytes'])} in UTF-8"],
        ["length", f"mean {mean:,.0f}, longest {record['longest']:,} characters"],
    ]
    output.result(output.table(lines, indent=2))
    for each in record["records"]:
        output.result(f"\n  {each['place']}\n    {_short(each['text'], SHOWN)}")
        if each["meta"]:
            output.result(f"    meta: {_short(jsons.dumps(each['meta'], ensure_ascii=False), SHOWN_META)}")


def _short(text: str, length: int) -> str:
    cut = text[:length].replace("\n", "↵")
    return output.printable(cut) + (f" … ({len(text):,} characters)" if len(text) > length else "")


def convert(files: Sequence[str], given: Asked, target: str, to: str | None, force: bool, json: bool) -> None:
    path, options = Path(target), given.documents
    if path.exists() and not force:
        raise UsageError(f"{target} is there already", fix="choose another --output, or replace it with --force")
    paths = find_files(files)
    second = find_files(given.second) if given.second else []
    if any(path.exists() and path.samefile(each) for each in [*paths, *second] if each.exists()):
        raise UsageError(f"{target} is one of the files to be read", fix="choose another --output")
    if to in WRITERS or (to in (None, TABLE) and any(given.of_examples(each) for each in paths)):
        if to == TABLE and not path.name.lower().endswith(SUFFIXES[TABLE]):
            raise UsageError(f"--to {to} and an output called {path.name}", fix=f"call it {path.stem}{SUFFIXES[TABLE]}")
        wanted = example_reading.Wanted(
            path, None if to == TABLE else to, given.bare, given.keep_inputs, given.template, json
        )
        example_reading.convert(paths, second or None, given.examples, wanted)
        return
    _check_kind(to)
    kind = to or kind_by_name(path)
    report, left = Report(), [0]
    more = {"separator": options.separator} if options.separator and kind == "txt" else {}
    with Progress("file") as progress:
        count = write_documents(_watched(paths, options, report, left, progress), path, kind, **more)
    dropped = dict(report.dropped)
    if json:
        output.as_json(
            {"output": target, "format": kind, "documents": count, "dropped": dropped, "bytes": path.stat().st_size}
        )
        return
    for file in report.files:
        output.note(f"{file.path}: {file.detected}, {file.kept:,} documents")
    if dropped:
        output.note("dropped: " + ", ".join(f"{number:,} {reason}" for reason, number in sorted(dropped.items())))
    if kind == "txt" and left[0]:
        output.note(f"plain text has no place for meta: that of {left[0]:,} documents was left behind")
    output.result(f"{target}: {count:,} documents, {output.size(path.stat().st_size)}")


def _check_kind(to: str | None) -> None:
    known = [*SUFFIXES, *WRITERS]
    if to is not None and to not in known:
        raise UsageError(f"there is no format {to!r}", expected=", ".join(known), fix=did_you_mean(to, known))


def _watched(
    paths: Iterable[Path], options: Options, report: Report, left: list[int], progress: Progress
) -> Iterator[Document]:
    """The documents, counted as they pass: `left` those with meta."""
    paths = list(paths)
    for document in read_documents(paths, options, report):
        left[0] += bool(document.meta)
        progress.at(len(report.files) - 1, len(paths), f"{report.kept} documents")
        yield document
