"""What `paddock data inspect` and `paddock data convert` do with examples."""

from __future__ import annotations

import json as jsons
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.instruct.formats import FORMATS
from paddock.data.instruct.options import FileReport, Options, Report, listed
from paddock.data.instruct.reading import read_examples
from paddock.data.instruct.records import Conversation, Example, kind_of
from paddock.data.instruct.summary import Lengths, Summary, texts_of
from paddock.data.instruct.writing import write_examples
from paddock.data.reading.options import FORMAT_NAMES
from paddock.errors import UsageError

SHOWN, SHOWN_META = 200, 200  # characters of a text, of meta
FEW = 12  # languages, classes that are named
CONTAINERS = {**FORMAT_NAMES, "text": "text", "empty": "empty"}


def inspect(
    path: Path, second: Path | None, options: Options, records: int, json: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """What a file of examples holds; printed unless as JSON."""
    report, summary = Report(), Summary()
    samples: list[Example] = []
    for number, example in enumerate(read_examples(path, options, report, second), 1):
        summary.add(example)
        tell(f"{number:,} examples")
        if len(samples) < records:
            samples.append(example)
    told = _described(report.files[0], summary, samples)
    if not json:
        _print(told, summary, samples)
    return told


def _described(file: FileReport, summary: Summary, samples: Sequence[Example]) -> dict[str, Any]:
    form = FORMATS.get(file.format or "")
    return {
        "file": str(file.path),
        "bytes": file.size,
        "container": file.container,
        "compression": file.compression or None,
        "format": file.format,
        "title": form.title if form else None,
        "records_read": file.records,
        "examples": sum(file.kept.values()),
        "kept": dict(file.kept),
        "dropped": dict(file.dropped),
        "mended": dict(file.mended),
        **summary.plain,
        "records": [_record(each) for each in samples],
    }


def _record(example: Example) -> dict[str, Any]:
    origin = example.origin
    return {
        "place": origin.place,
        "id": origin.id,
        "source": origin.source,
        "language": origin.language,
        "licence": origin.licence,
        "kind": kind_of(example),
        "texts": [[name, said] for name, said in texts_of(example)],
        "meta": dict(origin.meta),
    }


def _print(told: dict[str, Any], summary: Summary, samples: Sequence[Example]) -> None:
    named = told["title"] or "mixed formats"
    parts = [CONTAINERS.get(told["container"], told["container"]), told["compression"], named]
    output.result(f"{told['file']}: {', '.join(filter(None, parts))}, {output.size(told['bytes'])}")
    lines = [["format", told["format"] or ", ".join(told["kept"]) or "none"]]
    lines.append(["examples", f"{told['examples']:,} of {told['records_read']:,} records ({listed(told['kinds'])})"])
    lines += [[name, listed(told[name])] for name in ("dropped", "mended") if told[name]]
    if summary.turns.count:
        lines.append(["turns", _lengths(summary.turns, "")])
    lines += [[name, _lengths(lengths, " characters")] for name, lengths in summary.texts.items()]
    named_counts = {"classes": summary.labels, "languages": summary.languages, "licences": summary.licences}
    for name, counts in named_counts.items():
        if counts:
            some = ", ".join(f"{each} ({count:,})" for each, count in counts.most_common(FEW))
            lines.append([name, some + (f" and {len(counts) - FEW} more" if len(counts) > FEW else "")])
    if summary.tools:
        lines.append(["tools", f"{summary.tools:,} examples"])
    output.result(output.table(lines, indent=2))
    for example in samples:
        output.result(f"\n  {example.origin.place}")
        for name, said in texts_of(example):
            output.result(f"    {name}: {_short(said, SHOWN)}")
        if example.origin.meta:
            output.result(f"    meta: {_short(jsons.dumps(dict(example.origin.meta), ensure_ascii=False), SHOWN_META)}")


def _lengths(lengths: Lengths, unit: str) -> str:
    mean = lengths.total / max(1, lengths.count)
    counted = f"{lengths.count:,}: " if unit else ""
    return f"{counted}mean {mean:,.1f}, longest {lengths.longest:,}{unit}"


def _short(text: str, length: int) -> str:
    cut = output.printable(text[:length].replace("\n", "↵"))
    return cut + (f" … ({len(text):,} characters)" if len(text) > length else "")


@dataclass(frozen=True)
class Wanted:
    """What is to be written."""

    path: Path
    to: str | None
    bare: bool
    keep_inputs: bool
    template: str | None
    json: bool


def convert(paths: Sequence[Path], second: Sequence[Path] | None, options: Options, wanted: Wanted) -> None:
    report = Report()
    render = _renderer(wanted)
    with Progress("file") as progress:

        def watched() -> Iterator[Example]:
            for example in read_examples(paths, options, report, second):
                progress.at(len(report.files) - 1, len(paths), f"{sum(report.files[-1].kept.values()):,} examples")
                yield example

        written = write_examples(
            watched(),
            wanted.path,
            wanted.to,
            on_error=options.on_error,
            bare=wanted.bare,
            keep_inputs=wanted.keep_inputs,
            render=render,
        )
    size = wanted.path.stat().st_size
    if wanted.json:
        output.as_json(
            {
                "output": str(wanted.path),
                "format": written.format,
                "examples": written.examples,
                "records": written.records,
                "kept": dict(report.kept),
                "dropped": dict(report.dropped),
                "mended": dict(report.mended),
                "lost": dict(written.lost),
                "left_out": dict(written.left_out),
                "bytes": size,
            }
        )
        return
    for file in report.files:
        output.note(f"{file.path}: {listed(file.kept) or 'none'}")
    for name, counts in (("dropped", report.dropped), ("mended", report.mended)):
        if counts:
            output.note(f"{name}: {listed(counts)}")
    output.result(f"{wanted.path}: {written.told}, {output.size(size)}")


def _renderer(wanted: Wanted) -> Callable[[Conversation], str] | None:
    """How a conversation becomes a text, where the user named a template."""
    if wanted.template is None:
        return None
    if wanted.to != "text":
        raise UsageError("--template is for --to text", fix="say --to text, or leave the template out")
    from paddock.tokenizer.template_registry import find_template

    template = find_template(template=wanted.template)
    assert template is not None  # one that was named is found or refused

    def render(example: Conversation) -> str:
        messages = [message.plain() for message in example.messages]
        tools = [dict(tool) for tool in example.tools] or None
        return template.render(messages, add_generation_prompt=False, tools=tools)

    return render
