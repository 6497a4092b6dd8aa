"""The stage: a recipe in, a run's folder with a trained model out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddock.data.stream import BatchStream
from paddock.errors import DataError
from paddock.model.transformer import Transformer
from paddock.pretrain import corpus, tables, vocabulary
from paddock.pretrain.corpus import Places
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.starting import Start, start
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training import recipe_files
from paddock.training.conduct import Hook, Origin, Wishes, conduct
from paddock.training.loop import Trainer
from paddock.training.losses import Loss
from paddock.training.objectives import objective
from paddock.training.parallel import Alone
from paddock.training.run import RunFolder

BY_ITSELF = Wishes()
TOKENIZER = "tokenizer"  # where in a run's folder its vocabulary lies

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """All that a run is made of, before its first step.

    train: the stream of batches; validation: what is measured on, once over, None where nothing was kept back.
    data: a SHA-256 over all token ids, train and validation.
    """

    recipe: Pretraining
    tokenizer: Tokenizer
    start: Start
    train: BatchStream
    validation: BatchStream | None
    loss: Loss
    data: str

    def publish(self, folder: Path, model: Transformer) -> None:
        """Writes `model` as a Hugging Face folder."""
        self.start.publish(folder, model, self.tokenizer)


def prepare(recipe: Pretraining, beside: Path, run: Path, tell: Tell = lambda text: None) -> Prepared:
    """Reads the recipe's documents, makes or opens its tokenizer, and describes its first model.

    `beside`: the folder of the recipe's file. `run`: where a trained tokenizer is kept.
    Raises UsageError, DataError, TokenizerError and CheckpointError.
    """
    data = recipe.data
    sources = corpus.read(data, Places.of(data, beside))
    tokenizer = vocabulary.make(recipe.tokenizer, sources, run / TOKENIZER, beside)
    begun = start(recipe.model, tokenizer, recipe.training.seed)
    architecture = begun.model.architecture
    made, loss = objective(recipe.objective, tokenizer, architecture, data.length, isolated=data.isolated)
    cut = tables.Cutting(tokenizer, data.packing, recipe.objective.name, made)
    train = tables.mixed([(cut.table(source.train), source.weight) for source in sources])
    kept = tables.joined([cut.table(source.validation) for source in sources])
    if train is None:
        raise DataError("there are no documents to train on", fix="make data.validation smaller, or give more texts")
    rows, seed = recipe.training.batch, recipe.training.seed
    told = f"{len(train)} rows of up to {data.length} tokens" + (f", {len(kept)} kept back" if kept else "")
    tell(f"{told}; {tokenizer!r}; {begun.described()}")
    return Prepared(
        recipe,
        tokenizer,
        begun,
        BatchStream(train, made, rows, seed, data.shuffle),
        BatchStream(kept, made, rows, seed, shuffle=False) if kept else None,
        loss,
        tables.fingerprint([part for part in (train, kept) if part is not None]),
    )


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
    prepared = prepare(recipe, beside, shared or out, tell)
    trainer = Trainer(prepared.start.model, prepared.train, prepared.loss, recipe.training, parallel)
    run = RunFolder(out)
    origin = Origin(recipe_files.write(recipe.model_dump(mode="json")), prepared.data)
    hooks = watching(prepared, trainer)
    conduct(trainer, run, prepared.publish, origin, wishes, hooks=hooks, draw=draw, tell=tell)
    return run.final
