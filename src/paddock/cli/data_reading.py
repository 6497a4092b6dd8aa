"""What `paddock data inspect` and `paddock data convert` do."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.document import Document
from paddock.data.reading import FileReport, Options, Report, read_documents
from paddock.data.reading.opening import find_files
from paddock.data.writing import kind_by_name, write_documents
from paddock.errors import UsageError

SHOWN, SHOWN_META = 300, 200  # characters of a record


def inspect(files: Sequence[str], options: Options, records: int, json: bool) -> None:
    told = []
    paths = find_files(files)
    with Progress("file") as progress:
        for number, path in enumerate(paths):
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
        kept, dropped = sum(each["documents"] for each in told), sum(sum(each["dropped"].values()) for each in told)
        output.result(f"\n{len(told)} files, {kept:,} documents" + (f", {dropped:,} dropped" if dropped else ""))


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


def convert(files: Sequence[str], options: Options, target: str, to: str | None, force: bool, json: bool) -> None:
    path = Path(target)
    kind = to or kind_by_name(path)
    if path.exists() and not force:
        raise UsageError(f"{target} is there already", fix="choose another --output, or replace it with --force")
    paths = find_files(files)
    if any(path.exists() and path.samefile(each) for each in paths if each.exists()):
        raise UsageError(f"{target} is one of the files to be read", fix="choose another --output")
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


def _watched(
    paths: Iterable[Path], options: Options, report: Report, left: list[int], progress: Progress
) -> Iterator[Document]:
    """The documents, counted as they pass: `left` those with meta."""
    paths = list(paths)
    for document in read_documents(paths, options, report):
        left[0] += bool(document.meta)
        progress.at(len(report.files) - 1, len(paths), f"{report.kept} documents")
        yield document
