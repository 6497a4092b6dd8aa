"""What `paddock tokenizer train` and `extend` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.reading import Options, Report, read_documents
from paddock.errors import UsageError
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train as learn


def train(files: Sequence[str], options: Options, plan: Plan, target: str, force: bool, json: bool) -> None:
    refuse_taken(target, force)
    report = Report()
    with Progress("learning") as progress:
        tokenizer = learn(texts(files, options, report), plan, lambda _, done, total: progress.at(done, total))
    paths = tokenizer.save(target)
    if json:
        output.as_json(
            {
                "output": target,
                "kind": tokenizer.kind,
                "size": len(tokenizer),
                "asked": plan.size,
                "specials": tokenizer.specials,
                "documents": report.kept,
                "dropped": report.dropped,
                "files": [path.name for path in paths],
            }
        )
        return
    told_files(report)
    if len(tokenizer) < plan.size:
        output.note(f"{plan.size:,} pieces were asked for; no more pairs occur {plan.least} times in these texts")
    controls = ", ".join(f"{name} {id}" for name, id in tokenizer.specials.items())
    output.result(f"{target}: {tokenizer.kind}, {len(tokenizer):,} pieces ({controls})")


def texts(files: Sequence[str], options: Options, report: Report) -> Iterator[str]:
    return (document.text for document in read_documents(files, options, report))


def told_files(report: Report) -> None:
    for file in report.files:
        output.note(f"{file.path}: {file.detected}, {file.kept:,} documents, {file.characters:,} characters")
    if dropped := report.dropped:
        output.note("dropped: " + ", ".join(f"{number:,} {reason}" for reason, number in sorted(dropped.items())))


def refuse_taken(target: str, force: bool) -> None:
    """Nothing is written into a folder that holds something, unless that is asked for."""
    path = Path(target)
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not force):
        raise UsageError(f"{target} is there already", fix="choose another --output, or write into it with --force")
