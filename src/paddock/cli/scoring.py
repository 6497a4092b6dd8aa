"""What `paddock eval texts` does: files of generated texts beside files of references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddock.cli import output
from paddock.errors import UsageError, did_you_mean
from paddock.evaluate.generation import TextScores, score_files
from paddock.training.scores.texts import TOKENIZATIONS

NAMES = {"outputs": "outputs", "copy": "the source copied", "lead": "the source's first sentence"}


def texts(outputs: str, references: Sequence[str], tokenization: str, source: str | None, as_json: bool) -> None:
    known = ("auto", *TOKENIZATIONS)
    if tokenization not in known:
        raise UsageError(
            f"--tokenization {tokenization}", expected=" or ".join(known), fix=did_you_mean(tokenization, known)
        )
    chosen = None if tokenization == "auto" else tokenization
    found = score_files(
        Path(outputs),
        [Path(path) for path in references],
        chosen,  # type: ignore[arg-type]
        None if source is None else Path(source),
    )
    if as_json:
        output.as_json({name: scores.record() for name, scores in found.items()})
        return
    columns = ["", "BLEU", "chrF", "ROUGE-1", "ROUGE-2", "ROUGE-L", "brevity", "texts", "empty"]
    output.result(output.table([_row(NAMES[name], scores) for name, scores in found.items()], columns))
    output.note(f"BLEU's words: {found['outputs'].tokenization}")


def _row(name: str, scores: TextScores) -> list[str]:
    rouge = scores.rouge
    values = (scores.bleu.score, scores.chrf, rouge.rouge1, rouge.rouge2, rouge.rouge_l)
    shown = [f"{value:.2f}" for value in values]
    return [name, *shown, f"{scores.bleu.brevity:.3f}", f"{scores.outputs:,}", f"{scores.empty:,}"]
