"""`paddock classify`: which class texts belong to; where their classes are known, how often that is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.progress import Progress
from paddock.cli.reading import examples_of, is_file, texts_of
from paddock.data.instruct.records import Example, Labelled, Text, kind_of
from paddock.engine.encoders import APPLIES, Label, class_names, several_apply
from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError, UsageError
from paddock.training.scores.classes import class_scores, confusion, label_scores, number_scores

WIDTH = 60  # characters of a text in the table
# Scores that are printed, where they are known.
TOLD = ("accuracy", "micro_f1", "macro_f1", "exact", "majority", "mean_absolute_error", "pearson", "spearman")


class Asked(NamedTuple):
    """One text or two, and the class they are known to have, if they are; place: where they stand."""

    texts: tuple[str, ...]
    label: str | float | tuple[str, ...] | None = None
    place: str = ""


def classify(
    given: Sequence[str], asked: Loading, second: str | None, format: str, top: int, truncate: bool, json: bool
) -> None:
    """One line of each text, and the scores of all of them where a file says their labels."""
    if top < 1:
        raise UsageError(f"--top {top}", expected="at least 1")
    questions = _questions(given, second, format)
    model, _ = load(asked)
    several = several_apply(model.checkpoint.config)
    answers = []
    for question, answer in _answered(model, questions, truncate, told=not json):
        answers.append(answer)
        if json:
            told = {"text": question.texts[0] if len(question.texts) == 1 else list(question.texts)}
            known = {} if question.label is None else {"known": question.label}
            labels = [{"label": each.name, "score": each.score} for each in answer[:top]]
            apply = {"apply": _applying(answer)} if several else {}
            output.as_json({**told, **known, "label": answer[0].name, **apply, "labels": labels})
    if not json:
        _show(questions, answers, top, several)
    _judge(model, questions, answers, json)


def _answered(
    model: LanguageModel, questions: Sequence[Asked], truncate: bool, told: bool
) -> Iterator[tuple[Asked, list[Label]]]:
    """Each text with its classes. told: how far it is, as nothing is printed before the end."""
    with Progress("texts classified") as progress:
        for number, question in enumerate(questions):
            if told:
                progress.at(number, len(questions))
            beside = question.texts[1] if len(question.texts) > 1 else None
            yield question, model.classify(question.texts[0], beside, truncate)


def _questions(given: Sequence[str], second: str | None, format: str) -> list[Asked]:
    if second is None:
        return [_question(example) for example in examples_of(given, format)]
    if is_file(given):
        raise UsageError("--pair goes with one text, not with a file", fix="give both texts in each record")
    texts = texts_of(given)
    if len(texts) != 1:
        raise UsageError(f"--pair and {len(texts)} texts", expected="one text to go with it")
    return [Asked((texts[0], second))]


def _question(example: Example) -> Asked:
    match example:
        case Labelled(texts, label, origin):
            return Asked(texts, label, origin.place)
        case Text(text, origin):
            return Asked((text,), None, origin.place)
    raise DataError(
        f"{example.origin.place}: a {kind_of(example)}",
        expected="a text, or one or two texts with a label",
    )


def _applying(labels: Sequence[Label]) -> list[str]:
    return [label.name for label in labels if label.score >= APPLIES]


def _show(questions: Sequence[Asked], answers: Sequence[Sequence[Label]], top: int, several: bool) -> None:
    """The likeliest class of each text, or all that apply, and then what else `top` asks for."""
    rows = []
    for question, labels in zip(questions, answers, strict=True):
        said = [f"{label.name} {label.score:.4f}" for label in labels]
        apply = len(_applying(labels)) if several else 1
        first, others = ", ".join(said[:apply]) or "none", said[apply:top]
        text = " | ".join(" ".join(each.split()) for each in question.texts)
        rows.append(
            [first, *([" ".join(others)] if top > 1 else []), text if len(text) <= WIDTH else text[:WIDTH] + "…"]
        )
    output.result(output.table(rows, ("label", *(["then"] if top > 1 else []), "text")))


def _judge(model: LanguageModel, questions: Sequence[Asked], answers: Sequence[Sequence[Label]], json: bool) -> None:
    """How right the answers are, where labels are known."""
    known = [(q, a) for q, a in zip(questions, answers, strict=True) if q.label is not None]
    if not known:
        return
    if model.checkpoint.config.get("problem_type") == "regression":
        told = np.array([labels[0].score for _, labels in known])
        scores = asdict(number_scores(np.array([_number(question) for question, _ in known]), told))
    else:
        names = class_names(model.checkpoint.config) or sorted(label.name for label in known[0][1])
        if several_apply(model.checkpoint.config):
            truth = _table([_known_of(question, names) for question, _ in known], names)
            named = _table([_applying(labels) for _, labels in known], names)
            _tell({"labels": names, **asdict(label_scores(truth, named))}, len(known), json)
            return
        truth = _places([question for question, _ in known], names)
        said = np.array([names.index(labels[0].name) for _, labels in known])
        scores = {"labels": names, **asdict(class_scores(confusion(truth, said, len(names))))}
    _tell(scores, len(known), json)


def _tell(scores: Mapping[str, Any], texts: int, json: bool) -> None:
    if json:
        output.as_json({"texts": texts, **scores})
        return
    for name in TOLD:
        if scores.get(name) is not None:
            output.result(f"{name.replace('_', ' ')}: {scores[name]:.4f}")


def _known_of(question: Asked, names: Sequence[str]) -> tuple[str, ...]:
    """The classes that are known to apply. Raises DataError for one that the model does not have."""
    labels = question.label if isinstance(question.label, tuple) else (_spelt(question),)
    if strange := [label for label in labels if label not in names]:
        raise _unknown(question, strange[0], names)
    return labels


def _table(chosen: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """(texts, classes) whether each applies."""
    return np.array([[name in some for name in names] for some in chosen])


def _spelt(question: Asked) -> str:
    """The one class that is known. Raises DataError for several."""
    if isinstance(question.label, tuple):
        raise DataError(f"{question.place}: {len(question.label)} labels", expected="one: the model tells one class")
    return question.label if isinstance(question.label, str) else f"{question.label:g}"


def _unknown(question: Asked, label: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"{question.place}: the label {label[:40]!r} is none of the model's",
        expected=", ".join(names[:20]),
        fix="spell labels as the model's id2label does",
    )


def _places(questions: Sequence[Asked], names: Sequence[str]) -> np.ndarray:
    """(questions,) the classes' ids. Labels are names; where none of them is one, they may be ids."""
    labels = [_spelt(question) for question in questions]
    ids = [str(number) for number in range(len(names))]
    if not set(labels) & set(names) and set(labels) <= set(ids):
        output.note(
            "labels are read as ids: " + ", ".join(f"{id} is {name}" for id, name in zip(ids, names, strict=True))
        )
        return np.array([int(label) for label in labels])
    for question, label in zip(questions, labels, strict=True):
        if label not in names:
            raise _unknown(question, label, names)
    return np.array([names.index(label) for label in labels])


def _number(question: Asked) -> float:
    try:
        return float(_spelt(question))
    except ValueError:
        raise DataError(f"{question.place}: the label is {str(question.label)[:40]!r}", expected="a number") from None
