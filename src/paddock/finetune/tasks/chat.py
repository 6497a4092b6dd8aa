"""Instruction tuning and chat: answers are learned, in the format in which they will be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from paddock.data.instruct.records import Example, Pair
from paddock.data.packing import PACKINGS
from paddock.data.preparing.supervised import Supervised, SupervisedBlanks, sequences
from paddock.data.samples import Table
from paddock.data.section import Section
from paddock.errors import DataError, TemplateError, UsageError
from paddock.finetune import gate
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.formats import with_marker, with_options
from paddock.finetune.tasks.positions import Positions, positioned
from paddock.finetune.tasks.sifting import Length, Sifted, Sifter
from paddock.finetune.tasks.turns import Learn, Markers, Reading, Systems
from paddock.model.spec import Prefix
from paddock.tokenizer.supervision import End, Supervisor
from paddock.training.losses import Loss
from paddock.training.methods import Base
from paddock.training.objectives import (
    Objective,
    check_length,
    check_vocabulary,
    objective,
    padding,
    weighted,
)


class ChatTask(Section):
    """Learn to answer. docs/masking.md says the rest.

    packing: `fit` puts several sequences into a row, which never see each other; `single` one.
    learn: `answers` (all, unless a message says otherwise), the `last` of each example, `all` tokens, or messages of
    some roles. end: `template`: what the template writes behind an answer, refused where that is nothing; `eos`: there
    the tokenizer's end of text; `missing`: there nothing. options: variables of the template, kept with the model.
    system: the system message of examples without one. systems: what becomes of those there are: `keep`, `drop`, or
    put before the first `question`. markers: conditional tuning on preferences.
    unfit: whether examples that cannot be learned (empty answers, roles that the template does not take) are refused
    or dropped and counted. cut_answers: where data.too_long is cut, answers too lose their end.
    positions: as of `text`.
    """

    name: Literal["chat"] = "chat"
    packing: Literal["fit", "single"] = "fit"
    learn: Learn = "answers"
    end: End = "template"
    options: dict[str, bool | int | str | None] = Field(default_factory=dict)
    system: str | None = None
    systems: Systems = "keep"
    markers: Markers | None = None
    unfit: Literal["refuse", "drop"] = "refuse"
    cut_answers: bool = False
    positions: Positions = "counted"

    @field_validator("options")
    @classmethod
    def _names(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if not name.isidentifier():
                raise ValueError(f"{name!r} is no variable's name")
        return options

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The model as it is."""
        return base

    def ask(self, given: Material) -> Asked:
        """Raises UsageError for a model or settings that do not go together, DataError for examples that cannot be
        learned, TemplateError where the template cannot be trained with."""
        prepare, loss = self._prepare(given)
        good, bad = self._supervisors(given)
        words = good.template.read.words if good else frozenset()
        apart = good is None or good.template.read.reads_all or "input" in words
        reading = Reading(self.learn, self.system, self.systems, self.markers, apart, "commands" in words)
        length = Length(prepare.takes, given.too_long, self.cut_answers, given.architecture.context)
        sifter = Sifter(reading, good, bad, given.tokenizer, self.end, length, self.unfit == "drop")
        train, kept = (sifter.sift(some, given.count) for some in (given.train, given.validation))
        if not train.sequences:
            raise DataError("; ".join(["no example is left to learn from", *train.remarks("training")]))
        shown = gate.preview(train.sequences, train.places, given.tokenizer)
        return Asked(
            self._table(train, given.length),
            self._table(kept, given.length) if kept.sequences else None,
            positioned(prepare, self.positions, given),
            loss,
            told=[*train.remarks("training"), *kept.remarks("validation")],
            counts=train.counts | {"tokens": shown.statistics.tokens, "supervised": shown.statistics.supervised},
            template=good.template if good else None,
            preview=shown,
            measured=prepare,
        )

    def _prepare(self, given: Material) -> tuple[Supervised, Loss]:
        a, pad = given.architecture, padding(given.tokenizer)
        if not isinstance(a.mask, Prefix):
            _, loss = objective(Objective(), given.tokenizer, a, given.length)
            return Supervised(given.length, pad), loss
        if self.packing != "single":
            raise UsageError(f"a row of {a.family} is one text to it", fix="set task.packing: single")
        check_length(a, given.length)
        check_vocabulary(given.tokenizer, a)
        return SupervisedBlanks(given.length, pad, mask=a.mask), weighted(Objective(), a)

    def _supervisors(self, given: Material) -> tuple[Supervisor | None, Supervisor | None]:
        """Of good answers, whose template the trained model is given, and of bad ones."""
        if given.template is None:
            if not all(isinstance(example, Pair) for example in (*given.train, *given.validation)):
                what = f"{given.path.name} has no chat template, and none is assumed"
                raise TemplateError(what, fix="name one: template=NAME or FILE (see `paddock template ls`)")
            return None, None
        tokenizer, told = given.tokenizer, with_options(given.template, self.options)
        if self.markers is None:
            every = Supervisor(tokenizer, told, self.end)
            return every, every
        texts = (self.markers.good, self.markers.bad)
        good, bad = (Supervisor(tokenizer, with_marker(tokenizer, told, text), self.end, text) for text in texts)
        return good, bad

    def _table(self, sifted: Sifted, length: int) -> Table:
        tokens = sequences(sifted.sequences, "the examples")
        return PACKINGS[self.packing](tokens, length, 1)
