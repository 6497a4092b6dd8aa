"""`paddock eval`: questions by length, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.progress import Progress
from paddock.engine.language_model import LanguageModel
from paddock.errors import UsageError
from paddock.evaluate import length_plot
from paddock.evaluate.lengths import PLACES, Cell, Test, ask, by_length
from paddock.evaluate.lengths import beyond as reaching_beyond
from paddock.evaluate.lines import Lines
from paddock.evaluate.numeric_qa import NumericQA, read


@dataclass(frozen=True)
class Asked:
    """What a user asked `eval` for. lengths: as written, None for the usual."""

    loading: Loading
    lengths: str | None
    questions: int
    seed: int
    chat: bool
    beyond: bool
    plot: str | None
    json: bool


def lines(asked: Asked, digits: int) -> None:
    _run(asked, Lines(digits), "lines")


def numeric_qa(asked: Asked, data: str | None) -> None:
    _run(asked, NumericQA(None if data is None else read(Path(data).expanduser())), "numeric-qa")


def _run(asked: Asked, test: Test, name: str) -> None:
    picture = None if asked.plot is None else length_plot.check(Path(asked.plot).expanduser())
    lengths = None if asked.lengths is None else _numbers(asked.lengths)
    if asked.seed < 0:
        raise UsageError(f"--seed {asked.seed}", expected="a whole number from 0")
    model, _ = load(asked.loading)
    context = model.architecture.context
    lengths = _usual(context) if lengths is None else lengths
    if asked.beyond:
        model = reaching_beyond(model, max(lengths))
    with Progress("questions") as progress:
        cells = ask(
            model,
            test,
            lengths,
            asked.questions,
            asked.seed,
            chat=asked.chat,
            progress=lambda done, total, at: progress.at(done, total, at),
        )
    told = model.checkpoint.path.name
    if picture is not None:
        length_plot.draw({told: cells}, picture, f"{name}: {told}", context if asked.beyond else None)
        output.note(f"wrote {picture}")
    if asked.json:
        output.as_json(_record(model, name, asked, context, cells))
    else:
        output.result(_table(cells))


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--lengths {text[:60]}", expected="whole numbers, for example 512,1024,2048") from None


def _usual(context: int | None) -> list[int]:
    """An eighth of the context, a quarter, half and all of it."""
    whole = context or 2048
    return [max(16, whole // part) for part in (8, 4, 2, 1)]


def _table(cells: Sequence[Cell]) -> str:
    rows = []
    for length, row in by_length(cells):
        shares = [f"{cell.accuracy:.0%}" for cell in row]
        asked, right = sum(cell.asked for cell in row), sum(cell.right for cell in row)
        tokens = sum(cell.tokens for cell in row) / len(row)
        known = [str(sum(cell.recalled or 0 for cell in row))] if row[0].recalled is not None else []
        rows.append([f"{length:,}", f"{tokens:,.0f}", *shares, f"{right / asked:.1%}", f"{asked}", *known])
    last = ("recalled",) if cells[0].recalled is not None else ()
    header = ("length", "prompt", *PLACES, "right", "asked", *last)
    return output.table(rows, header, right=tuple(range(len(header))))


def _record(
    model: LanguageModel, name: str, asked: Asked, context: int | None, cells: Sequence[Cell]
) -> dict[str, Any]:
    return {
        "model": str(model.checkpoint.path),
        "test": name,
        "context": context,
        "seed": asked.seed,
        "chat": asked.chat,
        "beyond": asked.beyond,
        "cells": [output.plain(cell) | {"accuracy": cell.accuracy, "stderr": cell.stderr} for cell in cells],
    }
