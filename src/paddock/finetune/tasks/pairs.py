"""Translation, summarisation, and whatever else is one text made of another: by encoder-decoders and by decoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from paddock.data.instruct.records import Example
from paddock.data.packing import PACKINGS
from paddock.data.preparing.causal import Causal
from paddock.data.preparing.paired import Paired
from paddock.data.preparing.supervised import Supervised, coded, sequences
from paddock.data.samples import Prepare, Table
from paddock.data.section import Section
from paddock.errors import UsageError
from paddock.finetune import judging
from paddock.finetune.generating import Answering
from paddock.finetune.judging import Judge, Question, Scorer
from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.pair_rows import Room, Row, Sides, Spelling, check_end, check_some, rows
from paddock.training import validation
from paddock.training.losses import Loss
from paddock.training.methods import Base
from paddock.training.objectives import Objective, objective
from paddock.training.recipe import Fraction
from paddock.training.scores import texts

BETWEEN = "\n"  # source and target of a decoder, where a recipe says nothing
LONGER = 8  # tokens that an answer may have beyond twice the longest reference


class _Pairs(Section):
    """prefix: stands before every source ("translate English to German: "), in training as in use. between: what
    stands between source and target, and packing: how rows are shared; both for decoders only. answers: how many
    held-out examples are answered at every measurement; 0: none. samples: how many of those are logged. tokenization:
    how BLEU finds words; `auto`: `zh` for ideographs, else `13a`.
    """

    prefix: Annotated[str, Field(max_length=10_000)] = ""
    between: Annotated[str, Field(max_length=10_000)] | None = None
    packing: Literal["fit", "single"] = "fit"
    label_smoothing: Fraction = 0.0
    answers: Annotated[int, Field(ge=0, le=100_000)] = 64
    samples: Annotated[int, Field(ge=0, le=100)] = 3
    tokenization: Literal["auto", "13a", "zh", "none"] = "auto"

    baseline: ClassVar[str] = "the source copied"

    def shape(self, base: Base, examples: Sequence[Example], seed: int) -> Base:
        """The model as it is."""
        return base

    def ask(self, given: Material) -> Asked:
        """Raises UsageError for a model that cannot be asked this, DataError for examples that are no pairs or, where
        such are refused, too long."""
        spelling = self._spelling(given)
        prepare, loss = self._prepare(given, spelling)
        takes = prepare.takes
        room = Room(given.too_long, each=takes) if spelling.encodes else Room(given.too_long, both=takes)
        counts: Counter[str] = Counter()
        train = rows(given.train, spelling, room, counts, given.count)
        check_some(train, counts)
        told = _told(train, spelling, counts)
        held = rows(given.validation, spelling, room, counts, given.count)
        validation_table = self._table(held, spelling, given.length) if held else None
        judge = None
        if validation_table is not None and self.answers:
            judge = self._judge(held, validation_table, prepare, spelling, given)
            scores = ", ".join(f"{name} {value:.2f}" for name, value in judge.baseline.items())
            told.append(f"{len(judge.questions)} held-out examples are answered; {self.baseline} comes to {scores}")
        return Asked(self._table(train, spelling, given.length), validation_table, prepare, loss, told, judge, counts)

    def _spelling(self, given: Material) -> Spelling:
        encodes, ends = given.architecture.encoder is not None, check_end(given.tokenizer)
        if encodes and self.between is not None:
            raise UsageError(
                f"an encoder-decoder ({given.architecture.family}) keeps source and target apart by itself",
                fix="leave out task.between",
            )
        between = "" if encodes else BETWEEN if self.between is None else self.between
        return Spelling(given.tokenizer, encodes, ends, self.prefix, between)

    def _prepare(self, given: Material, spelling: Spelling) -> tuple[Prepare, Loss]:
        asked = Objective(name="pairs" if spelling.encodes else "causal", label_smoothing=self.label_smoothing)
        start = given.config.get("decoder_start_token_id")
        made, loss = objective(asked, given.tokenizer, given.architecture, given.length, start=start)
        if isinstance(made, Paired):
            return replace(made, closed=spelling.closes, marks=()), loss
        assert isinstance(made, Causal), "a decoder's objective"
        return Supervised(made.length, made.pad), loss

    def _table(self, held: Sequence[Row], spelling: Spelling, length: int) -> Table:
        if spelling.encodes:
            return Sides(held)
        whole = [np.concatenate((row.prompt, row.target, spelling.ends[:1])) for row in held]
        asked = [coded(ids.tolist(), [(len(row.prompt), len(ids))]) for ids, row in zip(whole, held, strict=True)]
        return PACKINGS[self.packing](sequences(asked, "the pairs"), length, 1)

    def _judge(self, held: Sequence[Row], table: Table, prepare: Prepare, spelling: Spelling, given: Material) -> Judge:
        chosen = [held[at] for at in judging.spread(len(held), self.answers)]
        questions = [Question(tuple(row.prompt.tolist()), row.pair.source, _references(row)) for row in chosen]
        references = [question.references for question in questions]
        most = min(prepare.takes, 2 * max(len(row.target) for row in held) + LONGER)
        if not spelling.encodes and given.architecture.context is not None:
            most = min(most, given.architecture.context - max(len(question.prompt) for question in questions))
        start = prepare.start if isinstance(prepare, Paired) else None
        score = self._scorer([text for some in references for text in some])
        return Judge(
            table,
            prepare,
            given.tokenizer,
            questions,
            Answering(spelling.ends, start, most, len(given.tokenizer)),
            score,
            score([self._naive(question.source) for question in questions], references),
            validation.byte_lengths(given.tokenizer),
            self.samples,
        )

    def _scorer(self, references: Sequence[str]) -> Scorer:
        chosen = texts.tokenization_of(references) if self.tokenization == "auto" else self.tokenization
        return judging.translation_scores(chosen)

    def _naive(self, source: str) -> str:
        """What needs no model, and has to be beaten."""
        return source


class PairsTask(_Pairs):
    """Write the second text of a pair after the first: scored by BLEU and chrF, beside the source copied."""

    name: Literal["pairs"] = "pairs"


class TranslateTask(_Pairs):
    """Translate: BLEU and chrF, beside the source copied."""

    name: Literal["translate"] = "translate"


class SummariseTask(_Pairs):
    """Summarise: ROUGE, beside the source's first sentence."""

    name: Literal["summarise"] = "summarise"

    baseline: ClassVar[str] = "the source's first sentence"

    def _scorer(self, references: Sequence[str]) -> Scorer:
        return judging.summary_scores

    def _naive(self, source: str) -> str:
        return texts.first_sentence(source)


def _references(row: Row) -> tuple[str, ...]:
    """The target, and what else its record gives as right."""
    others = row.pair.origin.meta.get("references") or ()
    return (row.pair.target, *(text for text in others if isinstance(text, str) and text.strip()))


def _told(train: Sequence[Row], spelling: Spelling, counts: Counter[str]) -> list[str]:
    """What a user should see before it begins: counts, sizes, and one example as the model reads it."""
    prompts, targets = (sum(len(getattr(row, side)) for row in train) for side in ("prompt", "target"))
    lost = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
    first, decode = train[0], spelling.tokenizer.decode
    end = spelling.ends[0]
    return [
        f"{len(train):,} pairs to train on" + (f" ({lost})" if lost else "") + f", {prompts / len(train):.1f} tokens "
        f"to read and {targets / len(train) + 1:.1f} to write on average, its end included",
        f"reads:  {decode(first.prompt.tolist(), skip_special=False)!r}",
        f"writes: {decode([*first.target.tolist(), end], skip_special=False)!r}",
    ]
