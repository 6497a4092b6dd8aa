"""How good a model's texts are: held-out prompts answered while it is trained, and scored beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddock.data.samples import Prepare, Table
from paddock.data.stream import BatchStream
from paddock.finetune.generating import Answering, answers
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training import validation
from paddock.training.loop import Trainer
from paddock.training.scores import texts

Scores = dict[str, float]
Scorer = Callable[[Sequence[str], texts.References], Scores]


@dataclass(frozen=True)
class Question:
    """A held-out example: what is asked, in ids and in words, and what may be answered."""

    prompt: tuple[int, ...]
    source: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """Measures on what was kept back: the token loss of all of it, and the texts written for some of it.

    The record has the loss as `training.validation` gives it, the scores by name, `baseline` (the same scores of what
    needs no model), `answered` (how many were written), `ended` (the share that came to an end by itself), and `texts`:
    a few as source, reference and output.
    """

    table: Table
    prepare: Prepare
    tokenizer: Tokenizer
    questions: Sequence[Question]
    how: Answering
    score: Scorer
    baseline: Mapping[str, float]
    lengths: np.ndarray
    shown: int

    def __call__(self, trainer: Trainer) -> dict[str, Any]:
        stream = BatchStream(self.table, self.prepare, trainer.recipe.batch, trainer.recipe.seed, shuffle=False)
        record = asdict(validation.measure(trainer, stream, self.lengths))
        if not self.questions:
            return record
        written = answers(trainer.model, [question.prompt for question in self.questions], self.how)
        outputs = [self.tokenizer.decode(answer.ids).strip() for answer in written]
        pairs = list(zip(self.questions, outputs, strict=True))
        return {
            **record,
            **self.score(outputs, [question.references for question in self.questions]),
            "baseline": dict(self.baseline),
            "answered": len(outputs),
            "ended": sum(answer.ended for answer in written) / len(written),
            "texts": [
                {"source": question.source, "reference": question.references[0], "output": output}
                for question, output in pairs[: self.shown]
            ],
        }


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return list(range(count)) if count <= most else [at * count // most for at in range(most)]


def translation_scores(tokenization: texts.Tokenization) -> Scorer:
    """BLEU and chrF."""
    return lambda outputs, references: {
        "bleu": texts.bleu(outputs, references, tokenization).score,
        "chrf": texts.chrf(outputs, references),
    }


def summary_scores(outputs: Sequence[str], references: texts.References) -> Scores:
    """ROUGE-1, -2 and -L."""
    return asdict(texts.rouge(outputs, references))
