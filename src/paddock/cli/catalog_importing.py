"""What `paddock catalog import` does."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from paddock.catalog.catalogue import SHIPPED, Catalogue, assemble
from paddock.catalog.importing import files
from paddock.catalog.importing.merging import Report, merge
from paddock.catalog.toml_text import dumps
from paddock.checkpoint.writing import atomic_write
from paddock.cli import output
from paddock.engine.locate import home
from paddock.errors import DataError, UsageError

SOME = 5  # of what is told without --report


def import_(
    lists: Sequence[str], target: str | None, everything: bool, break_circles: bool, force: bool, json: bool
) -> None:
    goal = Path(target).expanduser() if target else home() / "catalogue" / "imported.toml"
    if goal.suffix != ".toml":
        raise UsageError(f"{goal} is no .toml file", fix="-o lists.toml")
    if goal.exists() and not force:
        raise UsageError(f"{goal} is there already", fix="give another name with -o, or --force")
    own = home() / "catalogue"
    others = [path for path in sorted(own.glob("*.toml")) if path.resolve() != goal.resolve()] if own.is_dir() else []
    beside = [*sorted(SHIPPED.glob("*.toml")), *others]
    with output.waiting("reading lists"):
        read = files.read(files.gather([Path(name).expanduser() for name in lists]))
        known = assemble(beside)
        document, report = merge(read, known, datetime.date.today().isoformat(), break_circles)
    if report.new:
        with atomic_write(goal) as part:
            part.write_text(dumps(document), encoding="utf-8")
            _check(part, goal, beside)
    if json:
        output.as_json({"file": str(goal) if report.new else None, "report": report})
        return
    for line in _told(report, known, everything):
        output.result(line)
    output.result(str(goal) if report.new else "nothing new; nothing was written")


def _check(part: Path, goal: Path, beside: Sequence[Path]) -> None:
    """What the catalogue could not read is not written."""
    try:
        assemble([*beside, part])
    except DataError as error:
        what = error.what.replace(str(part), str(goal))
        raise DataError(f"{what}; nothing was written", expected=error.expected, fix=error.fix) from None


def _told(report: Report, known: Catalogue, everything: bool) -> Iterator[str]:
    kinds = ", ".join(f"{count} {kind}s" for kind, count in report.counts.items())
    listed = sum(report.counts.values())
    yield f"{report.files} files list {listed} assets: {kinds or 'none'}"
    yield f"{report.new} are new, with {report.edges} edges; {listed - report.new} were left out"
    yield from _part(
        "in the catalogue already", [f"{n} is {known.assets[i].id}" for n, i in report.known.items()], everything
    )
    yield from _part("listed twice", report.twice, everything)
    circles = [" is made of ".join(circle) for circle in report.circles]
    yield from _part("circles, their last step left out", circles, True)
    unknown = [f"{name}, of which {', '.join(by)} is made" for name, by in sorted(report.unknown.items())]
    yield from _part("names that nothing has", unknown, everything)
    yield from _part("names with several meanings", report.several, everything)
    yield from _part("made of a program, which the schema has no field for", report.programs, everything)
    yield from _part("differences from the catalogue", report.differences, everything)
    yield from _part("not understood", report.remarks, everything)


def _part(title: str, lines: Sequence[str], everything: bool) -> Iterator[str]:
    if not lines:
        return
    yield f"{title}: {len(lines)}"
    shown = lines if everything else lines[:SOME]
    yield from (f"  {line}" for line in shown)
    if len(lines) > len(shown):
        yield f"  and {len(lines) - len(shown)} more: --report"
