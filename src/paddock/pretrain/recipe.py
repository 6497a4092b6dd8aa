"""What a pre-training recipe may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paddock.data.section import Section
from paddock.errors import UsageError, did_you_mean
from paddock.training import recipe_files
from paddock.training.objectives import Objective
from paddock.training.parallel import Parallel
from paddock.training.recipe import Card, Training


class Source(Section):
    """Documents of one kind. Files (or patterns) are looked for in `data.root`, in PADDOCK_DATA, beside the recipe.

    weight: this source's part of every batch, beside the others' weights; without weights each has as much as it holds.
    separator: what stands between documents of a text file ("" : a file is one document; "\\n": each line is one).
    shards: instead of files, what `paddock data pack` wrote (its validation part is measured on), or a Megatron pair.
    second: for pairs, the files that answer `files` line by line (translation).
    """

    files: list[str] = Field(default_factory=list)
    shards: str | None = None
    second: list[str] = Field(default_factory=list)
    weight: Annotated[float, Field(gt=0)] | None = None
    separator: str = ""
    text_field: str = "text"

    @model_validator(mode="after")
    def one_kind(self) -> Source:
        if bool(self.files) == (self.shards is not None):
            raise ValueError("one of files and shards")
        if self.second and not self.files:
            raise ValueError("second goes with files")
        return self


class Data(Section):
    """Documents, how they share rows, and what is kept back to be measured on.

    mix: instead of sources, the file of a mixture of token shards, which `paddock data mix` wrote.
    length: tokens of a row. packing: `fit` keeps documents whole where they fit, `stream` cuts the stream of all
    documents (Pythia's way), `single` gives each document a row. isolated: documents of a row do not see each other.
    validation: the share of documents (or, of a single long document, of its end) that is measured on and not trained.
    """

    sources: list[Source] = Field(default_factory=list)
    mix: str | None = None
    root: str | None = None
    length: Annotated[int, Field(ge=2, le=2**20)]
    packing: Literal["fit", "stream", "single"] = "fit"
    isolated: bool = True
    shuffle: bool = True
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def weighted(self) -> Data:
        if bool(self.sources) == (self.mix is not None):
            raise ValueError("one of sources and mix")
        if len({source.weight is None for source in self.sources}) > 1:
            raise ValueError("a weight for each source, or for none")
        return self


class Vocabulary(Section):
    """Where token ids come from: a tokenizer's path, or one trained on the recipe's own documents, or characters.

    special: control tokens besides those that such tokenizers have, as TEXT or ROLE=TEXT (`paddock tokenizer train`).
    behind: those that a prompt ends in (GLM's [gMASK] and <sop>), and a text to be learned does not.
    """

    path: str | None = None
    train: Literal["bpe", "sentencepiece-bpe", "unigram", "wordpiece", "characters"] | None = None
    size: Annotated[int, Field(ge=2, le=10**6)] | None = None
    special: list[str] = Field(default_factory=list)
    behind: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def one_way(self) -> Vocabulary:
        if (self.path is None) == (self.train is None):
            raise ValueError("one of tokenizer.path and tokenizer.train")
        if self.train not in (None, "characters") and self.size is None:
            raise ValueError("tokenizer.size: how many tokens to train")
        if self.behind and self.train in (None, "characters"):
            raise ValueError("tokenizer.behind belongs to a tokenizer that is trained, and not to characters")
        return self


class Pretraining(Section):
    """A whole recipe. `model` is a Hugging Face configuration (its vocab_size comes from the tokenizer), or
    `{"from": FOLDER}` to go on from a model (`grow` beside it: larger). `vectors`: what a new model's token vectors
    begin as, by chance or by what stands near what. `sizes`: a suite; each changes some keys of `model` (and, under
    `training`, of the training) and reads the same batches in the same order."""

    stage: Literal["pretrain"] = "pretrain"
    card: Card | None = None
    model: dict[str, Any]
    vectors: Literal["drawn", "cooccurrence"] = "drawn"
    sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tokenizer: Vocabulary
    data: Data
    objective: Objective = Objective()
    training: Training
    parallel: Parallel = Parallel()
    prompts: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def new_vectors(self) -> Pretraining:
        if self.vectors != "drawn" and "from" in self.model:
            raise ValueError("vectors are of a new model: one to go on from has its own")
        return self

    @property
    def steps_told(self) -> str:
        """How long it trains, in words."""
        return f"{self.training.steps} steps"

    def of_size(self, name: str) -> Pretraining:
        """The recipe of one size of the suite. Raises UsageError for a size that is not there."""
        if name not in self.sizes:
            hint = did_you_mean(name, self.sizes) or f"one of {', '.join(self.sizes) or 'none: this is no suite'}"
            raise UsageError(f"the recipe has no size {name!r}", fix=hint)
        changes = dict(self.sizes[name])
        training = {**self.training.model_dump(), **changes.pop("training", {})}
        values = {**self.model_dump(), "sizes": {}, "model": {**self.model, **changes}, "training": training}
        return recipe_files.validated(Pretraining, values, f"size {name}")
