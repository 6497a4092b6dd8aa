"""What `paddock batches` and `paddock study` do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.reading import documents
from paddock.errors import UsageError
from paddock.pretrain import pictures, studies
from paddock.pretrain.memorization import dispersion, scores
from paddock.pretrain.stage import Prepared, reopen
from paddock.pretrain.term_frequency import Question, answered, by_count, counts, question
from paddock.training.run import RunFolder


def show_batch(run: str, step: int, rows: int, as_json: bool) -> None:
    prepared = reopen(Path(run))
    if step < 0:
        raise UsageError(f"--step {step}", expected="0 or more")
    if step >= prepared.recipe.training.steps:
        output.note(f"the run ends at step {prepared.recipe.training.steps}: this batch would come after it")
    batch = prepared.train.at(step)
    assert batch.samples is not None
    shown = [
        {"place": place, "text": prepared.tokenizer.decode(ids, skip_special=False)}
        for place, ids in zip(batch.samples.tolist(), batch.ids.tolist(), strict=True)
    ][: rows or None]
    record = {"step": step, "rows": batch.rows, "targets": batch.supervised, "digest": batch.digest(), "shown": shown}
    if as_json:
        output.as_json(record)
        return
    output.result(f"batch {step}: {batch.rows} rows, {batch.supervised} targets, {record['digest']}")
    for row in shown:
        output.result(f"{row['place']:>8}  {output.printable(str(row['text']))!r}")


def memorization(
    run: str,
    k: int,
    following: int,
    count: int,
    foretells: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    picture = pictures.check(Path(plot)) if plot else None
    folder, prepared, sequences = _asked(run, k, following, count)
    target = RunFolder(foretells) if foretells else folder
    with Progress("checkpoint") as progress:
        later = scores(studies.final(target), sequences, k)
        rows = studies.memorised(folder, later, sequences, k, prepared.recipe.training.batch, progress.at)
    if picture:
        pictures.memorised(rows, picture)
    if as_json:
        output.as_json(
            {"k": k, "l": following, "foretold": str(target.path), "memorised": int((later == 1).sum()), "steps": rows}
        )
        return
    table = [
        [
            str(row.step),
            f"{row.seen}/{row.sequences}",
            str(row.agreement.memorised),
            f"{row.mean_score:.3f}",
            *(_share(part) for part in (row.agreement.precision, row.agreement.recall)),
            _share(row.agreement.false_positive_rate),
        ]
        for row in rows
    ]
    header = ("step", "sequences seen", "memorised", "mean score", "precision", "recall", "false positives")
    output.result(output.table(table, header, right=range(7)))
    known = int((later == 1).sum())
    output.result(f"{target.path}/final memorised {known} of {len(sequences)} (k = {k}, l = {following})")


def order(run: str, k: int, following: int, count: int, windows: int, plot: str | None, as_json: bool) -> None:
    picture = pictures.check(Path(plot)) if plot else None
    folder, _, sequences = _asked(run, k, following, count)
    if not 2 <= windows <= len(sequences):
        raise UsageError(f"--windows {windows}", expected=f"from 2 to {len(sequences)}, the number of sequences")
    with Progress("sequence") as progress:
        found = dispersion(scores(studies.final(folder), sequences, k, progress.at) == 1.0, windows)
    if picture:
        pictures.order(found, picture)
    if as_json:
        output.as_json(found)
        return
    output.result(f"memorised per window: {' '.join(map(str, found.counts))}")
    if found.ratio is None or found.p is None:
        output.result("nothing is memorised: there is no order to speak of")
        return
    verdict = "chance would lie like this" if found.p > 0.05 else "not as chance would lie"
    output.result(f"variance over mean {found.ratio:.2f} (Poisson: 1), p {found.p:.3g}: {verdict}")


def terms(run: str, questions: str, plot: str | None, as_json: bool) -> None:
    picture = pictures.check(Path(plot)) if plot else None
    folder = RunFolder(run)
    asked = _questions(questions)
    prepared = reopen(folder.path)
    texts = (text for source in prepared.documents() for text in source.training_texts(prepared.tokenizer))
    found = counts(asked, texts)
    right = answered(studies.final(folder), prepared.tokenizer, asked)
    rows, correlation = by_count(found, right)
    if picture:
        pictures.terms(rows, picture)
    if as_json:
        output.as_json({"questions": len(asked), "right": sum(right), "spearman": correlation, "bins": rows})
        return
    lines = [[f"{row.low}-{row.high}", str(row.questions), f"{row.right / row.questions:.3f}"] for row in rows]
    output.result(output.table(lines, ("documents with the terms", "questions", "answered"), right=(0, 1, 2)))
    said = "no correlation to speak of" if correlation is None else f"Spearman's correlation {correlation:.3f}"
    output.result(f"{sum(right)} of {len(asked)} answered; {said}")


def _questions(path: str) -> list[Question]:
    found = [
        question({**document.meta, "prompt": document.text}, document.place)
        for document in documents(path, text_field="prompt")
    ]
    if not found:
        raise UsageError(f"{path} holds no questions")
    return found


def _asked(run: str, k: int, following: int, count: int) -> tuple[RunFolder, Prepared, np.ndarray]:
    if k < 1 or following < 1 or count < 1:
        raise UsageError(f"--k {k} --l {following} --sequences {count}", expected="numbers from 1 on")
    prepared = reopen(Path(run))
    return RunFolder(run), prepared, studies.read_in_order(prepared, count, k + following)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
