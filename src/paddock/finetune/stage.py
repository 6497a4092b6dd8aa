"""The stage: a recipe in, a run's folder with the tuned model, or an adapter to the base, out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddock.checkpoint import held_nf4
from paddock.checkpoint.writing import write_bytes, write_text
from paddock.data.encoding import kept_back
from paddock.data.instruct import reading
from paddock.data.instruct.overlap import RUN, Protected
from paddock.data.instruct.reading import Report
from paddock.data.instruct.records import Example, Origin
from paddock.data.shards import fingerprint as spelling_of
from paddock.data.stream import BatchStream
from paddock.engine.saving import TEMPLATE
from paddock.errors import DataError, UsageError
from paddock.finetune.jointly import joined
from paddock.finetune.opened import Opened, open_base
from paddock.finetune.recipe import FineTuning
from paddock.finetune.tasks import Asked, Material
from paddock.finetune.tasks.asked import Counted, silent
from paddock.model.transformer import Transformer
from paddock.model.twin import empty
from paddock.training import reopening, validation
from paddock.training.conduct import Hook, Wishes, conduct
from paddock.training.loop import Trainer
from paddock.training.methods import Tuned
from paddock.training.metrics import Measure
from paddock.training.parallel import Alone
from paddock.training.places import Places
from paddock.training.recipe import Training
from paddock.training.run import RunFolder

BY_ITSELF = Wishes()
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """All that a run is made of, before its first step.

    data: a SHA-256 over all examples, and how they are spelt. kept: the examples that are measured on.
    """

    recipe: FineTuning
    training: Training
    opened: Opened
    tuned: Tuned
    asked: Asked
    train: BatchStream
    validation: BatchStream | None
    data: str
    report: Report
    kept: Sequence[Example] = ()

    def publish(self, folder: Path, model: Transformer) -> None:
        """Writes what was trained, with the tokenizer and the chat template that go with it."""
        self.tuned.write(folder, model)
        self.opened.tokenizer.save(folder)
        if self.opened.template is not None:
            write_text(folder / TEMPLATE, self.opened.template.source)
        beside = {**self.asked.files, **(self.asked.adapter_files if self.tuned.adapter else {})}
        for name, data in beside.items():
            write_bytes(folder / name, data)

    def trainer(self, parallel: Alone) -> Trainer:
        tuned = self.tuned
        return Trainer(
            tuned.model, self.train, self.asked.loss, self.training, parallel, learns=tuned.learns, rates=tuned.rates,
            written=tuned.learns if tuned.adapter else None,
        )  # fmt: skip

    @property
    def measure(self) -> Measure | None:
        """What is measured on the examples that were kept back."""
        if self.asked.measure is not None or self.validation is None:
            return self.asked.measure
        return validation.on(self.validation, validation.byte_lengths(self.opened.tokenizer))


def prepare(
    recipe: FineTuning,
    beside: Path,
    tell: Tell = lambda text: None,
    counted: Counted = silent,
    *,
    numbers: bool = True,
) -> Prepared:
    """Reads the recipe's examples and its model, and puts the method on it.

    `beside`: the folder of the recipe's file. counted: hears how far the encoding of the examples is. numbers: as of
    `open_base`. Raises UsageError, DataError, TemplateError, TokenizerError and CheckpointError.
    """
    places, report = Places.of(recipe.data.root, beside), Report()
    train, kept = _examples(recipe, places, report)
    joint = _read(recipe, places, report, recipe.data.joint) if recipe.data.joint else []
    if recipe.data.joint and not joint:
        raise DataError("there are no examples in data.joint")
    tell(report.told)
    if isinstance(recipe.data.validation, list) and (shared := sum(1 for _ in Protected(kept).overlaps(train))):
        tell(
            f"{shared:,} of them share a run of {RUN} words with the validation files: paddock data overlap names them"
        )
    opened = open_base(recipe.model, recipe.template, recipe.training.precision, recipe.method, numbers)
    base = recipe.task.shape(opened.base, [*train, *kept], recipe.training.seed)
    opened = replace(opened, base=base)
    data = recipe.data
    given = Material(
        train,
        kept,
        opened.tokenizer,
        opened.template,
        base.model.architecture,
        base.config,
        data.length,
        data.too_long,
        recipe.training.seed,
        opened.path,
        counted,
    )
    asked = recipe.task.ask(given)
    opened = opened.answering(asked.template)
    tuned = recipe.method.attach(opened.base, recipe.training.seed)
    if joint:
        others = recipe.task.ask(replace(given, train=joint, validation=[]))
        asked = joined(asked, others, tuned, recipe.training.seed, data.shuffle)
    for line in asked.told:
        tell(line)
    share = tuned.trainable / tuned.parameters
    tell(
        f"{base.model.architecture.family} of {tuned.parameters:,} parameters, of which {tuned.trainable:,} "
        f"({share:.3%}) are trained: {recipe.method.name}"
    )
    tell(held_nf4.told(tuned.model))
    training = recipe.training.resolved(len(asked.train))
    rows, seed = training.batch, training.seed
    held = asked.validation
    return Prepared(
        recipe,
        training,
        opened,
        tuned,
        asked,
        BatchStream(asked.train, asked.prepare, rows, seed, data.shuffle),
        BatchStream(held, asked.measured or asked.prepare, rows, seed, shuffle=False) if held else None,
        _fingerprint([*train, *kept, *joint], opened),
        report,
        kept,
    )


def _examples(recipe: FineTuning, places: Places, report: Report) -> tuple[list[Example], list[Example]]:
    """What is trained on and what is kept back, which shares no text with it."""
    data = recipe.data

    train = _read(recipe, places, report, data.files, data.second, data.limit)
    if isinstance(data.validation, list):
        kept = _read(recipe, places, report, data.validation, data.validation_second)
    else:
        # What belongs together (threads of one tree of messages) stays together.
        told = [kept_back(example.origin.group or _content(example), data.validation) for example in train]
        kept = [example for example, back in zip(train, told, strict=True) if back]
        train = [example for example, back in zip(train, told, strict=True) if not back]
    if not train and not kept:
        raise DataError(
            f"there are no examples in {', '.join(data.files)}", fix="name files that hold some: data.files=FILE"
        )
    if not train:
        raise DataError("there are no examples to train on", fix="make data.validation smaller, or give more examples")
    return train, kept


def _read(
    recipe: FineTuning,
    places: Places,
    report: Report,
    files: list[str],
    second: Sequence[str] = (),
    limit: int | None = None,
) -> list[Example]:
    data = recipe.data
    targets = places.find([*second]) if second else None
    how = {"fields": data.fields, **data.reading.model_dump()}
    return list(reading.examples(places.find(files), data.format, second=targets, limit=limit, report=report, **how))


def _fingerprint(examples: Sequence[Example], opened: Opened) -> str:
    seen = hashlib.sha256(spelling_of(opened.tokenizer).encode())
    for example in examples:
        seen.update(_content(example).encode("utf-8", "surrogatepass"))
    return seen.hexdigest()


def _content(example: Example) -> str:
    """What an example says, wherever it is from."""
    return repr(replace(example, origin=Origin()))


def reopen(run: Path, tell: Tell = lambda text: None) -> Prepared:
    """What a run in a folder was made of, read again. Raises UsageError where it is no run of this stage."""
    recipe, (beside,) = reopening.reopened(run, FineTuning, "finetune", "beside")
    return prepare(recipe, beside, tell)


def finetune(
    recipe: FineTuning,
    beside: Path,
    out: Path,
    parallel: Alone,
    wishes: Wishes = BY_ITSELF,
    *,
    watching: Callable[[Prepared, Trainer], Sequence[Hook]] = lambda prepared, trainer: (),
    draw: Callable[[RunFolder], None] = lambda run: None,
    tell: Tell = lambda text: None,
    counted: Counted = silent,
) -> Path:
    """Fine-tunes as the recipe says in the run folder `out`, and gives the folder of the final model or adapter.

    watching: gives the hooks that measure, sample and show. counted: as of `prepare`. Raises what `prepare` and
    `conduct` raise.
    """
    run = RunFolder(out)
    if parallel.data_ranks > 1 and recipe.data.joint:
        raise UsageError("data.joint in several processes", expected="one, where every step's groups are known")
    numbers = parallel.main or not parallel.in_shards
    prepared = prepare(recipe, beside, *((tell, counted) if parallel.main else ()), numbers=numbers)
    if parallel.main:
        with run.hold():
            reopening.note(out, beside=beside)
    trainer = prepared.trainer(parallel)
    if parallel.in_shards and prepared.tuned.adapter:
        empty(prepared.opened.base.model)  # its numbers are in the shards
    origin, read, hooks = reopening.origin_of(recipe, prepared.data), prepared.tuned.read, watching(prepared, trainer)
    conduct(trainer, run, prepared.publish, origin, wishes, read=read, hooks=hooks, draw=draw, tell=tell)
    return run.final
