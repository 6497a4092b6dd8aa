"""Which class a text belongs to, or what number: a head is put on the model, and trained with it.

Encoders read [CLS] a [SEP] (b [SEP]) and classify by the first token's vector, decoders by the last's (Devlin et al.
2018, arXiv 1810.04805; Radford et al. 2018 for the last token).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from paddock.checkpoint.class_heads import described
from paddock.data.instruct.records import Example
from paddock.data.instruct.records import Labelled as LabelledExample
from paddock.data.section import Section
from paddock.data.stream import BatchStream
from paddock.engine.encoders import class_names
from paddock.errors import DataError, UsageError
from paddock.finetune.tasks import labels as labelling
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.heads import with_classes
from paddock.training.losses_classes import ClassLoss, number_loss
from paddock.training.methods import Base
from paddock.training.recipe import Fraction
from paddock.training.validation_classes import on_classes, on_numbers

MEASURED = 32  # rows of a batch that is measured


class Classify(Section):
    """Learn classes that exclude each other.

    names: what labels are to be called in the model ({"0": negative, "1": positive}). smoothing: the share of a target
    that is spread over all classes.
    """

    name: Literal["classify"] = "classify"
    names: Annotated[dict[str, str], Field(default_factory=dict, max_length=labelling.MOST_CLASSES)]
    smoothing: Fraction = 0.0

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The base with a score for each class of the examples. Raises DataError and UsageError for labels that are no
        classes, and for models that cannot tell any."""
        labelling.check_reads(base.model.architecture)
        found = labelling.classes_of(labelling.labelled(examples))
        if strange := sorted(self.names.keys() - set(found)):
            raise UsageError(
                f"task.names calls {strange[0]!r} {self.names[strange[0]]!r}, and no example has that label",
                expected=", ".join(found[:20]),
            )
        names = [self.names.get(label, label) for label in found]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"task.names makes two classes {twice[0]!r}", expected="a name of its own for each")
        return with_classes(base, names, "single_label_classification", seed)

    def ask(self, given: Material) -> Asked:
        """Raises DataError for texts that are too long and for classes that are kept back and never trained."""
        names = class_names(given.config)
        train, kept = labelling.labelled(given.train), labelling.labelled(given.validation)
        counts = self._counts(train)
        for example in kept:
            if self._name(example) not in counts:
                raise DataError(
                    f"{example.origin.place}: no example that is trained on has the label {self._name(example)!r}",
                    fix="keep fewer back (data.validation), or leave that class out",
                )
        rows = labelling.rows_of(given)
        table = rows.table(train, self._labels(train, names))
        held = rows.table(kept, self._labels(kept, names)) if kept else None
        prepare = labelling.prepare_of(given)
        told = [f"classes: {labelling.shares(counts)}", *rows.told, rows.shown(table, names)]
        measure = None
        if held is not None:
            commonest = max(self._counts(kept).items(), key=lambda item: item[1])
            told.append(f"always {commonest[0]!r} would be right of {commonest[1] / len(kept):.1%} that are kept back")
            measure = on_classes(BatchStream(held, prepare, MEASURED, given.seed, shuffle=False), names)
        beside = described(given.config)
        return Asked(table, held, prepare, ClassLoss(self.smoothing), told, measure, counts, adapter_files=beside)

    def _name(self, example: LabelledExample) -> str:
        label = labelling.class_of(example)
        return self.names.get(label, label)

    def _counts(self, examples: Sequence[LabelledExample]) -> Counter[str]:
        return Counter(self._name(example) for example in examples)

    def _labels(self, examples: Sequence[LabelledExample], names: Sequence[str]) -> np.ndarray:
        number = {name: number for number, name in enumerate(names)}
        return np.array([number[self._name(example)] for example in examples], np.int64)


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
