"""Summaries out of a text's own sentences: which of them says most of it is learned from summaries people wrote.

The score of a sentence is its ROUGE against the summary, as in extractive summarisation since Nallapati et al. 2016
(arXiv 1611.04230) made its labels so; a model that reads the sentence and its place learns to tell it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from paddock.checkpoint.class_heads import described
from paddock.data.instruct.records import Example, Pair, kind_of
from paddock.data.instruct.records import Labelled as LabelledExample
from paddock.data.section import Section
from paddock.data.stream import BatchStream
from paddock.engine import extracting
from paddock.errors import DataError
from paddock.finetune.tasks import labels as labelling
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.classify import MEASURED
from paddock.finetune.tasks.heads import with_classes
from paddock.training.loop import Trainer
from paddock.training.losses_classes import number_loss
from paddock.training.methods import Base
from paddock.training.metrics import Measure
from paddock.training.scores.texts import rouge
from paddock.training.validation_classes import told_of

SCALE = 0.1  # scores are learned in tenths of a point of ROUGE's F1 from 0 to 1, which makes them vary by about one


@dataclass(frozen=True)
class Parted:
    """A text in sentences, the summaries it has, and how much more of the first than its average each sentence says."""

    pair: Pair
    sentences: tuple[str, ...]
    references: tuple[str, ...]
    worth: np.ndarray

    def examples(self) -> list[LabelledExample]:
        views = extracting.views(self.sentences)
        return [
            LabelledExample(view, float(worth), self.pair.origin) for view, worth in zip(views, self.worth, strict=True)
        ]


class Extract(Section):
    """Learn which sentence of a text stands for it, from pairs of a text and its summary. samples: how many held-out
    texts are logged with what was picked."""

    name: Literal["extract"] = "extract"
    samples: Annotated[int, Field(ge=0, le=100)] = 3

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The base with one score. Raises UsageError for models that cannot tell any."""
        labelling.check_reads(base.model.architecture)
        return with_classes(base, [extracting.SCORE], "regression", seed)

    def ask(self, given: Material) -> Asked:
        """Raises DataError for examples that are no pairs, and for sentences that are too long."""
        train, kept = [_parted(example) for example in given.train], [_parted(example) for example in given.validation]
        choice = [text for text in train if len(text.sentences) > 1]
        if not choice:
            raise DataError("every text is a single sentence", expected="texts with sentences to choose from")
        rows = labelling.rows_of(given)
        table = rows.table(*_labelled(choice))
        prepare = labelling.prepare_of(given)
        counts = Counter({"texts": len(choice), "sentences": len(table)})
        told = [
            f"{len(choice):,} texts of {len(table):,} sentences to choose from"
            + (f"; {len(train) - len(choice):,} of one sentence left out" if len(choice) < len(train) else ""),
            *rows.told,
            rows.shown(table),
        ]
        measure, held = None, None
        if kept:
            # Each of their sentences is a candidate: none is left out for its length.
            held = replace(rows, too_long="cut").table(*_labelled(kept))
            stream = BatchStream(held, prepare, MEASURED, given.seed, shuffle=False)
            measure = picked(stream, kept, self.samples)
            lead, best = (_scores(kept, choose) for choose in (_first, _best))
            told.append(f"{len(kept):,} texts are kept back; first sentences come to {_said(lead)}")
            told.append(f"the best sentence of each would come to {_said(best)}")
        return Asked(table, held, prepare, number_loss, told, measure, counts, adapter_files=described(given.config))


def picked(batches: BatchStream, held: Sequence[Parted], samples: int) -> Measure:
    """ROUGE of the sentence that scores highest in each text, beside that of the first (`baseline`) and of the best
    there is (`best`); `loss`: the squared error of the scores. Every process must call it."""

    def measure(trainer: Trainer) -> dict[str, Any]:
        started = time.perf_counter()
        scores, truth = told_of(trainer, batches)
        ends = np.cumsum([len(text.sentences) for text in held])[:-1]
        chosen = [int(each.argmax()) for each in np.split(scores[:, 0], ends)]
        outputs = [text.sentences[at] for text, at in zip(held, chosen, strict=True)]
        return {
            "loss": float(np.square(scores[:, 0] - truth).mean()),
            **asdict(rouge(outputs, [text.references for text in held])),
            "baseline": _scores(held, _first),
            "best": _scores(held, _best),
            "picked": chosen,
            "answered": len(held),
            "texts": [
                {"source": text.pair.source, "reference": text.references[0], "output": output}
                for text, output in list(zip(held, outputs, strict=True))[:samples]
            ],
            "seconds": time.perf_counter() - started,
        }

    return measure


def _parted(example: Example) -> Parted:
    if not isinstance(example, Pair):
        raise DataError(
            f"{example.origin.place}: a {kind_of(example)}",
            expected="a pair: a text and its summary",
            fix='give records of {"source": ..., "target": ...}, or use another task',
        )
    found = extracting.split(example.source, example.origin.place)
    others = example.origin.meta.get("references") or ()
    references = (example.target, *(text for text in others if isinstance(text, str) and text.strip()))
    points = np.array([sum(asdict(rouge([sentence], [references])).values()) / 300 for sentence in found])
    return Parted(example, tuple(found), references, (points - points.mean()) / SCALE)


def _labelled(texts: Sequence[Parted]) -> tuple[list[LabelledExample], np.ndarray]:
    examples = [example for text in texts for example in text.examples()]
    return examples, np.array([example.label for example in examples], np.float32)


def _first(text: Parted) -> int:
    return 0


def _best(text: Parted) -> int:
    return int(text.worth.argmax())


def _scores(texts: Sequence[Parted], choose: Callable[[Parted], int]) -> dict[str, float]:
    return asdict(rouge([text.sentences[choose(text)] for text in texts], [text.references for text in texts]))


def _said(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
