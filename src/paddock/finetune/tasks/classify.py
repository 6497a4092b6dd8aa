"""Which class a text belongs to, or what number: a head is put on the model, and trained with it.

Encoders read [CLS] a [SEP] (b [SEP]) and classify by the first token's vector, decoders by the last's (Devlin et al.
2018, arXiv 1810.04805; Radford et al. 2018 for the last token).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from paddock.checkpoint.class_heads import described
from paddock.data.instruct.records import Example
from paddock.data.instruct.records import Labelled as LabelledExample
from paddock.data.section import Section
from paddock.data.stream import BatchStream
from paddock.engine.encoders import class_names
from paddock.errors import DataError, UsageError, did_you_mean
from paddock.finetune.tasks import labels as labelling
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.heads import with_classes
from paddock.training.losses_classes import ClassLoss, LabelsLoss, number_loss
from paddock.training.methods import Base
from paddock.training.recipe import Fraction
from paddock.training.validation_classes import on_classes, on_labels, on_numbers

MEASURED = 32  # rows of a batch that is measured
Weight = Annotated[float, Field(gt=0, le=1e6)]


class Classify(Section):
    """Learn classes that exclude each other or, with `multiple`, classes of which several may apply, or none.

    names: what labels are to be called in the model ({"0": negative, "1": positive}). smoothing: the share of a target
    that is spread over all classes. weights: what a text of a class counts, by the name it has in the model, others 1;
    `balanced`: such that all classes count alike however common they are. With `multiple` it is what it counts that a
    class applies, beside that it does not.
    """

    name: Literal["classify"] = "classify"
    names: Annotated[dict[str, str], Field(default_factory=dict, max_length=labelling.MOST_CLASSES)]
    multiple: bool = False
    smoothing: Fraction = 0.0
    weights: Literal["balanced"] | dict[str, Weight] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Classify:
        if self.multiple and self.smoothing:
            raise ValueError("smoothing is for classes that exclude each other: leave it out, or multiple")
        return self

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The base with a score for each class of the examples. Raises DataError and UsageError for labels that are no
        classes, and for models that cannot tell any."""
        labelling.check_reads(base.model.architecture)
        found = labelling.classes_of(labelling.labelled(examples), self.multiple)
        if strange := sorted(self.names.keys() - set(found)):
            raise UsageError(
                f"task.names calls {strange[0]!r} {self.names[strange[0]]!r}, and no example has that label",
                expected=", ".join(found[:20]),
            )
        names = [self.names.get(label, label) for label in found]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"task.names makes two classes {twice[0]!r}", expected="a name of its own for each")
        if isinstance(self.weights, dict) and (strange := sorted(self.weights.keys() - set(names))):
            raise UsageError(
                f"task.weights has {strange[0]!r}, which is no class",
                expected=", ".join(names[:20]),
                fix=did_you_mean(strange[0], names),
            )
        kind = "multi_label_classification" if self.multiple else "single_label_classification"
        return with_classes(base, names, kind, seed)

    def ask(self, given: Material) -> Asked:
        """Raises DataError for texts that are too long and for classes that are kept back and never trained."""
        names = class_names(given.config)
        train, kept = labelling.labelled(given.train), labelling.labelled(given.validation)
        counts = self._counts(train)
        for example in kept:
            if strange := [name for name in self._names(example) if name not in counts]:
                raise DataError(
                    f"{example.origin.place}: no example that is trained on has the label {strange[0]!r}",
                    fix="keep fewer back (data.validation), or leave that class out",
                )
        rows = labelling.rows_of(given)
        table = rows.table(train, self._labels(train, names))
        held = rows.table(kept, self._labels(kept, names)) if kept else None
        prepare = labelling.prepare_of(given)
        weights = self._weights(counts, names, len(train))
        told = [f"classes: {labelling.shares(counts, len(train))}", *rows.told, rows.shown(table, names)]
        if weights is not None:
            said = ", ".join(f"{name} {weight:.4g}" for name, weight in list(zip(names, weights, strict=True))[:20])
            told.append(f"weights: {said}")
        measure = None
        if held is not None:
            told.append(self._naive(kept))
            stream = BatchStream(held, prepare, MEASURED, given.seed, shuffle=False)
            measure = (on_labels if self.multiple else on_classes)(stream, names)
        loss = LabelsLoss(weights) if self.multiple else ClassLoss(self.smoothing, weights)
        return Asked(table, held, prepare, loss, told, measure, counts, adapter_files=described(given.config))

    def _names(self, example: LabelledExample) -> tuple[str, ...]:
        labels = labelling.classes_that_apply(example) if self.multiple else (labelling.class_of(example),)
        return tuple(self.names.get(label, label) for label in labels)

    def _counts(self, examples: Sequence[LabelledExample]) -> Counter[str]:
        return Counter(name for example in examples for name in self._names(example))

    def _naive(self, kept: Sequence[LabelledExample]) -> str:
        """What needs no model."""
        if self.multiple:
            most, count = Counter(frozenset(self._names(example)) for example in kept).most_common(1)[0]
            always = ", ".join(sorted(most)) or "none"
        else:
            always, count = self._counts(kept).most_common(1)[0]
        return f"always {always!r} would be right of {count / len(kept):.1%} that are kept back"

    def _weights(self, counts: Counter[str], names: Sequence[str], examples: int) -> tuple[float, ...] | None:
        """Of each class; balanced ones are 1 on average over the examples."""
        if self.weights is None:
            return None
        if isinstance(self.weights, dict):
            return tuple(self.weights.get(name, 1.0) for name in names)
        if missing := [name for name in names if not 0 < counts[name] < examples]:
            raise DataError(
                f"{counts[missing[0]]:,} of {examples:,} examples that are trained on have the class {missing[0]!r}",
                expected="some, and not all, for balanced weights",
                fix="give task.weights by name, or none",
            )
        if self.multiple:
            return tuple((examples - counts[name]) / counts[name] for name in names)
        return tuple(examples / (len(names) * counts[name]) for name in names)

    def _labels(self, examples: Sequence[LabelledExample], names: Sequence[str]) -> np.ndarray:
        """(examples,) int64, or of several classes (examples, classes) float32 of 0 and 1."""
        number = {name: number for number, name in enumerate(names)}
        if not self.multiple:
            return np.array([number[self._names(example)[0]] for example in examples], np.int64)
        found = np.zeros((len(examples), len(names)), np.float32)
        for row, example in zip(found, examples, strict=True):
            row[[number[name] for name in self._names(example)]] = 1
        return found


class Regress(Section):
    """Learn a number for each text, by the mean squared error."""

    name: Literal["regress"] = "regress"

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The base with one score. Raises UsageError for models that cannot tell any."""
        labelling.check_reads(base.model.architecture)
        return with_classes(base, ["LABEL_0"], "regression", seed)

    def ask(self, given: Material) -> Asked:
        """Raises DataError for labels that are no numbers and texts that are too long."""
        train, kept = labelling.labelled(given.train), labelling.labelled(given.validation)
        rows = labelling.rows_of(given)
        numbers = _numbers(train)
        table = rows.table(train, numbers)
        held = rows.table(kept, _numbers(kept)) if kept else None
        prepare = labelling.prepare_of(given)
        told = [
            f"numbers from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():g}, variance {numbers.var():g} "
            "(the loss of always telling the mean)",
            *rows.told,
            rows.shown(table),
        ]
        stream = None if held is None else BatchStream(held, prepare, MEASURED, given.seed, shuffle=False)
        measure = None if stream is None else on_numbers(stream)
        return Asked(table, held, prepare, number_loss, told, measure, adapter_files=described(given.config))


def _numbers(examples: Sequence[LabelledExample]) -> np.ndarray:
    return np.array([labelling.number_of(example) for example in examples], np.float32)
