"""Summaries made of a text's own sentences: a model fine-tuned to tell how much of the text each one says picks them.

It reads a sentence and where in the text it stands, as a pair of texts, and gives one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paddock.engine.encoders import class_names
from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError, UnsupportedError, UsageError
from paddock.training.scores.texts import LONGEST, sentences

SCORE = "says it in a sentence"  # what config.json calls the number: how a model that picks sentences is known
MOST = 1000  # sentences of a text


class Picked(NamedTuple):
    """A sentence of a text: which one it is, counted from 0, and how much of the text it says beside its average."""

    text: str
    place: int
    score: float


def split(text: str, place: str = "the text") -> list[str]:
    """Its sentences. Raises DataError for a text without any, and for one that is too long to read one by one."""
    if len(text) > LONGEST:
        raise DataError(
            f"{place} has {len(text):,} characters", expected=f"at most {LONGEST:,}", fix="give parts of it"
        )
    found = sentences(text)
    if not 1 <= len(found) <= MOST:
        raise DataError(f"{place} has {len(found):,} sentences", expected=f"from 1 to {MOST:,}", fix="give parts of it")
    return found


def views(found: Sequence[str]) -> list[tuple[str, str]]:
    """Each sentence, and what is read beside it: its place among how many.

    Any model that reads pairs can read them: nothing but words is added to its vocabulary.
    """
    return [(sentence, f"{at} / {len(found)}") for at, sentence in enumerate(found, 1)]


def picks_sentences(model: LanguageModel) -> bool:
    """Whether the model was fine-tuned for this (task: extract)."""
    return class_names(model.checkpoint.config) == [SCORE]


def extract(model: LanguageModel, text: str, count: int = 1) -> list[Picked]:
    """The `count` sentences that say most of the text, in the text's order; all where it has no more.

    A sentence that is too long for the model is read as far as it goes.
    Raises UnsupportedError for a model that was not fine-tuned for this, and what `split` raises.
    """
    if count < 1:
        raise UsageError(f"{count} sentences", expected="at least 1")
    if not picks_sentences(model):
        raise UnsupportedError(
            "this model was not fine-tuned to pick sentences",
            expected="one that `paddock finetune` made with task: extract",
            fix="a model that writes summaries is asked with `paddock generate`",
        )
    scored = [
        Picked(sentence, place, model.classify(sentence, beside, truncate=True)[0].score)
        for place, (sentence, beside) in enumerate(views(split(text)))
    ]
    best = sorted(scored, key=lambda each: -each.score)[:count]
    return sorted(best, key=lambda each: each.place)
