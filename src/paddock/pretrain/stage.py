"""The stage: a recipe in, a run's folder with a trained model out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddock.data.stream import BatchStream
from paddock.errors import DataError
from paddock.model.transformer import Transformer
from paddock.pretrain import cooccurrence, corpus, tables, vocabulary
from paddock.pretrain.corpus import Corpus
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.starting import Start, start
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training import reopening, validation
from paddock.training.conduct import Hook, Wishes, conduct, together
from paddock.training.loop import Trainer
from paddock.training.losses import Loss
from paddock.training.metrics import Measure
from paddock.training.objectives import objective, ordinary
from paddock.training.parallel import Alone
from paddock.training.places import Places
from paddock.training.run import RunFolder

BY_ITSELF = Wishes()
TOKENIZER = "tokenizer"  # where in a run's folder its vocabulary lies

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """All that a run is made of, before its first step.

    train: the stream of batches; validation: what is measured on, once over, None where nothing was kept back.
    data: a SHA-256 over all texts, train and validation, and how they are spelt.
    """

    recipe: Pretraining
    tokenizer: Tokenizer
    start: Start
    train: BatchStream
    validation: BatchStream | None
    loss: Loss
    data: str
    places: Places

    def documents(self) -> list[Corpus]:
        """The texts of every source, read again."""
        return corpus.read(self.recipe.data, self.places)

    @property
    def measure(self) -> Measure | None:
        """What is measured on the texts that were kept back."""
        if self.validation is None:
            return None
        return validation.on(self.validation, validation.byte_lengths(self.tokenizer))

    def publish(self, folder: Path, model: Transformer) -> None:
        """Writes `model` as a Hugging Face folder."""
        self.start.publish(folder, model, self.tokenizer)


def prepare(recipe: Pretraining, beside: Path, run: Path, tell: Tell = lambda text: None) -> Prepared:
    """Reads the recipe's documents, makes or opens its tokenizer, and describes its first model.

    `beside`: the folder of the recipe's file. `run`: where a trained tokenizer is kept.
    Raises UsageError, DataError, TokenizerError and CheckpointError.
    """
    data = recipe.data
    places = Places.of(data.root, beside)
    sources = corpus.read(data, places)
    tokenizer = vocabulary.make(recipe.tokenizer, sources, run / TOKENIZER, beside)
    begun = start(recipe.model, tokenizer, recipe.training.seed)
    architecture = begun.model.architecture
    first = begun.config.get("decoder_start_token_id")
    made, loss = objective(recipe.objective, tokenizer, architecture, data.length, isolated=data.isolated, start=first)
    cut = tables.Cutting(tokenizer, data.packing, recipe.objective.name, made, recipe.training.seed)
    parts = [(cut.table(source.train), source.weight) for source in sources]
    train = tables.mixed(parts)
    kept = tables.joined([cut.table(source.validation) for source in sources])
    if train is None:
        raise DataError("there are no documents to train on", fix="make data.validation smaller, or give more texts")
    rows, seed = recipe.training.batch, recipe.training.seed
    if recipe.vectors == "cooccurrence" and begun.first is not None:
        rows_of = [part for part, _ in parts if part is not None]
        first_vectors = cooccurrence.first_vectors(begun.first, begun.model, rows_of, ordinary(tokenizer), seed)
        begun = replace(begun, first=first_vectors)
    told = f"{len(train)} rows of up to {data.length} tokens" + (f", {len(kept)} kept back" if kept else "")
    tell(f"{told}; {tokenizer!r}; {begun.described()}")
    return Prepared(
        recipe,
        tokenizer,
        begun,
        BatchStream(train, made, rows, seed, data.shuffle),
        BatchStream(kept, made, rows, seed, shuffle=False) if kept else None,
        loss,
        corpus.fingerprint(sources, tokenizer),
        places,
    )


def reopen(run: Path, tell: Tell = lambda text: None) -> Prepared:
    """What a run in a folder was made of, read again. Raises UsageError where it is no run of this stage."""
    recipe, (beside, shared) = reopening.reopened(run, Pretraining, "pretrain", "beside", "shared")
    return prepare(recipe, beside, shared if (shared / TOKENIZER).exists() else run, tell)


def pretrain(
    recipe: Pretraining,
    beside: Path,
    out: Path,
    parallel: Alone,
    wishes: Wishes = BY_ITSELF,
    *,
    shared: Path | None = None,
    watching: Callable[[Prepared, Trainer], Sequence[Hook]] = lambda prepared, trainer: (),
    draw: Callable[[RunFolder], None] = lambda run: None,
    tell: Tell = lambda text: None,
) -> Path:
    """Trains what the recipe describes in the run folder `out`, and gives the folder of the final model.

    shared: a folder whose tokenizer several runs share; `out` if None. watching: gives the hooks that measure, sample
    and show. Raises what `prepare` and `conduct` raise.
    """
    vocabulary_in, run = shared or out, RunFolder(out)

    def first() -> Prepared:
        with run.hold():  # another run may be at it, whose tokenizer must not change
            reopening.note(out, beside=beside, shared=vocabulary_in)
            return prepare(recipe, beside, vocabulary_in, tell)

    # The main process trains the tokenizer; the others find it.
    prepared = together(parallel, first) or prepare(recipe, beside, vocabulary_in)
    begun, how = prepared.start, recipe.training
    model = begun.begun(parallel.main)
    trainer = Trainer(model, prepared.train, prepared.loss, how, parallel, first=begun.first)
    origin, hooks = reopening.origin_of(recipe, prepared.data), watching(prepared, trainer)
    conduct(trainer, run, prepared.publish, origin, wishes, hooks=hooks, draw=draw, tell=tell)
    return run.final
