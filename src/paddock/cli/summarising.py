"""`paddock summarise`: the sentences that stand for a text; where a summary is known, how near they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.reading import examples_of
from paddock.data.instruct.records import Example, Pair, Text, kind_of
from paddock.engine.extracting import Picked, extract
from paddock.errors import DataError
from paddock.training.scores.texts import first_sentence, rouge


class Asked(NamedTuple):
    """A text, and the summaries it is known to have, if any."""

    text: str
    references: tuple[str, ...] = ()


def summarise(given: Sequence[str], asked: Loading, sentences: int, format: str, json: bool) -> None:
    """The picked sentences of each text, a line each, and the scores of all where a file says their summaries."""
    questions = [_question(example) for example in examples_of(given, format)]
    model, _ = load(asked)
    told: list[str] = []
    for question in questions:
        picked = extract(model, question.text, sentences)
        told.append(" ".join(each.text for each in picked))
        _show(question, told[-1], picked, json)
    _judge(questions, told, json)


def _question(example: Example) -> Asked:
    match example:
        case Text(text):
            return Asked(text)
        case Pair(source, target, origin):
            others = origin.meta.get("references") or ()
            return Asked(source, (target, *(text for text in others if isinstance(text, str))))
    raise DataError(f"{example.origin.place}: a {kind_of(example)}", expected="a text, or a text with its summary")


def _show(question: Asked, told: str, picked: Sequence[Picked], json: bool) -> None:
    if json:
        sentences = [{"text": each.text, "place": each.place, "score": each.score} for each in picked]
        output.as_json({"text": question.text, "summary": told, "sentences": sentences})
    else:
        output.result(" ".join(told.split()))


def _judge(questions: Sequence[Asked], told: Sequence[str], json: bool) -> None:
    """ROUGE beside that of first sentences, where summaries are known."""
    known = [(question, said) for question, said in zip(questions, told, strict=True) if question.references]
    if not known:
        return
    meant = [question.references for question, _ in known]
    found = asdict(rouge([said for _, said in known], meant))
    first = asdict(rouge([first_sentence(question.text) for question, _ in known], meant))
    if json:
        output.as_json({"texts": len(known), **found, "first_sentences": first})
        return
    names = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rouge_l": "ROUGE-L"}
    output.note(
        f"{len(known):,} texts: "
        + ", ".join(f"{label} {found[name]:.2f} (first sentences {first[name]:.2f})" for name, label in names.items())
    )
