"""What `paddock data mix` does with examples, and `paddock data overlap`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from paddock.cli import output
from paddock.cli.data_options import weighted
from paddock.data.instruct.combining import combine
from paddock.data.instruct.overlap import Protected
from paddock.data.instruct.reading import examples
from paddock.data.instruct.writing import write_examples
from paddock.errors import UsageError

SHOWN = 10  # examples that are named


@dataclass(frozen=True)
class Asked:
    """What a user asked `data mix` for."""

    sources: Sequence[str]
    output: str
    count: int | None
    against: Sequence[str]
    run: int
    seed: int
    force: bool
    json: bool


def mix(asked: Asked) -> None:
    named = dict(weighted(source, "FILE") for source in asked.sources)
    if len(named) < len(asked.sources):
        raise UsageError("a source is named twice", fix="give each one weight")
    if os.path.lexists(asked.output) and not asked.force:
        raise UsageError(f"{asked.output} is there already", fix="--force replaces it")
    read = {Path(name).stem: list(examples([name])) for name in named}
    if len(read) < len(named):
        raise UsageError("two sources have the same name", fix="rename one: examples say which file they are from")
    weights = {Path(name).stem: weight for name, weight in named.items()}
    kept = Protected(examples(list(asked.against)), asked.run) if asked.against else None
    made = combine(read, weights, total=asked.count, seed=asked.seed, protected=kept)
    written = write_examples(made.examples, asked.output)
    rows = [
        {"source": name, "weight": weights[name], "there": len(read[name]), "taken": made.counts[name], **left}
        for name, left in made.left_out.items()
    ]
    if asked.json:
        output.as_json({"output": asked.output, "examples": len(made.examples), "sources": rows})
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    output.result(output.table([[str(row.get(column, "")) for column in columns] for row in rows], columns))
    output.result(f"{asked.output}: {written.told}")


def overlap(files: Sequence[str], against: Sequence[str], run: int, json: bool) -> None:
    """Exits 1 where any example shares a run."""
    protected = Protected(examples(list(against)), run)
    every = list(examples(list(files)))
    found, count = list(protected.overlaps(every)), len(every)
    if json:
        output.as_json(
            {
                "examples": count,
                "run": run,
                "overlaps": [{"place": each.place, "shared": each.shared, "runs": each.runs} for each in found],
            }
        )
    else:
        for each in found[:SHOWN]:
            output.result(f"{each.place}: {each.shared} of {each.runs} runs of {run} words")
        if len(found) > SHOWN:
            output.result(f"... and {len(found) - SHOWN:,} more (all with --json)")
        output.result(f"{len(found):,} of {count:,} examples share a run of {run} words with what is measured on")
    if found:
        raise typer.Exit(1)
